"""Durations, counted in log-linear buckets."""

from libc.stdint cimport int64_t


cdef class Histogram:
    cdef int64_t* _cells                  # the largest and the sum, in microseconds; then the counts
    cdef Py_buffer _buffer                # somebody else's memory, if `_is_view`
    cdef bint _is_view

    cdef void record_ns(self, int64_t duration_ns) noexcept
