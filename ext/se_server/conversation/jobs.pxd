"""The fields of the compiled `jobs.py`."""

from se_server.telemetry._clock cimport Clock
from se_server.telemetry._counts cimport Counts
from se_server.protocol.turn cimport Turn


cdef class TurnHost:
    cdef readonly object conversation_id
    cdef public object notes
    cpdef list _calls_of(self, str event, tuple args)
    cpdef _finish_turn(self, Turn turn, bint failed)
    cpdef _speak_failure(self, Turn turn)


cdef class Pulse:
    cdef public Py_ssize_t running
    cdef public Py_ssize_t begun
    cdef public bint is_watched


cdef class JobHost:
    cdef TurnHost _session
    cdef object _loop
    cdef Counts _stats
    cdef Clock _clock
    cdef Pulse _pulse
    cdef Py_ssize_t _strays
    cdef Py_ssize_t _max_strays
    cdef object _context
    cdef bint _shares_context
    cdef _prepare(self, TurnHost session, loop, Counts stats, Clock clock, Py_ssize_t max_strays)
    cdef _note_yield(self, Turn turn)
    cpdef _cut_short(self, Job job)
    cpdef _done(self, Job job)


cdef class Job:
    cdef readonly JobHost lane
    cdef readonly str event
    cdef readonly tuple args
    cdef readonly Turn turn
    cdef public object task
    cdef public object handler
    cdef public str mistake
    cdef public object awaited
    cdef public Py_ssize_t held_bytes   # about, while it waits
    cdef public bint started
    cdef public bint is_cancelled
    cdef public bint is_stray


cdef object _known_code
cdef bint _HAS_TASK_CONTEXT

cpdef call(handler, tuple args)
cdef bint _must_leave(JobHost lane, Job job, error) except -1
