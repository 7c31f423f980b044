"""The rate limit of messages and control frames: a bucket of tokens, refilled as time passes."""


cdef struct Bucket:
    double tokens           # left at `counted_at`
    double counted_at       # seconds on the loop's clock


cdef inline bint take(Bucket* bucket, double count, double rate, double burst, double now) noexcept:
    """Take tokens and return whether there were enough; `rate` of them come a second, at most `burst` are kept."""
    bucket.tokens = min(bucket.tokens + (now - bucket.counted_at) * rate, burst) - count
    bucket.counted_at = now
    return bucket.tokens >= 0
