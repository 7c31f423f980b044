"""A worker's tape: messages of its conversations, in memory that the observer reads."""

cimport cython
from libc.stdint cimport uint32_t, uint64_t


cdef enum TapeKind:
    T_BORN = 1
    T_OPEN
    T_IN
    T_OUT
    T_STREAM
    T_EVENT
    T_ERROR
    T_TEXT


@cython.final
cdef class Tape:
    cdef uint64_t* _words
    cdef char* _data
    cdef uint64_t _capacity
    cdef uint64_t _at
    cdef Py_buffer _buffer
    cdef readonly bint has_events

    cdef bint begin(self, int kind, uint32_t conversation, Py_ssize_t size, double now_s) noexcept
    cdef void add(self, const char* data, Py_ssize_t size) noexcept
    cdef void end(self) noexcept
    cdef uint64_t epoch(self) noexcept
    cdef bint put(self, int kind, uint32_t conversation, const char* data, Py_ssize_t size, double now_s) noexcept
    cpdef bint note(self, int kind, uint32_t conversation, bytes data, double now_s) noexcept
