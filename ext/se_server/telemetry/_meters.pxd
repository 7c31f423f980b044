"""The figures that metrics show."""

cimport cython
from libc.stdint cimport int64_t


cdef enum Count:
    C_CONVERSATIONS
    C_TURNS
    C_ANSWERED
    C_INTERRUPTED
    C_SUPERSEDED
    C_FAILED
    C_TIMED_OUT
    C_EMPTY
    C_CLOSED
    C_SILENT
    C_WASTED_BY_INTERRUPTION
    C_WASTED_BY_END
    C_INPUT_TOKENS
    C_OUTPUT_TOKENS
    C_STRAYS_ENDED
    C_COUNTS = 16                         # two cache lines


cdef enum Distribution:
    D_FIRST_TEXT
    D_FIRST_FILLER
    D_HANDLER_WAIT
    D_PROVIDER
    D_THINKING
    D_LONGEST_GAP
    D_TURN
    D_YIELD
    D_CONVERSATION
    D_CONVERSATION_TURNS
    D_HANDSHAKE
    D_DISTRIBUTIONS


@cython.final
cdef class Meters:
    cdef int64_t* _cells
    cdef Py_buffer _buffer                # somebody else's memory, if `_is_view`
    cdef bint _is_view

    cdef void add(self, Count place, int64_t amount) noexcept
    cpdef void conversation_began(self) noexcept
    cdef int count_close(self, str cause, code) except -1
    cdef void record_s(self, Distribution place, double value) noexcept
    cpdef void turn_began(self) noexcept
    cpdef void turn_ended(self, int outcome, double duration_s, Py_ssize_t sent) noexcept
    cpdef void first_text(
        self, bint is_filler, double after_s, double wait_s, double provider_s, double thinking_s
    ) noexcept
    cpdef void gap(self, double longest_s) noexcept
    cpdef void yielded(self, double after_s) noexcept
    cpdef void stray_ended(self) noexcept
    cpdef tokens(self, given, made)
