"""picows' part of the connections of one door."""

from picows.picows cimport WSFrame, WSListener

cdef enum:
    READ_MAX = 64 * 1024    # the most bytes of one read


cdef class Framer(WSListener):
    cdef object view                    # the place of the next read
    cdef object small_view
    cdef char* data                     # its first byte
    cdef object _get_buffer
    cdef object _buffer_updated
    cdef WSFrame _frame

    cdef int _start(self) except -1
    cdef WSFrame read(self, Py_ssize_t size)
    cdef WSFrame copy(self, const char* data, Py_ssize_t size)
    cdef WSFrame _take(self)
    cdef int _fill(self, const char* data, Py_ssize_t size) except -1
    cdef int settle(self) except -1
