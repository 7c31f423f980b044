"""The clock of the times of turns."""

cimport cython


@cython.final
cdef class Clock:
    cdef object _source
    cpdef double now(self) except? -1


cpdef Clock clock_of(object source)
