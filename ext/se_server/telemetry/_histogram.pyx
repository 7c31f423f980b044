"""Durations, counted in the buckets of HdrHistogram: 1 microsecond to 1 hour, each to three significant digits.

A bucket is the top eleven bits of a duration and the number of bits below them, so that recording is a shift and an
increment, and a histogram is as small for a million durations as for one. It may lie in memory that processes share: one
writes, others copy; a copy taken meanwhile lacks a duration or two.
"""

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.string cimport memcpy, memset

cdef extern from *:
    """
    #define se_bits(value) (64 - __builtin_clzll((unsigned long long)(value)))
    """
    int se_bits(int64_t value) nogil

cdef enum:
    PRECISE_BITS = 11                          # 2,048 steps tell three digits apart
    HALF = 1024                                # of the steps: those that the next smaller unit does not have
    UNITS = 23                                 # an hour has 32 bits of microseconds
    BUCKETS = UNITS * HALF
    C_MAX = 0
    C_SUM = 1
    C_COUNTS = 2
    CELLS = C_COUNTS + BUCKETS

cdef int64_t MAX_US = 3_600_000_000

HISTOGRAM_BYTES = CELLS * sizeof(int64_t)


cdef inline Py_ssize_t bucket_of(int64_t value_us) noexcept nogil:
    cdef int shift = se_bits(value_us | (2 * HALF - 1)) - PRECISE_BITS
    return shift * HALF + (value_us >> shift)


cdef inline int64_t top_of(Py_ssize_t bucket) noexcept nogil:
    """The largest duration that falls into a bucket."""
    cdef int shift = 0 if bucket < 2 * HALF else <int> (bucket // HALF) - 1
    return ((bucket - shift * HALF + 1) << shift) - 1


cdef class Histogram:
    def __cinit__(self, memory=None):
        if memory is None:
            self._cells = <int64_t*> PyMem_Calloc(CELLS, sizeof(int64_t))
            if self._cells == NULL:
                raise MemoryError()
            return
        PyObject_GetBuffer(memory, &self._buffer, PyBUF_WRITABLE)
        self._is_view = True
        self._cells = <int64_t*> self._buffer.buf
        if self._buffer.len < <Py_ssize_t> HISTOGRAM_BYTES:
            raise ValueError(f"a histogram needs {HISTOGRAM_BYTES} bytes of memory")

    def __dealloc__(self):
        if self._is_view:
            PyBuffer_Release(&self._buffer)
        else:
            PyMem_Free(self._cells)

    cdef void record_ns(self, int64_t duration_ns) noexcept:
        cdef int64_t value_us = min(max(duration_ns // 1000, 0), MAX_US)
        self._cells[C_COUNTS + bucket_of(value_us)] += 1
        self._cells[C_SUM] += value_us
        if value_us > self._cells[C_MAX]:
            self._cells[C_MAX] = value_us

    def record(self, double duration_s):
        self.record_ns(<int64_t> (min(max(duration_s, 0.0), 3600.0) * 1e9 + 0.5))

    def merge(self, Histogram other not None):
        cdef Py_ssize_t place
        self._cells[C_MAX] = max(self._cells[C_MAX], other._cells[C_MAX])
        for place in range(C_SUM, CELLS):
            self._cells[place] += other._cells[place]

    def copy(self):
        cdef Histogram made = Histogram()
        memcpy(made._cells, self._cells, CELLS * sizeof(int64_t))
        return made

    def since(self, Histogram before not None):
        cdef Histogram made = self.copy()
        cdef Py_ssize_t place, last = -1
        made._cells[C_SUM] -= before._cells[C_SUM]
        for place in range(BUCKETS):
            made._cells[C_COUNTS + place] -= before._cells[C_COUNTS + place]
            if made._cells[C_COUNTS + place] > 0:
                last = place
        made._cells[C_MAX] = 0 if last < 0 else min(top_of(last), self._cells[C_MAX])
        return made

    def clear(self):
        memset(self._cells, 0, CELLS * sizeof(int64_t))

    @property
    def count(self):
        cdef int64_t total = 0
        cdef Py_ssize_t place
        for place in range(C_COUNTS, CELLS):
            total += self._cells[place]
        return total

    @property
    def max_s(self):
        return self._cells[C_MAX] / 1e6

    @property
    def mean_s(self):
        cdef int64_t count = self.count
        return self._cells[C_SUM] / 1e6 / count if count else 0.0

    def percentile(self, double percent):
        if not 0.0 <= percent <= 100.0:
            raise ValueError(f"a percentile is 0 to 100, not {percent}")
        cdef int64_t count = self.count
        # The smallest duration that this share of all does not exceed; a hair less, for what 0.999 lacks in binary.
        cdef int64_t wanted = max(1, <int64_t> (percent / 100.0 * count + 1.0 - 1e-9))
        cdef Py_ssize_t place
        for place in range(BUCKETS):
            wanted -= self._cells[C_COUNTS + place]
            if wanted <= 0:
                return min(top_of(place), self._cells[C_MAX]) / 1e6
        return self.max_s

    def buckets(self):
        cdef Py_ssize_t place
        return [
            (min(top_of(place), self._cells[C_MAX]) / 1e6, self._cells[C_COUNTS + place])
            for place in range(BUCKETS)
            if self._cells[C_COUNTS + place]
        ]

    def to_dict(self):
        cdef Py_ssize_t place
        counts = [
            [place, self._cells[C_COUNTS + place]] for place in range(BUCKETS) if self._cells[C_COUNTS + place]
        ]
        return {"max_us": self._cells[C_MAX], "sum_us": self._cells[C_SUM], "counts": counts}

    @staticmethod
    def from_dict(values):
        cdef Histogram made = Histogram()
        made.__setstate__(values)
        return made

    def __reduce__(self):
        return Histogram, (), self.to_dict()

    def __setstate__(self, values):
        cdef Py_ssize_t bucket
        self.clear()
        self._cells[C_MAX] = values["max_us"]
        self._cells[C_SUM] = values["sum_us"]
        for bucket, count in values["counts"]:
            if not 0 <= bucket < BUCKETS:
                raise ValueError(f"a histogram has no bucket {bucket}")
            self._cells[C_COUNTS + bucket] = count

    def __eq__(self, other):
        return isinstance(other, Histogram) and self.to_dict() == other.to_dict()

    def __repr__(self):
        return f"<Histogram count={self.count} p50={self.percentile(50):.6f} p99={self.percentile(99):.6f} max={self.max_s:.6f}>"
