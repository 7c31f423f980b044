"""The limits of what a peer may send, and of the work that it makes: buckets of tokens, refilled as time passes."""


cdef struct Bucket:
    double tokens           # left at `counted_at`
    double counted_at       # seconds on the loop's clock


cdef inline bint take(Bucket* bucket, double count, double rate, double burst, double now) noexcept:
    """Take tokens and return whether there were enough; `rate` of them come a second, at most `burst` are kept."""
    bucket.tokens = min(bucket.tokens + (now - bucket.counted_at) * rate, burst) - count
    bucket.counted_at = now
    return bucket.tokens >= 0


cdef enum:
    # Units of work: a byte that is read is one. What they cost besides, of messages, fragments and entries of transcripts.
    MESSAGE_WORK = 512
    ENTRY_WORK = 64
    FRAGMENT_WORK = 128
    # Bytes of an unfinished message that need not be counted.
    FEW_UNFINISHED = 16 * 1024


cdef class Budget:
    cdef Bucket _bucket
    cdef double _rate
    cdef double _burst
    cdef double _patience_s
    cdef double _over_since     # 0: it is not used up
    cdef Bucket _recent         # of the work that is nothing special
    cdef bint is_heavy          # it is empty

    cdef bint note_recent(self, double units, double now)
    cpdef double take(self, double units, double now)


cdef class Unfinished:
    cdef dict _sizes            # by connection, the longest unfinished first
    cdef Py_ssize_t _total
    cdef Py_ssize_t _most

    cdef object note(self, connection, Py_ssize_t size)


cdef Unfinished unfinished_of(loop, Py_ssize_t max_message_bytes)
