"""Gathers the texts of a stream while the answer is well ahead of its speech."""

from se_server.telemetry._clock cimport Clock


cdef class Gatherer:
    cdef double _pace_s         # texts are gathered so long
    cdef double _begun_at       # the first text was sent then
    cdef Py_ssize_t _sent_chars
    cdef list _held             # the texts that are being gathered, or None
    cdef object _timer
    cdef bint hold(self, str text, Clock clock, object stream) except -1
    cdef str release(self)


cdef Gatherer gatherer_of(double pace_s)
