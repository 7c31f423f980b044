"""The work due in one step of the event loop, done together."""

from se_server.telemetry._clock cimport Clock
from se_server.conversation._outbox cimport Outbox


cdef class Due:
    """Something that a batch runs."""

    cdef int run(self) except -1


cdef class Batch:
    cdef object __weakref__
    cdef readonly object loop
    cdef bint holds                     # writes may wait for the end of the batch
    cdef list _due                      # for the loop's next step
    cdef list _held                     # outboxes
    cdef Clock _clock
    cdef object _context
    cdef double _mean_s                 # of the time to a handler's first await
    cdef long long _watch               # quick handlers in a row that end the watch
    cdef long long _watched             # quick handlers so far

    cdef int add(self, Due due) except -1
    cdef int hold(self, Outbox outbox) except -1
    cdef int _schedule(self) except -1
    cdef bint _is_slow(self, double took_s) except -1
    cdef int _write(self) except -1


cpdef Batch batch_of(loop, clock=*)
