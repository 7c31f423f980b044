"""A worker's tape: messages of its conversations, in memory that the observer reads. One writer, one reader, no lock.

A record is 16 bytes of head (microseconds and kind; conversation and size) and its bytes, padded to eight. A tape that the
reader has left full takes nothing more: what does not fit is counted, and the writer never waits.
"""

cimport cython
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t
from libc.string cimport memcpy

cdef extern from *:
    """
    #define se_tape_store(cell, value) __atomic_store_n((cell), (value), __ATOMIC_RELEASE)
    #define se_tape_load(cell) __atomic_load_n((cell), __ATOMIC_ACQUIRE)
    """
    void se_tape_store(uint64_t* cell, uint64_t value) nogil
    uint64_t se_tape_load(uint64_t* cell) nogil

cdef enum:
    # Each word has a cache line of its own: the first is the writer's, the second the reader's.
    W_WRITTEN = 0
    W_READ = 8
    W_LOST = 16
    W_PID = 9                                   # of the worker whose records are read
    W_EPOCH = 24                                # grows with each reader, which knows nothing of what was before it
    HEAD = 32 * 8
    RECORD_HEAD = 16

HEAD_BYTES = int(HEAD)
BORN, OPEN, IN, OUT, STREAM, EVENT, ERROR, TEXT = (
    int(T_BORN), int(T_OPEN), int(T_IN), int(T_OUT), int(T_STREAM), int(T_EVENT), int(T_ERROR), int(T_TEXT)
)


cdef inline Py_ssize_t padded(Py_ssize_t size) noexcept nogil:
    return (size + 7) & ~<Py_ssize_t>7


@cython.final
cdef class Tape:
    def __cinit__(self, memory, int pid=0, double now_s=0.0, bint has_events=False):
        PyObject_GetBuffer(memory, &self._buffer, PyBUF_WRITABLE)
        if self._buffer.len < HEAD + 1024 or self._buffer.len % 8:
            raise ValueError("a tape needs memory of some KiB, in whole words")
        self._words = <uint64_t*> self._buffer.buf
        self._data = <char*> self._buffer.buf + HEAD
        self._capacity = self._buffer.len - HEAD
        self._at = self._words[<int> W_WRITTEN]  # another worker may have used the memory before
        self.has_events = has_events
        self.put(T_BORN, <uint32_t> pid, NULL, 0, now_s)

    def __dealloc__(self):
        if self._words is not NULL:
            PyBuffer_Release(&self._buffer)

    cdef bint begin(self, int kind, uint32_t conversation, Py_ssize_t size, double now_s) noexcept:
        """Begin a record of `size` bytes, if it fits."""
        cdef uint64_t[2] head
        cdef uint64_t used = self._at - se_tape_load(self._words + <int> W_READ)
        if <uint64_t> (padded(size) + <Py_ssize_t> RECORD_HEAD) > self._capacity - used or size > 0x7FFFFFFF:
            self._words[<int> W_LOST] += 1
            return False
        head[0] = (<uint64_t> <int64_t> (now_s * 1e6) << 8) | <uint64_t> kind
        head[1] = (<uint64_t> size << 32) | conversation
        self.add(<const char*> head, RECORD_HEAD)
        return True

    cdef void add(self, const char* data, Py_ssize_t size) noexcept:
        """Add bytes to the record that was begun."""
        cdef Py_ssize_t at = <Py_ssize_t> (self._at % self._capacity)
        cdef Py_ssize_t first = min(size, <Py_ssize_t> self._capacity - at)
        memcpy(self._data + at, data, first)
        memcpy(self._data, data + first, size - first)
        self._at += size

    cdef void end(self) noexcept:
        """End the record, which the reader sees from now on."""
        self._at = <uint64_t> padded(<Py_ssize_t> self._at)
        se_tape_store(self._words + <int> W_WRITTEN, self._at)

    cdef uint64_t epoch(self) noexcept:
        """Return the number of readers so far."""
        return se_tape_load(self._words + <int> W_EPOCH)

    cdef bint put(self, int kind, uint32_t conversation, const char* data, Py_ssize_t size, double now_s) noexcept:
        if not self.begin(kind, conversation, size, now_s):
            return False
        self.add(data, size)
        self.end()
        return True

    cpdef bint note(self, int kind, uint32_t conversation, bytes data, double now_s) noexcept:
        return self.put(kind, conversation, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), now_s)


def begin_reading(memory):
    """Note in a tape that it has a new reader."""
    cdef Py_buffer buffer
    PyObject_GetBuffer(memory, &buffer, PyBUF_WRITABLE)
    cdef uint64_t* words = <uint64_t*> buffer.buf
    se_tape_store(words + <int> W_EPOCH, words[<int> W_EPOCH] + 1)
    PyBuffer_Release(&buffer)


def read_tape(memory):
    """Return the new records of a tape, as `(pid, kind, conversation, microseconds, bytes)`, and make room for others."""
    cdef Py_buffer buffer
    cdef uint64_t written, done
    cdef uint64_t* words
    cdef uint64_t capacity, first, second
    cdef Py_ssize_t count, at, size, start, head
    cdef uint32_t pid
    cdef bytes copied
    cdef char* data
    found = []
    PyObject_GetBuffer(memory, &buffer, PyBUF_WRITABLE)
    try:
        words = <uint64_t*> buffer.buf
        capacity = buffer.len - HEAD
        written = se_tape_load(words + <int> W_WRITTEN)
        done = words[<int> W_READ]
        pid = <uint32_t> words[<int> W_PID]
        count = <Py_ssize_t> (written - done)
        if count <= 0 or count > <Py_ssize_t> capacity:
            se_tape_store(words + <int> W_READ, written)
            return found
        copied = PyBytes_FromStringAndSize(NULL, count)
        start = <Py_ssize_t> (done % capacity)
        head = min(count, <Py_ssize_t> capacity - start)
        data = PyBytes_AS_STRING(copied)
        memcpy(data, <char*> buffer.buf + HEAD + start, head)
        memcpy(data + head, <char*> buffer.buf + HEAD, count - head)
        se_tape_store(words + <int> W_READ, written)
        at = 0
        while at + RECORD_HEAD <= count:
            memcpy(&first, data + at, 8)
            memcpy(&second, data + at + 8, 8)
            at += RECORD_HEAD
            size = <Py_ssize_t> (second >> 32)
            if size > count - at:
                break
            if (first & 0xFF) == T_BORN:
                pid = <uint32_t> second
                words[<int> W_PID] = pid
            else:
                found.append((pid, <int> (first & 0xFF), <uint32_t> second, <int64_t> (first >> 8), data[at:at + size]))
            at += padded(size)
    finally:
        PyBuffer_Release(&buffer)
    return found


def lost_records(memory):
    """Return how many records did not fit into a tape."""
    cdef Py_buffer buffer
    PyObject_GetBuffer(memory, &buffer, PyBUF_WRITABLE)
    try:
        return (<uint64_t*> buffer.buf)[<int> W_LOST]
    finally:
        PyBuffer_Release(&buffer)
