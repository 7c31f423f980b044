"""The fields of the compiled `pace.py`."""

cdef class Pace:
    cdef readonly Py_ssize_t turns
    cdef readonly Py_ssize_t interruptions
    cdef readonly double slowest_s
    # As many as SAMPLE.
    cdef float[64] _times_s
    cdef Py_ssize_t _spoken
    cdef unsigned long long _random
    cpdef add(self, bint interrupted)
    cpdef add_first_chunk(self, double after_s)
