"""A worker's ring of events, in memory that the observer reads: one writer, one reader, no lock.

An event is two words: microseconds and kind in the first, conversation and payload in the second. The writer never waits
and never looks at the reader: a full ring overwrites its oldest events, and the reader counts the ones it has missed. A
killed worker leaves a ring that is whole up to its last event, because the count is written after the event.
"""

cimport cython
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.unicode cimport PyUnicode_DATA
from libc.string cimport memcpy, memset

cdef extern from *:
    """
    #define se_ring_publish(cell, value) __atomic_store_n((cell), (value), __ATOMIC_RELEASE)

    #if defined(__linux__)
    #include <netinet/in.h>
    #include <netinet/tcp.h>
    #include <sys/socket.h>

    /* The kernel counts this time in ticks of its clock, and rounds up by one. */
    #define SE_TICK_MS 4

    /* Milliseconds since the kernel has received the last data of a TCP connection; 0 if it does not tell. */
    static unsigned int se_waited_ms(int fd) {
        struct tcp_info info;
        socklen_t size = sizeof(info);
        if (fd < 0 || getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0)
            return 0;
        return info.tcpi_last_data_recv > SE_TICK_MS ? info.tcpi_last_data_recv - SE_TICK_MS : 0;
    }
    #else
    static unsigned int se_waited_ms(int fd) { return 0; }
    #endif
    """
    void se_ring_publish(uint64_t* cell, uint64_t value) nogil
    unsigned int se_waited_ms(int fd) nogil

cdef extern from "Python.h":
    bint PyUnicode_IS_ASCII(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)

include "_ring_hash.pxi"

cdef double TICK_S = 0.004                      # SE_TICK_MS

cdef enum:
    C_EVENTS = 65_536
    MAX_TEXT_BYTES = 150                        # ten units


def waited_s(int fd):
    return se_waited_ms(fd) / 1e3


EVENTS = int(C_EVENTS)
RING_BYTES = (<int> HEAD_WORDS + 2 * <int> C_EVENTS) * 8
NO_ID = 0xFFFFFFFF

KINDS = {
    int(K_BORN): "worker", int(K_OPENED): "opened", int(K_NAMED): "init", int(K_ARRIVED): "arrived",
    int(K_TRANSCRIPT): "transcript", int(K_AGAIN): "transcript again", int(K_BEGAN): "handler begins",
    int(K_ASKED): "stream opened", int(K_EVENT): "first event", int(K_READY): "first text", int(K_TEXTS): "texts sent",
    int(K_FILLER): "filler sent", int(K_FAILURE): "failure text sent", int(K_LATE): "late text dropped",
    int(K_ENDED): "turn ended", int(K_GONE): "handler gone", int(K_CLOSED): "closed", int(K_BLOCKED): "event loop blocked",
    int(K_CLEARED): "worker gone", int(K_SAID): "user said", int(K_SPOKEN): "answer", int(K_ERROR): "error",
    int(K_API_ERROR): "API error", int(K_SPAN): "span",
}
NAMED, BEGAN, ASKED, EVENT, READY, TEXTS, FILLER, FAILURE, LATE, ENDED, GONE, CLOSED, AGAIN, BLOCKED, ERROR, API_ERROR, SPAN = (
    int(K_NAMED), int(K_BEGAN), int(K_ASKED), int(K_EVENT), int(K_READY), int(K_TEXTS), int(K_FILLER), int(K_FAILURE),
    int(K_LATE), int(K_ENDED), int(K_GONE), int(K_CLOSED), int(K_AGAIN), int(K_BLOCKED), int(K_ERROR), int(K_API_ERROR),
    int(K_SPAN),
)


def clear(memory, double now_s):
    """Note in a ring that its worker was reaped."""
    Ring(memory, -1, now_s)


@cython.final
cdef class Ring:
    def __cinit__(self, memory, int pid=0, double now_s=0.0, bytes key=None, Tape tape=None):
        PyObject_GetBuffer(memory, &self._buffer, PyBUF_WRITABLE)
        self._words = <uint64_t*> self._buffer.buf
        if self._buffer.len < RING_BYTES:
            raise ValueError(f"a ring needs {RING_BYTES} bytes of memory")
        self._events = self._words + <int> HEAD_WORDS
        self.tape = tape
        if key is not None:
            self.has_shapes = True
            memcpy(self._key, <const char*> key, 16)
        # Another worker has used the memory before: the reader may not have read its last events.
        self._written = self._words[<int> W_WRITTEN]
        if pid >= 0:
            self.put(K_BORN, 0, pid, now_s)
        else:
            self.put(K_CLEARED, 0, 0, now_s)

    def __dealloc__(self):
        if self._words is not NULL:
            PyBuffer_Release(&self._buffer)

    cdef void put(self, int kind, uint32_t conversation, uint32_t payload, double now_s) noexcept:
        cdef uint64_t* event = self._events + 2 * (self._written & (C_EVENTS - 1))
        event[0] = (<uint64_t> <int64_t> (now_s * 1e6) << 8) | <uint64_t> kind
        event[1] = (<uint64_t> payload << 32) | conversation
        self._written += 1
        se_ring_publish(self._words + <int> W_WRITTEN, self._written)

    cpdef void note(self, int kind, uint32_t conversation, Py_ssize_t payload, double now_s) noexcept:
        self.put(kind, conversation, <uint32_t> payload, now_s)

    cpdef uint32_t opened(self, double now_s) noexcept:
        self._conversations += 1
        self.put(K_OPENED, self._conversations, 0, now_s)
        return self._conversations

    cpdef text(self, int kind, uint32_t conversation, str text, double now_s):
        cdef bytes data = text[:MAX_TEXT_BYTES].encode("utf-8", "backslashreplace")[:MAX_TEXT_BYTES]
        cdef Py_ssize_t at, size = len(data)
        cdef char* event
        self.put(kind, conversation, <uint32_t> size, now_s)
        for at in range(0, size, TEXT_BYTES):
            event = <char*> (self._events + 2 * (self._written & (C_EVENTS - 1)))
            memset(event, 0, 16)
            event[0] = <char> K_TEXT
            memcpy(event + 1, <const char*> data + at, min(<Py_ssize_t> TEXT_BYTES, size - at))
            self._written += 1
        se_ring_publish(self._words + <int> W_WRITTEN, self._written)

    cpdef double transcript(self, uint32_t conversation, event_id, double now_s, int fd) except? -1:
        cdef uint32_t shown = 0xFFFFFFFF
        cdef unsigned int waited_ms = 0
        # To ask the kernel costs a microsecond. Data is read in the order in which it came: what is read soon after data
        # that had not waited has not waited, either.
        if not 0.0 <= now_s - self._prompt_s < TICK_S:
            waited_ms = se_waited_ms(fd)
            if not waited_ms and fd >= 0:
                self._prompt_s = now_s
        if type(event_id) is int and 0 <= event_id < 0xFFFFFFFF:
            shown = event_id
        if waited_ms:
            self.put(K_ARRIVED, conversation, waited_ms, now_s - waited_ms / 1e3)
        self.put(K_TRANSCRIPT, conversation, shown, now_s)
        return waited_ms / 1e3

    cdef void doubt(self) noexcept:
        """The next transcript was read before others that came after it."""
        self._prompt_s = -1.0

    cpdef said(self, uint32_t conversation, str text, double now_s):
        cdef Py_ssize_t characters = 0 if text is None else len(text)
        self.put_hashed(K_SAID, conversation, characters, now_s, hash_of(self._key, text))

    cpdef spoken(self, uint32_t conversation, list texts, Py_ssize_t characters, double now_s):
        self.put_hashed(K_SPOKEN, conversation, characters, now_s, hash_of_all(self._key, texts))

    cdef void put_hashed(self, int kind, uint32_t conversation, Py_ssize_t count, double now_s, uint64_t hashed) noexcept:
        """Put an event whose payload is a count, and a text of fifteen hexadecimal digits behind it."""
        cdef char* event
        cdef int at
        self.put(kind, conversation, <uint32_t> count, now_s)
        event = <char*> (self._events + 2 * (self._written & (C_EVENTS - 1)))
        event[0] = <char> K_TEXT
        for at in range(15):
            event[15 - at] = HEXADECIMAL[hashed & 15]
            hashed >>= 4
        self._written += 1
        se_ring_publish(self._words + <int> W_WRITTEN, self._written)
