"""The rate limit of messages and control frames, for Python."""


cdef class Rate:
    cdef Bucket _bucket
    cdef double _rate
    cdef double _burst

    def __init__(self, double rate, double burst, double now):
        self._rate = rate
        self._burst = burst
        self._bucket.tokens = burst
        self._bucket.counted_at = now

    def take(self, double now):
        return take(&self._bucket, 1, self._rate, self._burst, now)
