"""The fields of the compiled `pace.py`."""

cimport cython


cdef class Pace:
    cdef readonly Py_ssize_t turns
    cdef readonly Py_ssize_t interruptions
    cdef readonly double slowest_s
    # As many as SAMPLE.
    cdef float[64] _times_s
    cdef Py_ssize_t _spoken
    cdef Py_ssize_t _random
    cpdef add(self, bint interrupted)
    @cython.locals(place=Py_ssize_t, size=Py_ssize_t)
    cpdef add_first_chunk(self, double after_s)
