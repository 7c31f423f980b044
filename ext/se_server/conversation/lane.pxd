"""The fields of the compiled `lane.py`."""

from se_server.telemetry.counters cimport Counters
from se_server.protocol.turn cimport Turn


cdef class TurnHost:
    cdef readonly object conversation_id
    cdef public object notes
    cpdef list _calls_of(self, str event, tuple args)
    cpdef _finish_turn(self, Turn turn, bint failed)
    cpdef _speak_failure(self, Turn turn)


cdef class Job:
    cdef readonly str event
    cdef readonly tuple args
    cdef readonly Turn turn
    cdef public object task
    cdef public object handler
    cdef public str mistake
    cdef public object awaited
    cdef public bint started
    cdef public bint is_cancelled
    cdef public bint is_stray


cdef class Pulse:
    cdef public Py_ssize_t running
    cdef public Py_ssize_t begun
    cdef public bint is_watched


cdef class Lane:
    cdef TurnHost _session
    cdef object _loop
    cdef object _batch
    cdef object _settings
    cdef Counters _stats
    cdef Job _job
    cdef object _waiting
    cdef Pulse _pulse
    cdef Py_ssize_t _strays
    cdef Py_ssize_t _max_strays
    cdef object _timer
    cdef object _context
    cdef bint _shares_context
    cdef bint _debugs
    cdef bint _ending
    cdef object _ended
    cdef readonly bint is_over
    cpdef start_turn(self, Turn turn, list transcript, Turn superseded)
    cdef _start_now(self, Job job)
    cpdef _start(self, Job job)
    cpdef _next(self)
    cpdef _done(self, Job job)


cdef object _known_code

cpdef call(handler, tuple args)
cdef Job _job(job)
cdef bint _is_due(Job job) except -1
cdef Turn _turn(turn)
