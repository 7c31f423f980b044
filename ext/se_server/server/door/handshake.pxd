"""The fields of the compiled `handshake.py`."""

cimport cython


cdef class Handshake:
    cdef readonly str path
    cdef object _find_route
    cdef object _limits
    cdef str _remote
    cdef object _obstacle
    cdef bytearray _buffer
    cdef bytes _line
    cdef bytes _rest
    cdef Py_ssize_t _answered
    cdef bytes _fields
    cpdef feed(self, bytes data)
    cdef _continue(self, bytes data)
    cdef bint _is_possible(self, Py_ssize_t old) except -1
    @cython.locals(start=Py_ssize_t, begins=Py_ssize_t)
    cdef _complete(self, bytes head, bytes tail)
    cdef _upgrade(self, str path, str query, dict seen, list tokens, bytes tail)
    cdef _plain(self, bytes method, str path, bint is_websocket_path, bint keep_alive)
    cdef tuple _check(self, bytes method, str path)


cdef bytes _without_line(bytes fields, Py_ssize_t start)
cdef bint _has_item(bytes value, bytes item) except -1
cdef _split(bytes target)
