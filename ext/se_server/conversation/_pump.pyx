"""Drives an answer's stream into messages; flushes when the stream suspends.

A burst of chunks costs one write, and a chunk that nothing follows at once waits for nothing: there is no timer. Between
two steps of the event loop no outbox holds anything, so buffers are borrowed from a pool and idle sessions own none.
"""

cimport cython
from cpython.exc cimport PyErr_Clear, PyErr_ExceptionMatches
from cpython.object cimport PyObject
from cpython.pythread cimport PyThread_get_thread_ident
from cpython.ref cimport Py_INCREF, Py_XDECREF

from se_server.conversation._clock cimport Clock
from se_server.streams._delta cimport text_of
from se_server.protocol._wire cimport Buffer, agent_response_json
from se_server.protocol.turns cimport Turn

import asyncio
from types import GeneratorType

from se_server.errors import AnswerTooLong
from se_server.protocol._wire import encode_pong

cdef extern from "Python.h":
    int PYGEN_RETURN
    int PYGEN_NEXT
    int PYGEN_ERROR
    # Errors are looked at by hand: a `try` in the loop would save and restore the exception state for every event.
    int PyIter_Send(object iterator, object value, PyObject** result)

    ctypedef PyObject* (*unaryfunc)(object)

    ctypedef PyObject* (*iternextfunc)(object) except? NULL
    ctypedef int (*sendfunc)(object, object, PyObject**) except -1

    ctypedef struct PyAsyncMethods:
        unaryfunc am_await
        unaryfunc am_anext
        sendfunc am_send

    ctypedef struct PyTypeObject:
        PyAsyncMethods* tp_as_async
        iternextfunc tp_iternext

    PyTypeObject* Py_TYPE(object)

cdef enum:
    # Bytes after which a burst is written although the stream has not suspended, and the loop gets a turn.
    FLUSH_BYTES = 65536
    # Events without text after which the loop gets a turn: a stream that never suspends must not starve the others.
    EVENTS_PER_STEP = 1024
    POOL_SIZE = 24

cdef PyObject* _pool[POOL_SIZE]
cdef int _pooled = 0
cdef Py_ssize_t _borrowed = 0
cdef str _PONG = encode_pong().decode()


cdef Buffer borrow_buffer():
    global _borrowed, _pooled
    _borrowed += 1
    if _pooled:
        _pooled -= 1
        return <Buffer>_owned(_pool[_pooled])
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


cdef class Outbox:
    def __cinit__(self):
        self.closed = False
        self.writable = True
        self._rooms = None
        self._thread_id = PyThread_get_thread_ident()

    cpdef bint is_here(self):
        """Whether the caller runs in the thread of the outbox."""
        return PyThread_get_thread_ident() == self._thread_id

    cdef int put(self, str content, bytes event_id_json, bint is_final) except -1:
        raise NotImplementedError

    cdef int put_pong(self) except -1:
        raise NotImplementedError

    cdef Py_ssize_t pending(self) noexcept:
        return 0

    cpdef int flush(self) except -1:
        return 0

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

    cpdef pump(self, iterator, Turn turn, Clock clock):
        """Return what sends an async iterator's texts as the answer of a turn when it is awaited."""
        cdef PyAsyncMethods* methods = Py_TYPE(iterator).tp_as_async
        if methods is NULL or methods.am_anext is NULL:
            raise TypeError(f"{type(iterator).__name__} is no async iterator")
        cdef Pump pump = Pump.__new__(Pump)
        pump._iterator = iterator
        pump._anext = methods.am_anext
        pump._outbox = self
        pump._turn = turn
        pump._clock = clock
        return pump

    cpdef room(self):
        """Return a future that is done when the outbox is writable again, or closed."""
        room = asyncio.get_running_loop().create_future()
        if self.writable or self.closed:
            room.set_result(None)
        elif self._rooms is None:
            self._rooms = [room]
        else:
            self._rooms.append(room)
        return room

    cdef int set_writable(self, bint writable) except -1:
        """Open or shut the outbox; whoever waits for room goes on when it opens."""
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
        deliver: called with a list of messages at each flush.
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
        if not self.closed and self.writable:  # a peer that pings and never reads gets no more to hold
            self._messages.append(_PONG)
        return 0

    cdef Py_ssize_t pending(self) noexcept:
        return self._pending

    cpdef int flush(self) except -1:
        cdef list messages = self._messages
        if messages:
            self._messages = []
            self._pending = 0
            self._deliver(messages)
        return 0

    def pause(self):
        """The connection holds more unsent bytes than it should."""
        self.set_writable(False)

    def resume(self):
        """The connection takes more."""
        self.set_writable(True)

    def shut(self):
        """Nothing may be written any more."""
        self.closed = True
        self.set_writable(True)


@cython.freelist(8)
cdef class Pump:
    """Send the texts of an async iterator as a turn's answer; await it to run it. `Outbox.pump` makes it.

    It ends when the iterator ends, when the turn is no longer open or when the outbox is closed; an exception of the
    iterator passes through, after the text before it was written, and so does `AnswerTooLong` at the turn's limit. The
    last texts are left in the outbox unflushed, so that the final can leave with them.

    The iterator gives `str` or LLM events. It is not closed here. The turn's id is read at each write, since it may be
    adopted.
    """

    cdef object _iterator
    cdef unaryfunc _anext       # the slot behind the iterator's `__anext__`
    cdef object _awaited        # the iterator of what is awaited now, or None
    cdef bint _waits_for_room
    cdef Outbox _outbox
    cdef Turn _turn
    cdef Clock _clock
    cdef int _events            # since the loop had a turn
    cdef Py_ssize_t _chunks     # since the turn was told

    def __init__(self, *args, **kwargs):
        raise TypeError("a pump is made by Outbox.pump")

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        return self._step(None)

    def send(self, value):
        return self._step(value)

    def throw(self, kind, value=None, traceback=None):
        error = kind if value is None else value
        if isinstance(error, type):
            error = error()
        awaited = self._awaited
        throw = getattr(awaited, "throw", None)
        if throw is None:
            raise error
        try:
            yielded = throw(error)
        except StopIteration as stop:
            self._awaited = None
            if self._turn.open:
                self._take(stop.value)
            return self._step(None)
        except StopAsyncIteration:
            self._awaited = None
            self._tell_turn()
            raise StopIteration from None
        except BaseException:
            self._awaited = None
            self._flush()
            raise
        self._flush()
        return yielded

    def close(self):
        awaited, self._awaited = self._awaited, None
        close = getattr(awaited, "close", None)
        if close is not None:
            close()

    cdef int _tell_turn(self) except -1:
        """Note on the turn what was put since the last time."""
        if self._chunks:
            self._turn.note_texts(self._chunks, self._clock.now())
            self._chunks = 0
        return 0

    cdef int _stopped(self) except -1:
        """The iterator raised: its end, or an error that passes through."""
        if PyErr_ExceptionMatches(StopAsyncIteration):
            PyErr_Clear()
            return self._finish()
        return reraise()

    cdef int _finish(self) except -1:
        self._tell_turn()
        return PYGEN_RETURN

    cdef int _flush(self) except -1:
        self._tell_turn()
        return self._outbox.flush()

    cdef int _take(self, object event) except -1:
        """Put the text of one event."""
        if self._waits_for_room:
            self._waits_for_room = False
            return 0
        cdef str text = text_of(event)
        if text:
            if self._turn.bytes_left >= 0:
                return self._take_bounded(text)
            self._outbox.put(text, self._turn.event_id_json, False)
            self._turn.keep(text)
            self._chunks += 1
        return 0

    cdef int _take_bounded(self, str text) except -1:
        """Put what of a text the turn's limit leaves; an answer that is longer ends here."""
        text = self._turn.fit(text)
        if text:
            self._outbox.put(text, self._turn.event_id_json, False)
            self._turn.keep(text)
            self._chunks += 1
        if self._turn.is_full:
            raise AnswerTooLong()
        return 0

    cdef object _step(self, object value):
        """Advance, as Python's generators do it."""
        cdef PyObject* yielded = NULL
        if self._run(value, &yielded) == PYGEN_RETURN:
            raise StopIteration
        return _owned(yielded)

    cdef int _run(self, object value, PyObject** yielded) except -1:
        """Advance until the stream suspends, and give what it suspends on, or ends; what was put is written then.

        At the end of the stream it is left for the final.
        """
        try:
            return self._advance(value, yielded)
        except BaseException:
            self._awaited = None
            self._flush()
            raise

    cdef int _advance(self, object value, PyObject** yielded) except -1:
        cdef PyObject* result = NULL
        cdef Outbox outbox = self._outbox
        # The fence. Only the event loop supersedes a turn: until the stream suspends the answer cannot change.
        cdef bint is_open = self._turn.open
        cdef int status
        while True:
            if self._awaited is None:
                if outbox.closed or not is_open:
                    return self._finish()
                if outbox.pending() >= FLUSH_BYTES or self._events >= EVENTS_PER_STEP:
                    self._events = 0
                    self._flush()
                    Py_INCREF(None)
                    yielded[0] = <PyObject*>None  # as asyncio.sleep(0) does: the loop gets a turn
                    return PYGEN_NEXT
                if not outbox.writable:
                    self._flush()
                    self._waits_for_room = True
                    self._awaited = _awaiting(outbox.room())
                else:
                    result = self._anext(self._iterator)
                    if result is NULL:
                        return self._stopped()
                    self._awaited = _awaiting(_owned(result))
            status = PyIter_Send(self._awaited, value, &result)
            value = None
            if status == PYGEN_NEXT:
                self._events = 0
                suspended = _owned(result)
                self._flush()
                Py_INCREF(suspended)
                yielded[0] = <PyObject*>suspended
                return PYGEN_NEXT
            self._awaited = None
            if status == PYGEN_ERROR:
                return self._stopped()
            self._events += 1
            event = _owned(result)
            if is_open:
                self._take(event)


# The slots by which coroutines drive the pump. Cython has no name for the one, and would end the other by an exception,
# whose traceback costs as much as all the rest of a short answer.

cdef PyObject* _pump_next(object pump) except? NULL:
    cdef PyObject* yielded = NULL
    (<Pump>pump)._run(None, &yielded)
    return yielded


cdef int _pump_send(object pump, object value, PyObject** result) except -1:
    cdef int status = (<Pump>pump)._run(value, result)
    if status == PYGEN_RETURN:
        Py_INCREF(None)
        result[0] = <PyObject*>None
    return status


(<PyTypeObject*>Pump).tp_iternext = _pump_next
(<PyTypeObject*>Pump).tp_as_async.am_send = _pump_send


cdef int reraise() except -1:
    """Raise the exception that a C function left."""
    return -1


cdef inline object _awaiting(object awaitable):
    """Return the iterator behind an awaitable, as the `await` expression does."""
    cdef PyObject* iterator
    cdef PyAsyncMethods* methods = Py_TYPE(awaitable).tp_as_async
    if methods is not NULL and methods.am_await is not NULL:
        iterator = methods.am_await(awaitable)
        if iterator is NULL:
            reraise()
        return _owned(iterator)
    if isinstance(awaitable, GeneratorType):  # what types.coroutine makes has no __await__
        return awaitable
    raise TypeError(f"the stream's __anext__ gave {type(awaitable).__name__}, which cannot be awaited")


cdef inline object _owned(PyObject* result):
    """Take over the reference that a C function gave."""
    taken = <object>result
    Py_XDECREF(result)
    return taken
