"""The receiver of an answer's messages."""


cdef class Sink:
    """The receiver of an answer's messages, which are put one by one and leave together at the flush."""

    cdef readonly bint closed       # nothing may be written any more
    cdef readonly bint writable     # False while the peer reads too slowly
    cdef int put(self, str content, bytes event_id_json, bint is_final) except -1
    cdef Py_ssize_t pending(self) noexcept
    cpdef int flush(self) except -1
    cpdef room(self)
