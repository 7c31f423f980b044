"""The parts of a hedge that the compiled stream sees: the sink of each contender, and the winner's texts."""

from se_server.streams._source cimport Source
from se_server.streams._sink cimport Sink

from asyncio import get_running_loop

from se_server.protocol.words import is_spoken

cdef enum:
    # A contender waits once so many characters were not taken: the caller does not read.
    MAX_UNTAKEN = 65536


cdef class Collector(Sink):
    cdef readonly bint has_ended
    cdef readonly object error
    cdef readonly bint is_heard # there is something to speak: blanks and punctuation alone are not heard
    cdef list _texts
    cdef Py_ssize_t _untaken    # characters
    cdef Py_ssize_t _unflushed
    cdef object _reader         # the future of who waits for texts, or None
    cdef object _writer         # the future of who waits for room, or None

    def __cinit__(self):
        self._texts = []

    cdef int put(self, str content, bytes event_id_json, bint is_final) except -1:
        if not self.is_heard:
            self.is_heard = is_spoken(content)
            if self._untaken > MAX_UNTAKEN:
                self._texts.clear()
                self._untaken = 0
        self._texts.append(content)
        self._unflushed += len(content)
        self._untaken += len(content)
        if self.is_heard and self._untaken > MAX_UNTAKEN:
            self.writable = False
        return 0

    cdef Py_ssize_t pending(self) noexcept:
        return self._unflushed

    cpdef int flush(self) except -1:
        self._unflushed = 0
        if self._texts and self.is_heard:
            self._wake()
        return 0

    cpdef room(self):
        self._writer = get_running_loop().create_future()
        return self._writer

    def end(self, error=None):
        self.has_ended = True
        self.error = error
        self._wake()

    def take(self):
        texts, self._texts = self._texts, []
        self._untaken = 0
        self.writable = True
        writer, self._writer = self._writer, None
        if writer is not None and not writer.done():
            writer.set_result(None)
        return texts

    def news(self):
        if self._reader is None or self._reader.done():
            self._reader = get_running_loop().create_future()
            if (self._texts and self.is_heard) or self.has_ended:
                self._reader.set_result(None)
        return self._reader

    cdef int _wake(self) except -1:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)
        return 0


cdef class Texts(Source):
    cdef object _generator

    def __cinit__(self, generator):
        self._generator = generator
        self.gives_texts = True

    def __aiter__(self):
        return self

    def __anext__(self):
        return self._generator.__anext__()

    def aclose(self):
        self.stream = None
        return self._generator.aclose()
