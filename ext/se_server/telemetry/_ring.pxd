"""A worker's ring of events."""

cimport cython
from libc.stdint cimport int64_t, uint32_t, uint64_t


cdef enum Kind:
    K_BORN = 1
    K_OPENED
    K_NAMED
    K_ARRIVED
    K_TRANSCRIPT
    K_AGAIN
    K_BEGAN
    K_ASKED
    K_EVENT
    K_READY
    K_TEXTS
    K_FILLER
    K_FAILURE
    K_LATE
    K_ENDED
    K_GONE
    K_CLOSED
    K_BLOCKED
    K_CLEARED                             # the worker was reaped; the supervisor writes it
    K_TEXT = 63                           # fifteen bytes of the text of the event before

cdef enum:
    HEAD_WORDS = 16                       # two cache lines: the writer's and the reader's
    W_WRITTEN = 0
    W_READ = 8
    W_LOST = 9
    TEXT_BYTES = 15


@cython.final
cdef class Ring:
    cdef uint64_t* _words
    cdef uint64_t* _events
    cdef uint64_t _written
    cdef uint32_t _conversations
    cdef Py_buffer _buffer

    cdef void put(self, int kind, uint32_t conversation, uint32_t payload, double now_s) noexcept
    cpdef void note(self, int kind, uint32_t conversation, Py_ssize_t payload, double now_s) noexcept
    cpdef uint32_t opened(self, double now_s) noexcept
    cpdef text(self, int kind, uint32_t conversation, str text, double now_s)
    cpdef double transcript(self, uint32_t conversation, event_id, double now_s, int fd) except? -1
