"""The shipped connection, which also echoes messages, as the Autobahn testsuite requires."""

from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.string cimport memcpy
from picows.picows cimport WSMsgType

from se_server.conversation._listener cimport Connection


cdef class EchoConnection(Connection):
    cdef int _deliver(self, const char* data, Py_ssize_t size, bint is_text) except -1:
        Connection._deliver(self, data, size, is_text)  # its verdict on the text comes first
        if self.outbox.closed:
            return 0
        cdef char* frame = <char*>PyMem_Malloc(size + 10)
        if frame == NULL:
            raise MemoryError()
        cdef Py_ssize_t header = 2
        cdef int i
        frame[0] = <char>(0x80 | <int>(WSMsgType.TEXT if is_text else WSMsgType.BINARY))
        if size < 126:
            frame[1] = <char>size
        else:
            header = 4 if size < 65536 else 10
            frame[1] = 126 if size < 65536 else 127
            for i in range(2, header):
                frame[i] = <char>((size >> 8 * (header - 1 - i)) & 0xFF)
        memcpy(frame + header, data, size)
        try:
            self.outbox.write(frame, header + size)
        finally:
            PyMem_Free(frame)
        return 0
