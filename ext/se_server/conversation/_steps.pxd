"""The reading of all conversations, spread over the steps of the event loop."""


cdef class Steps:
    cdef object __weakref__
    cdef object loop
    cdef double left            # units of work, until nothing large is read in this step
    cdef double _heavy_rate     # a second
    cdef bint _is_soon          # the next step is waited for
    cdef object _timer          # until which no conversation that makes much work is read
    cdef object _light          # deque of callbacks
    cdef object _heavy

    cdef int charge(self, double units) except -1
    cdef int _soon(self) except -1
    cdef bint is_crowded(self) except -1
    cdef int wait(self, go_on, bint is_heavy) except -1


cdef Steps steps_of(loop, double work_rate)
