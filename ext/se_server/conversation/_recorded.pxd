"""Connections whose messages are recorded."""

from se_server.conversation._listener cimport Connection, SocketOutbox
from se_server.telemetry._clock cimport Clock
from se_server.telemetry._tape cimport Tape


cdef class RecordedOutbox(SocketOutbox):
    pass


cdef class RecordedConnection(Connection):
    cdef Tape _tape
    cdef unsigned int _number
    cdef Clock _record_clock
    cdef bint _has_base                 # the last transcript is on the tape
    cdef unsigned long long _epoch      # of the tape, when it was written
