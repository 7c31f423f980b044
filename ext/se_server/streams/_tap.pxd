"""A tap on the connection of an HTTP client: it reads the body of a response by callbacks, and gives it back."""

from se_server.streams._takeover cimport Takeover


cdef class Tap:
    cdef Takeover takeover
    cdef object client          # the parts of the HTTP client
    cdef object transport
    cdef object protocol        # the client's
    cdef object tls
    cdef object timer
    cdef object loop
    cdef double timeout_s       # between two reads; 0: none
    cdef double last_at
    cdef bint is_on
    cdef bint is_reading
    cdef int state
    cdef Py_ssize_t left        # bytes of the chunk that are still to come
    cdef bytearray head         # the start of a chunk's size
    cdef unsigned char last     # byte of the chunk
    cdef int decrypted(self, bytes data) except -1
    cdef int received(self, bytes data) except -1
    cdef bint parse(self, const unsigned char* at, const unsigned char* end, list texts, Py_ssize_t* size) except -1
    cdef int give_back(self, bytes rest, object error) except -1
    cdef int restore(self, bytes rest, object error, bint takes_back) except -1
