"""The stream of an LLM package, read from its HTTP response in place of the package.

The package would make an object of each event, which costs several times as much as all the rest of a token. Here the
bytes are scanned. The scanner stops before the first event that is no plain text: an error, the end, anything unusual.
Then the package's own stream gets the bytes from there on, and what it makes of them is what the answer gets. So its
errors and its ways to end and to close are its own.

A `Takeover` is the iterator of such a stream and, since only one event is awaited at a time, each event's awaitable. An
event is a list of texts, until the package reads on: then it is the package's.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_Clear, PyErr_ExceptionMatches
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF

from se_server.streams._scan cimport Scanner
from se_server.streams._source cimport Source

from asyncio import get_running_loop
from types import CoroutineType

cdef extern from "Python.h":
    int PYGEN_RETURN
    int PYGEN_NEXT
    int PYGEN_ERROR
    int PyIter_Send(object iterator, object value, PyObject** result)
    ctypedef int (*sendfunc)(object, object, PyObject**) except -1

    ctypedef struct PyAsyncMethods:
        sendfunc am_send

    ctypedef struct PyTypeObject:
        PyAsyncMethods* tp_as_async

# A stream that has given no text so far is kept from its start, for the package to read it all: only the package knows
# what was wrong with it. Long reasoning ends that.
cdef enum:
    MAX_KEPT_BYTES = 256 * 1024

# When a tap may begin, besides after a number of bytes.
cdef enum:
    NEVER = -1
    WHEN_IT_MAY = -2


cdef class Takeover(Source):
    def __cinit__(self, body, int watch):
        self.body = body
        self.ends_empty = body.ends_empty
        self.scanner = Scanner("sse")
        self.scanner.watch = watch
        self.kept = []
        self.ready = []
        self.tap_at = NEVER

    @property
    def is_tapped(self):
        return self.is_tapped

    def __aiter__(self):
        return self

    def __anext__(self):
        if self.is_over and not self.ready and self.failure is None:
            self.gives_texts = False
            return self.rest.__anext__()
        self.gives_texts = True
        return self

    def aclose(self):
        self.is_tapped = False
        self.tap_at = NEVER
        tap, self.tap = self.tap, None
        if tap is not None:
            tap.leave()
        self.stream = None
        rest, self.rest = self.rest, None
        return self.body.close(rest)

    # --- the awaitable of an event -----------------------------------------------------------------------------------

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        return self.send(None)

    def send(self, value):
        cdef PyObject* result = NULL
        cdef int status = self.run(value, &result)
        given = <object>result
        Py_XDECREF(result)
        if status == PYGEN_RETURN:
            raise StopIteration(given)
        return given

    def throw(self, kind, value=None, traceback=None):
        error = kind if value is None else value
        if isinstance(error, type):
            error = error()
        throw = getattr(self.inner, "throw", None)
        if throw is None:
            self.inner = None
            raise error
        try:
            return throw(error)
        except StopIteration as stop:
            self.inner = None
            texts = self.finish_read(stop.value)
        except BaseException as raised:
            self.inner = None
            self.fail(raised)
            texts = []
        raise StopIteration(texts)

    def close(self):
        inner, self.inner = self.inner, None
        close = getattr(inner, "close", None)
        if close is not None:
            close()

    cdef int run(self, object value, PyObject** result) except -1:
        """Advance as a coroutine does. Its result is a list of texts; an empty one where there are none yet."""
        cdef PyObject* given = NULL
        cdef int status
        if self.inner is None and not self.ready and self.failure is None:
            self.begin()
        if self.inner is not None:
            status = PyIter_Send(self.inner, value, &given)
            if status == PYGEN_NEXT:
                result[0] = given
                return PYGEN_NEXT
            self.inner = None
            if status == PYGEN_ERROR:
                if PyErr_ExceptionMatches(StopAsyncIteration):
                    PyErr_Clear()
                    texts = self.finish_read(None)
                else:
                    texts = self.failed()
            else:
                piece = <object>given
                Py_XDECREF(given)
                texts = self.finish_read(piece)
        else:
            texts = self.finish_read(None)
        Py_INCREF(texts)
        result[0] = <PyObject*>texts
        return PYGEN_RETURN

    def failed(self):
        """Take the exception that a C function has left."""
        try:
            reraise()
        except BaseException as error:
            self.fail(error)
        return []

    cdef int begin(self) except -1:
        """Begin to read the next piece, or to wait for the tap."""
        if not self.is_tapped and self.tap_at != NEVER:
            if self.tap_at == WHEN_IT_MAY:
                self.is_tapped = not self.is_over and self.tap.may_begin()
            else:
                self.is_tapped = self.fed == self.tap_at
            if self.is_tapped or self.is_over or 0 <= self.tap_at < self.fed:
                self.tap_at = NEVER
            if self.is_tapped:
                self.tap.begin()
        if self.is_tapped:
            if not self.ready:
                self.loop = get_running_loop()
                self.waiter = self.loop.create_future()
                self.tap.resume()
                self.inner = self.tap.wait(self.waiter)
        elif not self.is_over:
            reading = self.body.read()
            self.inner = reading if type(reading) is CoroutineType else reading.__await__()
        return 0

    cdef list finish_read(self, object piece):
        """The texts of what was read: a piece, none at the end of the body, or what the tap has left."""
        cdef list texts
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure
        if self.is_tapped or self.ready or self.is_over:
            texts, self.ready = self.ready, []
            return texts
        if piece is None or (not piece and self.ends_empty):
            self.end(None, False)
            return []
        if not PyBytes_CheckExact(piece):
            piece = bytes(piece)
        texts = self.take(<const unsigned char*>PyBytes_AS_STRING(piece), PyBytes_GET_SIZE(piece), piece)
        if self.scanner.is_over:
            self.end(None, False)
        return texts

    cdef int fail(self, object error) except -1:
        """Have the package raise an exception of its HTTP client, as it does."""
        if self.is_over or not isinstance(error, Exception):
            raise error
        if self.is_tapped:
            self.tap.fail(error)
            return 0
        return self.end(error, False)

    # --- the body ----------------------------------------------------------------------------------------------------

    cdef list take(self, const unsigned char* data, Py_ssize_t size, bytes piece):
        """Scan a part of the body; return its texts."""
        cdef list texts = self.scanner.read(data, size)
        self.fed += size
        if texts:
            self.has_text = True
        if self.has_text and self.scanner.boundary == self.fed:
            if self.kept:
                self.kept = []
            self.kept_at = self.fed
            return texts
        self.kept.append(PyBytes_FromStringAndSize(<const char*>data, size) if piece is None else piece)
        if self.has_text or self.fed - self.kept_at > MAX_KEPT_BYTES:
            while self.kept and self.kept_at + PyBytes_GET_SIZE(self.kept[0]) <= self.scanner.boundary:
                self.kept_at += PyBytes_GET_SIZE(self.kept.pop(0))
        return texts

    cdef int end(self, object error, bint takes_back) except -1:
        """Give the stream back to its package, from the first event that was no text on.

        Args:
            error: an exception of the HTTP client that the package is to get after the bytes before it.
            takes_back: the last byte is one that the HTTP client still gives.
        """
        cdef bytes rest = b"".join(self.kept)
        if self.has_text or self.kept_at:
            rest = rest[self.scanner.boundary - self.kept_at:]
            if self.stream is not None:
                self.resume(self.stream, self.scanner, self.has_text)
        if takes_back:
            rest = rest[: len(rest) - 1] if rest else rest
        self.kept = []
        self.is_over = True
        self.rest = self.body.give_back(rest, error)
        return 0

    # --- the tap -----------------------------------------------------------------------------------------------------

    def set_tap(self, tap, Py_ssize_t after_bytes):
        """Have the body read by callbacks once so many bytes of it were read; -2: once the tap is ready."""
        self.tap = tap
        self.tap_at = after_bytes

    cdef int receive(self, list texts) except -1:
        """Take texts from the tap: they are sent at once where the task waits for them and nothing else."""
        if self.waiter is not None and not self.ready and self.stream is not None:
            if not self.waiter.done() and self.deliver(self.stream, texts):
                return 0
        self.ready += texts
        return self.wake()

    cdef int tap_ended(self, object error, bint takes_back) except -1:
        """Take note that the tap has given the connection back."""
        if self.is_tapped:
            self.is_tapped = False
            self.end(error, takes_back)
        return self.wake()

    cdef int wake(self) except -1:
        waiter = self.waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
        return 0


cdef int reraise() except -1:
    """Raise the exception that a C function left."""
    return -1


cdef int _takeover_send(object takeover, object value, PyObject** result) except -1:
    return (<Takeover>takeover).run(value, result)


(<PyTypeObject*>Takeover).tp_as_async.am_send = _takeover_send
