"""The stream of one answer: the owner of opening, iterating and closing it.

    stream = open_stream(response)
    try:
        await stream.pump(outbox, turn, clock)
    finally:
        if not stream.is_over:
            await stream.aclose(timeout_s)

One task does all of it, as the cancel scopes of anyio need. A burst of texts costs one write, and a text that nothing
follows at once is written at once: there is no timer.
"""

cimport cython
from cpython.exc cimport PyErr_Clear, PyErr_ExceptionMatches
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from cpython.unicode cimport PyUnicode_CheckExact

from se_server.protocol.turn cimport Turn
from se_server.streams._delta cimport Reading, is_plain
from se_server.streams._gatherer cimport gatherer_of
from se_server.streams._scan cimport Scanner, Usage
from se_server.streams._shape cimport Shaper, shaper_of
from se_server.streams._sink cimport Sink
from se_server.streams._source cimport Source
from se_server.streams._taping cimport tape_event
from se_server.telemetry._clock cimport Clock
from se_server.telemetry._ring cimport K_ASKED, K_READY
from se_server.telemetry._tape cimport T_STREAM

from asyncio import CancelledError, Future
from functools import partial
from types import AsyncGeneratorType, GeneratorType

from se_server.errors import AnswerTooLong, StreamFailed
from se_server.streams.closing import close_generator
from se_server.streams.driving import Detached, Ending
from se_server.streams.naming import describe_empty, describe_unshaped
from se_server.streams.opening import Opening, is_plain_generator

include "_stream_python.pxi"


cdef enum:
    # A burst of this size is written although the stream has not suspended, and the event loop runs once.
    FLUSH_BYTES = 65536
    # The event loop runs once after this many events without text: a stream that never suspends must not starve others.
    EVENTS_PER_STEP = 1024

cdef enum Wait:
    # The awaitable in progress gives the next event, or it is something else.
    FOR_EVENT
    FOR_ROOM
    FOR_OPENING


cdef inline bint may_begin_raw(Py_UCS4 first) noexcept:
    """Whether an event stream's line or JSON may begin so; blanks and a byte order mark may stand before it."""
    return first in (c"d", c"e", c"i", c"r", c":", c"{", c" ", c"\t", c"\r", c"\n", 0xFEFF)


cdef inline bint is_surely_plain(object text) noexcept:
    """Whether a text in the midst of others is no raw line and no half of a character; `is_plain` looks closer."""
    cdef Py_UCS4 first
    if PyUnicode_GET_LENGTH(text) == 0 or not PyUnicode_IS_ASCII(text):
        return False
    first = PyUnicode_READ_CHAR(text, 0)
    return first != c"d" and first != c"{"


# The code of the generator that was looked at last: a handler's generators share theirs.
cdef object _plain_code = None


cdef bint _is_plain(response) except -1:
    """Whether an async generator is not one of an HTTP response's body."""
    global _plain_code
    code = response.ag_code
    if code is not _plain_code:
        if not is_plain_generator(response):
            return False
        _plain_code = code
    return True


cpdef Stream open_stream(response, double close_s=0.5, bint takeover=True):
    cdef Stream stream = Stream.__new__(Stream)
    stream._close_s = close_s
    stream._is_direct = True
    if type(response) is AsyncGeneratorType and _is_plain(response):
        stream._is_generator = stream._is_untouched = True
        stream._iterator = response
    else:
        stream._opening = Opening(response, takeover)
        if stream._opening.iterator is not None:
            stream._iterate(stream._opening.iterator)
        return stream
    stream._anext = Py_TYPE(stream._iterator).tp_as_async.am_anext
    return stream


@cython.freelist(8)
cdef class Stream:
    def __init__(self, *args, **kwargs):
        raise TypeError("a stream is made by open_stream")

    def read_by(self, *, text=None, nodes=None, bint speak_refusals=True):
        cdef Reading reading
        if self._opening is not None and self._opening.is_race:
            self._opening.options.update(text=text, nodes=nodes, speak_refusals=speak_refusals)
            return
        reading = self._start_reading()
        reading.extractor = text
        if nodes is not None:
            reading.nodes = frozenset((nodes,) if isinstance(nodes, str) else nodes)
        self._mutes_refusals = not speak_refusals
        reading.speaks_refusals = speak_refusals

    cpdef pump(self, Sink sink, Turn turn, Clock clock):
        if self._reading is not None:
            self._reading.turn = turn
        self._sink = sink
        self._turn = turn
        self._clock = clock
        self._is_watched = not turn.chunks and turn.first_event_at == 0.0
        if turn.ring is not None:
            turn.ring.note(K_ASKED, turn.number, 0, clock.now())
            if turn.ring.tape is not None and turn.ring.tape.has_events:
                self._is_recorded = True
                turn.ring.tape.note(T_STREAM, turn.number, turn.event_id_json, clock.now())
        self._chunks_before = turn.chunks
        if self._iterator is None:
            if self._opening.is_race:
                self._opening.turn = turn
                self._opening.clock = clock
                self._opening.close_s = self._close_s
            self._awaited = _awaiting(self._opening.open())
            self._waits = FOR_OPENING
        return self

    cpdef object doubt(self):
        if not self._is_whole:
            return None
        cdef bint is_silent = self._turn.chunks == self._chunks_before, has_text = self._was_shaped or not is_silent
        if self._opening is not None and self._opening.is_race:
            found = self._opening.source.doubt
            return (False, "", describe_empty(self._opening.source, 0)) if found is None and not has_text else found
        if self._was_shaped and (is_silent or self._is_hiding):
            source = self._iterator if self._opening is None else self._opening.source
            return True, "shape", describe_unshaped(source, self._is_hiding)
        if self._reading is not None:
            return self._reading.doubt(has_text)
        if has_text or self._source is not None:
            return None
        return False, "", describe_empty(self._iterator if self._opening is None else self._opening.source, 0)

    def aclose(self, double timeout_s):
        if self._opening is None:
            return close_generator(self._iterator, timeout_s, self._is_lost, self._found)
        error, self._error = self._error, None
        return self._opening.close(
            timeout_s, error=error, is_whole=self._is_whole, is_lost=self._is_lost, found=self._found
        )

    # The protocol of coroutines, by which `await stream.pump(...)` drives it.

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
        cdef bint has_ended
        awaited = self._awaited
        other, self._other = self._other, None
        if other is not None and other.done():
            other = None  # awaited before; uvloop's futures of sockets cannot be cancelled then
        throw = getattr(awaited, "throw", None)
        if throw is None:
            raise error
        try:
            # Only the end of the turn puts a limit on the stream. A package may well cancel its own task and go on:
            # anyio does so with each connection that it makes, asyncio.timeout() and asyncio.TaskGroup do.
            has_ended = self._sink.closed or not self._turn.open
            if has_ended and isinstance(error, CancelledError) and self._waits != FOR_ROOM:
                if self._opening is not None:
                    self._opening.stop()
                # It may take its time to end, but not for ever.
                ending = Ending(awaited, self._close_s, (self._iterator, self._opening))
                self._found = ending.found
                self._awaited = awaited = ending.drive(error, other)
                yielded = next(awaited)
            elif other is not None and isinstance(error, CancelledError) and other.cancel(*error.args[:1]):
                yielded = self._wait_for(other)
            else:
                yielded = self._wakeable(throw(error))
        except StopIteration as stop:
            self._awaited = None
            if self._turn.open:
                self._take(stop.value)
            elif isinstance(error, CancelledError):
                # The stream took the cancellation for itself; the handler is to have it all the same.
                self._fail(error)
                self._flush()
                raise error
            return self._step(None)
        except StopAsyncIteration:
            self._awaited = None
            self._finish_thrown()
            if not self._turn.open and isinstance(error, CancelledError):
                self._flush()
                raise error
            raise StopIteration from None
        except BaseException as raised:
            self._awaited = None
            self._fail(raised)
            self._flush()
            raise
        self._flush()
        return yielded

    def close(self):
        awaited, self._awaited = self._awaited, None
        close = getattr(awaited, "close", None)
        if close is not None:
            close()

    cdef object _wakeable(self, object suspended):
        """Return what a cancellation of the stream's own task wakes.

        A task that awaits another task, or `asyncio.gather`, goes on waiting until that heeds the cancellation.
        """
        if type(suspended) is Future or getattr(suspended, "_asyncio_future_blocking", None) is None:
            return suspended
        suspended._asyncio_future_blocking = False
        return self._wait_for(suspended)

    cdef object _wait_for(self, object other):
        waiter = other.get_loop().create_future()
        other.add_done_callback(partial(_wake, waiter))
        waiter._asyncio_future_blocking = True
        self._other = other
        return waiter

    cdef int _iterate(self, object iterator) except -1:
        self._iterator = iterator
        self._anext = Py_TYPE(iterator).tp_as_async.am_anext
        if isinstance(iterator, Source):
            self._source = <Source>iterator
            self._source.stream = self
            self._source.deliver = deliver
            self._source.resume = resume
        return 0

    cdef int _put_all(self, list texts) except -1:
        for text in texts:
            self._put(text)
        return 0

    cdef bint _deliver(self, list texts) except -1:
        cdef Sink sink = self._sink
        # A turn with a limit may have to end: its task does that.
        if sink.closed or not sink.writable or not self._turn.open or self._turn.bytes_left >= 0:
            return False
        if self._is_watched or self._is_recorded:
            self._note_event(texts)
        self._put_all(texts)
        self._flush()
        return True

    cdef int _resume(self, Scanner scanner, bint has_text) except -1:
        cdef Reading reading = self._start_reading()
        cdef Usage usage = scanner.usage
        reading.is_settled = reading.has_text = has_text
        reading.half = scanner.high_half
        if usage is not None:
            reading.count_usage(usage.input_tokens, usage.output_tokens, False)
        return 0

    cpdef gather(self, double pace_s):
        self._gatherer = gatherer_of(pace_s) if pace_s > 0 else None
        self._is_direct = False

    cpdef shape(self, shape):
        self._shaper = shaper_of(shape)
        if self._shaper is None:
            return
        if self._shaper.plain and self._opening is not None and self._opening.is_race:
            # Only what is left of a text can win; a sentence that has begun can, too.
            self._opening.options["shape"] = "plain"
            self._shaper.plain = False
        if self._shaper.plain or self._shaper.by:
            self._is_direct = False
        else:
            self._shaper = None

    cdef int _end_shape(self) except -1:
        """Put what shaping holds back, now that the text has ended."""
        cdef Shaper shaper = self._shaper
        self._shaper = None
        if shaper is not None and self._turn.open and not self._sink.closed:
            self._is_hiding = shaper.is_hiding()
            for text in shaper.finish():
                self._put_one(text)
        return 0

    cdef int _release(self) except -1:
        """Put the gathered texts as one, unless nobody will hear them."""
        cdef str text
        if self._gatherer is None:
            return 0
        text = self._gatherer.release()
        if text is not None and self._turn.open and not self._sink.closed:
            self._sink.put(text, self._turn.event_id_json, False)
            self._turn.keep(text)
            self._chunks += 1
        return 0

    def _pace_over(self):
        self._release()
        self._flush()

    cdef int _note_texts(self) except -1:
        """Note on the turn what was put since the last time."""
        if self._chunks:
            if self._is_watched:
                self._is_watched = False
                if self._turn.ring is not None:
                    self._turn.ring.note(K_READY, self._turn.number, 0, self._event_at)
            self._turn.note_texts(self._chunks, self._clock.now())
            self._chunks = 0
        return 0

    cdef bint _note_event(self, object event) except -1:
        """Note when an event came, and return whether the next one has to be noted: those up to the first text.

        Without an observer it is only the first event.
        """
        if self._is_recorded and self._waits == FOR_EVENT:
            tape_event(self._turn.ring.tape, self._turn.number, event, self._clock.now())
        if self._is_watched and self._waits == FOR_EVENT and not self._chunks:
            self._event_at = self._clock.now()
            self._turn.note_event(self._event_at)
            self._is_watched = self._turn.ring is not None
        return self._is_recorded or (self._is_watched and not self._chunks)

    cdef int _stopped(self) except -1:
        """Take the exception of the iterator: its end, or an error that passes through."""
        self.is_over = self._is_generator and not self._found
        if PyErr_ExceptionMatches(StopAsyncIteration):
            PyErr_Clear()
            self._is_whole = True
            if self._reading is not None:
                self._take_rest()
            return self._finish()
        return reraise()

    cdef int _finish(self) except -1:
        self._end_shape()
        self._release()
        self._note_texts()
        return PYGEN_RETURN

    cdef int _finish_thrown(self) except -1:
        """Take the end that the iterator came to when an exception was thrown into it."""
        self._is_whole = True
        try:
            if self._reading is not None:
                self._take_rest()
        except BaseException as raised:
            self._fail(raised)
            self._flush()
            raise
        self._end_shape()
        self._release()
        return self._note_texts()

    cdef int _flush(self) except -1:
        self._note_texts()
        return self._sink.flush()

    cdef int _take(self, object event) except -1:
        """Put the text of one event."""
        if self._waits != FOR_EVENT:
            if self._waits == FOR_OPENING:
                self._iterate(event)
            self._waits = FOR_EVENT
            return 0
        cdef str text
        if PyUnicode_CheckExact(event) and self._reading is None and (
            (self._has_texts and is_surely_plain(event)) or self._is_plain(<str>event)
        ):
            text = <str>event
            # As `_put`, here without a call: this is the path of most texts.
            if text and self._turn.bytes_left < 0 and self._is_direct:
                self._sink.put(text, self._turn.event_id_json, False)
                self._turn.keep(text)
                self._chunks += 1
                return 0
        else:
            if self._source is not None and self._source.gives_texts:
                return self._put_all(<list>event)
            if self._reading is None:
                self._start_reading()
            text = self._reading.take(event)
        if text:
            self._put(text)
        if self._reading is not None and self._reading.failure is not None:
            self._raise_failure()
        return 0

    cdef int _put(self, str text) except -1:
        if not self._is_direct:
            return self._put_otherwise(text)
        if self._turn.bytes_left >= 0:
            return self._take_bounded(text)
        self._sink.put(text, self._turn.event_id_json, False)
        self._turn.keep(text)
        self._chunks += 1
        return 0

    cdef int _put_otherwise(self, str text) except -1:
        """Put a text that is shaped or gathered first."""
        if self._shaper is None:
            return self._put_one(text)
        self._was_shaped = True
        text = self._shaper.stripped(text)
        if not self._shaper.by:
            return self._put_one(text) if text else 0
        for text in self._shaper.chunks(text):
            self._put_one(text)
        return 0

    cdef int _put_one(self, str text) except -1:
        if self._turn.bytes_left >= 0:
            return self._take_bounded(text)
        if self._gatherer is not None and self._gatherer.hold(text, self._clock, self):
            return 0
        self._sink.put(text, self._turn.event_id_json, False)
        self._turn.keep(text)
        self._chunks += 1
        return 0

    cdef bint _is_plain(self, str text) except -1:
        """Whether a text is spoken as it is; else the answer gets a `Reading`."""
        cdef Py_ssize_t size = PyUnicode_GET_LENGTH(text)
        cdef Py_ssize_t first_size
        if self._has_texts:
            return is_plain(text)
        if size == 0:
            return True
        if self._first is None:
            if may_begin_raw(PyUnicode_READ_CHAR(text, 0)) or not is_plain(text):
                return False
            self._first = text
            return True
        # A text that repeats the one before may be one that grows.
        first_size = PyUnicode_GET_LENGTH(self._first)
        if size > first_size and PyUnicode_READ_CHAR(text, 0) == PyUnicode_READ_CHAR(self._first, 0):
            if PyUnicode_Tailmatch(text, self._first, 0, size, -1):
                return False
        self._first = None
        self._has_texts = True
        return is_plain(text)

    cdef Reading _start_reading(self):
        if self._reading is None:
            self._reading = Reading.__new__(Reading)
            self._reading.source = self._iterator if self._opening is None else self._opening.source
            self._reading.turn = self._turn
            self._reading.speaks_refusals = not self._mutes_refusals
            self._reading.first, self._first = self._first, None
            self._reading.is_settled = self._has_texts
            self._reading.has_text = self._has_texts or self._reading.first is not None
        return self._reading

    cdef int _take_rest(self) except -1:
        """Put the text that the end of the stream leaves; raise what was wrong with it."""
        cdef str text
        if self._turn.open:
            text = self._reading.finish()
            if text:
                self._put(text)
            if self._reading.failure is not None:
                self._raise_failure()
        return 0

    cdef int _raise_failure(self) except -1:
        failure = self._reading.failure
        raise StreamFailed(failure.message, kind=failure.kind, code=failure.code)

    cdef int _take_bounded(self, str text) except -1:
        """Put what of a text the turn's limit leaves; an answer that is longer ends here."""
        text = self._turn.fit(text)
        if text:
            self._sink.put(text, self._turn.event_id_json, False)
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
        except BaseException as error:
            self._awaited = None
            self._fail(error)
            self._flush()
            raise

    cdef int _fail(self, object error) except -1:
        """Note the exception that ends the stream, for those who close it."""
        if self._shaper is not None and not isinstance(error, AnswerTooLong):
            try:
                self._end_shape()
            except AnswerTooLong:
                pass  # the turn is full, which its end sees
        self._release()
        if isinstance(error, Detached):  # it did not heed its cancellation; the task does
            self._is_lost = True
            self.is_over = False
            raise CancelledError from None
        if self._opening is not None:
            self._error = error
        return 0

    cdef int _advance(self, object value, PyObject** yielded) except -1:
        cdef PyObject* result = NULL
        cdef Sink sink = self._sink
        # The fence. Only the event loop supersedes a turn: until the stream suspends the answer cannot change.
        cdef bint is_open = self._turn.open
        cdef bint is_watched = self._is_watched or self._is_recorded
        cdef int status
        while True:
            if self._awaited is None:
                if sink.closed or not is_open:
                    return self._finish()
                if sink.pending() >= FLUSH_BYTES or self._events >= EVENTS_PER_STEP:
                    self._events = 0
                    self._flush()
                    Py_INCREF(None)
                    yielded[0] = <PyObject*>None  # as asyncio.sleep(0) does: the loop gets a turn
                    return PYGEN_NEXT
                if not sink.writable:
                    self._flush()
                    self._waits = FOR_ROOM
                    self._awaited = _awaiting(sink.room())
                else:
                    if self._is_untouched:
                        self._is_untouched = False
                        result = se_first_anext(self._iterator, self._anext)
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
                if type(suspended) is not Future and suspended is not None:
                    suspended = self._wakeable(suspended)
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
                if is_watched:
                    is_watched = self._note_event(event)
                self._take(event)


def _wake(waiter, _):
    """End the wait for another task."""
    if not waiter.done():
        waiter.set_result(None)


include "_stream_slots.pxi"
