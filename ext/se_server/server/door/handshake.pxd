"""The fields of the compiled `handshake.py`."""


cdef class Handshake:
    cdef readonly str path
    cdef object _find_route
    cdef object _limits
    cdef str _remote
    cdef object _obstacle
    cdef bytes _buffer
    cdef Py_ssize_t _scanned
    cdef Py_ssize_t _answered
    cdef bytes _fields
    cpdef feed(self, bytes data)
    cdef _incomplete(self, bytes data)
    cdef _too_large(self, bytes data)
    cdef _complete(self, bytes head, bytes tail)
    cdef _upgrade(self, str path, str query, dict seen, bytes tail)
    cdef _plain(self, bytes method, str path, bint keep_alive)


cdef bint _has_bad_line_ends(bytes head)
cdef list _tokens(bytes value)
cdef _split(bytes target)
