"""The stream of an LLM package, read from its HTTP response in place of the package."""

from cpython.object cimport PyObject

from se_server.streams._scan cimport Scanner
from se_server.streams._source cimport Source


cdef class Takeover(Source):
    cdef object body            # reads the response, and gives it back to its package
    cdef bint ends_empty        # the body gives an empty piece at its end
    cdef object loop
    cdef Scanner scanner
    cdef list kept              # pieces of the body since the last usual event; before the first text, all
    cdef Py_ssize_t kept_at     # bytes of the body before them
    cdef Py_ssize_t fed         # bytes of the body that were scanned
    cdef bint has_text
    cdef bint is_over           # the package reads on
    cdef object rest            # its iterator then
    cdef object inner           # the iterator of the awaitable in progress, or None
    cdef object tap             # reads the body by callbacks, or None
    cdef bint is_tapped
    cdef Py_ssize_t tap_at      # it may begin after so many bytes of the body; -1: never, -2: once the tap is ready
    cdef list ready             # texts that the tap could not deliver
    cdef object waiter          # a future that the task waits for while the tap reads
    cdef object failure         # an exception of the tap, to be raised in the task
    cdef list take(self, const unsigned char* data, Py_ssize_t size, bytes piece)
    cdef int receive(self, list texts) except -1
    cdef int tap_ended(self, object error, bint takes_back) except -1
    cdef int end(self, object error, bint takes_back) except -1
    cdef int wake(self) except -1
    cdef int begin(self) except -1
    cdef list finish_read(self, object piece)
    cdef int fail(self, object error) except -1
    cdef int run(self, object value, PyObject** result) except -1
