"""The receiver of an answer's messages, of which each kind of connection has its own."""


cdef class Sink:
    def __cinit__(self):
        self.closed = False
        self.writable = True

    cdef int put(self, str content, bytes event_id_json, bint is_final) except -1:
        raise NotImplementedError

    cdef Py_ssize_t pending(self) noexcept:
        return 0

    cpdef int flush(self) except -1:
        return 0

    cpdef room(self):
        raise NotImplementedError
