"""The fields of the compiled `lane.py`."""

from se_server.conversation.jobs cimport Job, JobHost, TurnHost
from se_server.protocol.turn cimport Turn


cdef class Lane(JobHost):
    cdef object _batch
    cdef object _settings
    cdef Job _job
    cdef object _waiting
    cdef object _timer
    cdef bint _debugs
    cdef bint _ending
    cdef object _ended
    cdef readonly bint is_over
    cpdef start_turn(self, Turn turn, list transcript, Turn superseded)
    cpdef supersede(self, Turn superseded)
    cdef _start_now(self, Job job)
    cpdef _start(self, Job job)
    cpdef _next(self)


cdef bint _is_due(Job job) except -1
