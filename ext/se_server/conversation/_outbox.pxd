"""Outboxes: a session puts messages one by one, and they leave together at the flush."""

from se_server.protocol._wire cimport Buffer
from se_server.streams._sink cimport Sink


cdef class Outbox(Sink):
    """The writing side of a session; subclasses know the messages of their connection."""

    cdef readonly int fd            # of the socket, if it may be written to; else -1
    cdef list _rooms                # a future for each waiter, since a waiter may be cancelled
    cdef unsigned long _thread_id   # 0: of no thread yet
    cpdef bint is_here(self)
    cpdef belong(self, bint here)
    cdef int put_pong(self) except -1
    cdef int write_out(self) except -1          # write what a batch has held
    cdef int give_up(self) except -1            # end the connection: an answer could not be written
    cpdef send(self, str content, bytes event_id_json, bint is_final, bint more=*)
    cpdef send_pong(self)
    cdef int set_writable(self, bint writable) except -1


cdef Buffer borrow_buffer()
cdef void return_buffer(Buffer buffer) noexcept
