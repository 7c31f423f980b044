"""Decisions over the shared memory of all workers: which worker has the least load, and whether a seat is free.

Seats need no lock and no shared counter, so a process killed at any moment leaves nothing inconsistent. A worker writes
its claim into its own line, then adds up the claims of all workers, and withdraws its own if the sum exceeds the limit.
Both steps are sequentially consistent: of all claims that stand, the one written last has seen the others, so that
their sum never exceeds the limit. The seats of a dead worker are free when its line is cleared.
"""

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int64_t


cdef extern from *:
    """
    #define se_load(cell) __atomic_load_n((cell), __ATOMIC_SEQ_CST)
    #define se_store(cell, value) __atomic_store_n((cell), (value), __ATOMIC_SEQ_CST)
    """
    int64_t se_load(int64_t *cell) nogil
    void se_store(int64_t *cell, int64_t value) nogil


LINE_BYTES = 64

# Cells of a slot; scoreboard.py has the others.
STATE = 2
HEARTBEAT = 4
IN_USE = 3  # first slot only, the supervisor's
ACCEPTING = 8
LOAD = 9
cdef enum:
    C_HEARTBEAT = 4
    C_IN_USE = 3
    C_ACCEPTING = 8
    C_LOAD = 9
    TRIES = 64
    MAX_SEATS = 1 << 24  # of one worker
    LINE = 8  # cells
    # Cells of a worker's line of seats; the first line of a block has the number of lines in use.
    CLAIMED = 0
    HELD = 1


cdef class Board:
    cdef Py_buffer _buffer
    cdef int64_t *_cells
    cdef Py_ssize_t _width
    cdef Py_ssize_t _slots

    def __cinit__(self, memory, Py_ssize_t width):
        PyObject_GetBuffer(memory, &self._buffer, PyBUF_WRITABLE)
        self._cells = <int64_t *> self._buffer.buf
        self._width = width
        self._slots = self._buffer.len // (width * <Py_ssize_t> sizeof(int64_t)) - 1
        if width <= C_LOAD or self._slots < 1:
            PyBuffer_Release(&self._buffer)
            raise ValueError("too little memory for a scoreboard")

    def __dealloc__(self):
        if self._cells is not NULL:
            PyBuffer_Release(&self._buffer)

    cdef int64_t *_slot(self, Py_ssize_t index) except NULL:
        if index < 0 or index >= self._slots:
            raise IndexError("no such slot")
        return self._cells + (index + 1) * self._width

    cdef Py_ssize_t _in_use(self) noexcept:
        return max(0, min(se_load(self._cells + C_IN_USE), self._slots))

    def count(self, Py_ssize_t place, int64_t value):
        cdef Py_ssize_t index, found = 0
        if place < 0 or place >= self._width:
            raise IndexError("no such place")
        for index in range(self._in_use()):
            found += se_load(self._cells + (index + 1) * self._width + place) == value
        return found

    def least(self, Py_ssize_t index, int64_t fresh_ns):
        cdef int64_t *slot = self._slot(index)
        cdef int64_t load = se_load(slot + C_LOAD)
        cdef Py_ssize_t found = index
        cdef Py_ssize_t other
        for other in range(self._in_use()):
            slot = self._cells + (other + 1) * self._width
            if se_load(slot + C_ACCEPTING) and se_load(slot + C_HEARTBEAT) >= fresh_ns and se_load(slot + C_LOAD) < load:
                load, found = se_load(slot + C_LOAD), other
        return load, found


cdef class Seats:
    cdef Py_buffer _buffer
    cdef int64_t *_cells
    cdef Py_ssize_t _blocks
    cdef Py_ssize_t _lines

    def __cinit__(self, memory, Py_ssize_t blocks, Py_ssize_t lines):
        PyObject_GetBuffer(memory, &self._buffer, PyBUF_WRITABLE)
        self._cells = <int64_t *> self._buffer.buf
        self._blocks = blocks
        self._lines = lines
        if blocks < 1 or lines < 2 or self._buffer.len < blocks * lines * LINE * <Py_ssize_t> sizeof(int64_t):
            PyBuffer_Release(&self._buffer)
            self._cells = NULL
            raise ValueError("too little memory for the seats")

    def __dealloc__(self):
        if self._cells is not NULL:
            PyBuffer_Release(&self._buffer)

    cdef int64_t *_line(self, Py_ssize_t block, Py_ssize_t line) except NULL:
        if not (0 <= block < self._blocks and 0 <= line < self._lines):
            raise IndexError("no such line")
        return self._cells + (block * self._lines + line) * LINE

    cdef Py_ssize_t _in_use(self, Py_ssize_t block) noexcept:
        return max(0, min(se_load(self._cells + block * self._lines * LINE), self._lines - 1))

    cdef int64_t _sum(self, Py_ssize_t place) noexcept:
        cdef int64_t total = 0
        cdef Py_ssize_t block, line
        for block in range(self._blocks):
            for line in range(1, self._in_use(block) + 1):
                # The table may come from another version of this program, whose bug must not become ours.
                total += max(0, min(se_load(self._cells + (block * self._lines + line) * LINE + place), MAX_SEATS))
        return total

    def in_use(self, Py_ssize_t block):
        self._line(block, 0)
        return self._in_use(block)

    def use(self, Py_ssize_t block, Py_ssize_t index):
        self.hold(block, index, 0)
        if self._in_use(block) < index + 1:
            se_store(self._line(block, 0), index + 1)

    def clear(self, Py_ssize_t block):
        cdef Py_ssize_t line
        cdef int64_t *first = self._line(block, 0)
        for line in range(self._in_use(block)):
            self.hold(block, line, 0)
        se_store(first, 0)

    def hold(self, Py_ssize_t block, Py_ssize_t index, int64_t sessions):
        cdef int64_t *own = self._line(block, index + 1)
        se_store(own + HELD, sessions)
        se_store(own + CLAIMED, sessions)

    def claim(self, Py_ssize_t block, Py_ssize_t index, int64_t limit):
        cdef int64_t *own = self._line(block, index + 1) + CLAIMED
        cdef int64_t held = se_load(own)
        cdef int attempt
        for attempt in range(TRIES):
            se_store(own, held + 1)
            if self._sum(CLAIMED) <= limit:
                return True
            se_store(own, held)
            # Claims of workers that will withdraw, too, may have filled the sum: try again, at most TRIES times.
            if self._sum(HELD) >= limit:
                return False
        return False

    def taken(self):
        return self._sum(CLAIMED)

    def held(self):
        return self._sum(HELD)
