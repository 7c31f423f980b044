"""Drives an answer's stream into messages; flushes when the stream suspends."""

from se_server.conversation._clock cimport Clock
from se_server.protocol._wire cimport Buffer
from se_server.protocol.turns cimport Turn


cdef class Outbox:
    """Where a session writes: messages are put one by one and leave together at the flush."""

    cdef readonly bint closed       # nothing may be written any more
    cdef readonly bint writable     # False while the peer reads too slowly
    cdef list _rooms                # Futures of those who wait until it is writable again; each its own: some are cancelled
    cdef unsigned long _thread_id
    cpdef bint is_here(self)
    cdef int put(self, str content, bytes event_id_json, bint is_final) except -1
    cdef int put_pong(self) except -1
    cdef Py_ssize_t pending(self) noexcept
    cpdef int flush(self) except -1
    cdef int write_out(self) except -1          # what a batch has held
    cdef int give_up(self) except -1            # end the connection: what was said could not be written
    cpdef send(self, str content, bytes event_id_json, bint is_final, bint more=*)
    cpdef send_pong(self)
    cpdef pump(self, iterator, Turn turn, Clock clock)
    cpdef room(self)
    cdef int set_writable(self, bint writable) except -1


cdef Buffer borrow_buffer()
cdef void return_buffer(Buffer buffer) noexcept
