"""Outboxes: a session puts messages one by one, and they leave together at the flush.

Between two steps of the event loop no outbox holds anything, so buffers are borrowed from a pool and idle sessions own
none.
"""

from cpython.object cimport PyObject
from cpython.pythread cimport PyThread_get_thread_ident
from cpython.ref cimport Py_INCREF, Py_XDECREF

from se_server.protocol._wire cimport Buffer, agent_response_json
from se_server.streams._sink cimport Sink

import asyncio

from se_server.protocol._wire import encode_pong

cdef enum:
    POOL_SIZE = 24
    # Waiters for room, from which on those that were cancelled are looked for.
    MOST_ROOMS = 64

cdef PyObject* _pool[POOL_SIZE]
cdef int _pooled = 0
cdef Py_ssize_t _borrowed = 0
cdef str _PONG = encode_pong().decode()


cdef Buffer borrow_buffer():
    global _borrowed, _pooled
    cdef Buffer buffer
    _borrowed += 1
    if _pooled:
        _pooled -= 1
        buffer = <Buffer>_pool[_pooled]
        Py_XDECREF(_pool[_pooled])  # the pool's reference
        return buffer
    return Buffer.__new__(Buffer)


cdef void return_buffer(Buffer buffer) noexcept:
    global _borrowed, _pooled
    _borrowed -= 1
    buffer.reset()
    if _pooled < POOL_SIZE:
        Py_INCREF(buffer)
        _pool[_pooled] = <PyObject*>buffer
        _pooled += 1


def buffers_out():
    """Return how many buffers are borrowed: none between two steps of the event loop."""
    return _borrowed


cdef class Outbox(Sink):
    def __cinit__(self):
        self.fd = -1
        self._rooms = None
        self._thread_id = PyThread_get_thread_ident()

    cpdef bint is_here(self):
        """Whether the caller runs in the thread of the outbox, or the outbox has none yet."""
        return PyThread_get_thread_ident() == self._thread_id or self._thread_id == 0

    cpdef belong(self, bint here):
        """Belong to the caller's thread, or to none until the next call."""
        self._thread_id = PyThread_get_thread_ident() if here else 0

    cdef int put_pong(self) except -1:
        raise NotImplementedError

    cdef int write_out(self) except -1:
        return 0

    cdef int give_up(self) except -1:
        return 0

    cpdef send(self, str content, bytes event_id_json, bint is_final, bint more=False):
        """Write one `agent_response`; with `more`, another follows at once and the two leave together."""
        self.put(content, event_id_json, is_final)
        if not more:
            self.flush()

    cpdef send_pong(self):
        """Write one `pong`."""
        self.put_pong()
        self.flush()

    cpdef room(self):
        """Return a future that is done when the outbox is writable again, or closed."""
        room = asyncio.get_running_loop().create_future()
        if self.writable or self.closed:
            room.set_result(None)
        elif self._rooms is None:
            self._rooms = [room]
        else:
            if len(self._rooms) >= MOST_ROOMS:  # those of turns that were superseded
                self._rooms = [each for each in self._rooms if not each.done()]
            self._rooms.append(room)
        return room

    cdef int set_writable(self, bint writable) except -1:
        """Open or shut the outbox; tasks that wait for room go on when it opens."""
        cdef list rooms
        self.writable = writable
        if writable and self._rooms is not None:
            rooms, self._rooms = self._rooms, None
            for room in rooms:
                if not room.done():
                    room.set_result(None)
        return 0


cdef class MessageOutbox(Outbox):
    """For connections of other libraries: messages are `str`, delivered as a list.

    Args:
        deliver: called at each flush with a list of messages and the number of their bytes.
    """

    cdef object _deliver
    cdef list _messages
    cdef Py_ssize_t _pending

    def __init__(self, deliver):
        self._deliver = deliver
        self._messages = []
        self._pending = 0

    cdef int put(self, str content, bytes event_id_json, bint is_final) except -1:
        cdef bytes message
        if not self.closed:
            message = agent_response_json(content, event_id_json, is_final)
            self._pending += len(message)
            self._messages.append(message.decode())
        return 0

    cdef int put_pong(self) except -1:
        if not self.closed and self.writable:  # no more pongs for a peer that pings and never reads
            self._pending += len(_PONG)
            self._messages.append(_PONG)
        return 0

    cdef Py_ssize_t pending(self) noexcept:
        return self._pending

    cpdef int flush(self) except -1:
        cdef list messages = self._messages
        cdef Py_ssize_t size = self._pending
        if messages:
            self._messages = []
            self._pending = 0
            self._deliver(messages, size)
        return 0

    def pause(self):
        """Stop writing: the connection has too many unsent bytes."""
        self.set_writable(False)

    def resume(self):
        """Write again: the connection has room."""
        self.set_writable(True)

    def shut(self):
        """Discard everything from now on."""
        self.closed = True
        self.set_writable(True)
