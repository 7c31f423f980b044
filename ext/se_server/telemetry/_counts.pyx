"""The cells of `Counters`: 8-byte integers with one writer, in memory that other processes may read.

Compiled code adds to `cells` by name. A killed process loses no count, because there is no copy that would be late.
"""

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.mem cimport PyMem_Calloc, PyMem_Free

from se_server.telemetry._meters import Meters


cdef class Counts:
    def __cinit__(self, meters=None, ring=None, memory=None):
        self.meters = Meters() if meters is None else meters
        self.ring = ring
        if memory is None:
            self.cells = <Cells*> PyMem_Calloc(1, sizeof(Cells))
            if self.cells == NULL:
                raise MemoryError()
            return
        PyObject_GetBuffer(memory, &self._buffer, PyBUF_WRITABLE)
        self._is_view = True
        self.cells = <Cells*> self._buffer.buf
        if self._buffer.len < <Py_ssize_t> sizeof(Cells):
            raise ValueError(f"the counters need {sizeof(Cells)} bytes of memory")

    def __dealloc__(self):
        if self._is_view:
            PyBuffer_Release(&self._buffer)
        else:
            PyMem_Free(self.cells)

    def value(self, Py_ssize_t place):
        return _cell(self, place)[0]

    def put(self, Py_ssize_t place, long long value):
        _cell(self, place)[0] = value


cdef long long* _cell(Counts counts, Py_ssize_t place) except NULL:
    if not 0 <= place < <Py_ssize_t> (sizeof(Cells) // sizeof(long long)):
        raise IndexError("no such counter")
    return <long long*> counts.cells + place
