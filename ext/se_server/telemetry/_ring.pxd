"""A worker's ring of events."""

cimport cython
from libc.stdint cimport int64_t, uint32_t, uint64_t
from se_server.telemetry._tape cimport Tape


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
    K_SAID                                # characters of the user's last words, then their hash as text
    K_SPOKEN                              # characters of an answer, then their hash as text
    K_ERROR                               # the class of an exception of user code
    K_API_ERROR                           # the API has sent an error
    K_SPAN                                # the ids of the turn's span
    K_TEXT = 63                           # fifteen bytes of the text of the event before

cdef enum:
    HEAD_WORDS = 16                       # two cache lines: the writer's and the reader's
    W_WRITTEN = 0
    W_READ = 8
    W_LOST = 9
    W_CLAIMED = 10                        # events up to here have an observer that exports their turns
    TEXT_BYTES = 15


@cython.final
cdef class Ring:
    cdef uint64_t* _words
    cdef uint64_t* _events
    cdef uint64_t _written
    cdef uint32_t _conversations
    cdef double _prompt_s                   # when data was read that had not waited
    cdef Py_buffer _buffer
    cdef readonly Tape tape                 # None where no texts are recorded
    cdef public object tracer               # begins the spans of turns; None without traces
    cdef readonly bint has_shapes           # lengths and hashes of texts are written
    cdef uint64_t[2] _key

    cdef void doubt(self) noexcept
    cdef void put(self, int kind, uint32_t conversation, uint32_t payload, double now_s) noexcept
    cpdef void note(self, int kind, uint32_t conversation, Py_ssize_t payload, double now_s) noexcept
    cpdef uint32_t opened(self, double now_s) noexcept
    cpdef text(self, int kind, uint32_t conversation, str text, double now_s)
    cpdef double transcript(self, uint32_t conversation, event_id, double now_s, int fd) except? -1
    cpdef said(self, uint32_t conversation, str text, double now_s)
    cpdef spoken(self, uint32_t conversation, list texts, Py_ssize_t characters, double now_s)
    cdef void put_hashed(self, int kind, uint32_t conversation, Py_ssize_t count, double now_s, uint64_t hashed) noexcept
