"""The reading of all conversations, spread over the steps of the event loop: large messages wait for their turn.

The kernel reports in one step of the loop all sockets that can be read. A hundred large messages that end there would
hold everyone for as long as all of them take, though each conversation is within its budget. So a step has a budget of
work, too. Beyond it large messages wait for a later step, in order of arrival; small ones are read at once.

Conversations that make much work for long wait behind the others, and have a share of the time for all of them
together. None of them loses anything: it is read later.
"""

from collections import deque
from weakref import WeakValueDictionary

cdef enum:
    # Units of work of one step: one to two milliseconds.
    STEP_WORK = 512 * 1024

# The rate that all conversations with much work share, as a multiple of the rate of one: a fifth of a processor by default.
cdef double SHARE_OF = 8.0


cdef class Steps:
    """The steps of one event loop.

    Args:
        loop: whose steps.
        work_rate: units of work a second that one conversation may make.
    """

    def __init__(self, loop, double work_rate):
        self.loop = loop
        self.left = STEP_WORK
        self._heavy_rate = work_rate * SHARE_OF
        self._light, self._heavy = deque(), deque()

    def __len__(self):
        return len(self._light) + len(self._heavy)

    cdef int charge(self, double units) except -1:
        """Count work that was done, in this step or in earlier ones that did not use up theirs."""
        self.left -= units
        return 0 if self.left > 0 else self._soon()

    cdef bint is_crowded(self) except -1:
        """Whether a conversation that makes much work has to wait: one that is alone with it has not."""
        return self.left <= 0 or self._timer is not None or len(self._heavy) > 0

    cdef int wait(self, go_on, bint is_heavy) except -1:
        """Call `go_on` in a later step, after all that wait already; heavy ones wait for the others, too."""
        (self._heavy if is_heavy else self._light).append(go_on)
        return self._soon()

    cdef int _soon(self) except -1:
        if not self._is_soon:
            self._is_soon = True
            self.loop.call_soon(self._step)
        return 0

    def _step(self):
        cdef double before, now
        self._is_soon = False
        self.left = STEP_WORK
        light, heavy = self._light, self._heavy
        cdef Py_ssize_t most = len(light)  # one that waits again is for a later step
        try:
            while most and self.left > 0:
                most -= 1
                light.popleft()()
            if heavy and self._timer is None:
                now = self.loop.time()
                most = len(heavy)
                before = self.left
                while most and self.left > 0:
                    most -= 1
                    heavy.popleft()()
                self._timer = self.loop.call_at(now + (before - self.left) / self._heavy_rate, self._heavy_again)
        finally:
            if light or (heavy and self._timer is None):
                self._soon()

    def _heavy_again(self):
        self._timer = None
        if self._heavy:
            self._soon()


cdef object _steps = WeakValueDictionary()  # connections keep it, and with it the loop


cdef Steps steps_of(loop, double work_rate):
    """Return the steps of a loop, the same for all its doors; the first one's rate counts."""
    steps = _steps.get(loop)
    if steps is None:
        steps = _steps[loop] = Steps(loop, work_rate)
    return steps
