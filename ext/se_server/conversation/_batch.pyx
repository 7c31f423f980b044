"""What is due in one step of the event loop, taken together.

A loop with much to do finds many messages at once. It is a quarter faster to read all of them, then to run all their
handlers, then to send all that these have written, than to do the three for one message after the other: the code of one
of the three fits into a processor's caches, that of all does not.

So a handler starts in the loop's next step, as tasks do, but all that start there are one callback of the loop. While it
runs, what they write is held, unless handlers take their time: who computes or blocks after he has answered must not
keep the answer, his or another's.
"""

from se_server.conversation._clock cimport Clock, clock_of
from se_server.conversation._pump cimport Outbox

import time
from weakref import WeakValueDictionary

cdef enum:
    # So many answers are sent together: their bytes are still in the nearest cache.
    MAX_HELD = 16

# A handler that takes longer to its first wait computes, or blocks. On the mean of so many; a loop must first show it.
cdef double SLOW_S = 0.00025
cdef double MEAN_OF = 64.0

cdef Clock _clock = clock_of(time.monotonic)
cdef object _batches = WeakValueDictionary()  # whoever has conversations keeps it, and with it the loop


cdef class Due:
    cdef int run(self) except -1:
        raise NotImplementedError


cdef class Batch:
    """The turns of one event loop that start in its next step.

    Args:
        loop: whose steps.
    """

    def __init__(self, loop):
        self.loop = loop
        self.holds = False
        self._due = []
        self._held = []
        self._mean_s = 2 * SLOW_S

    cdef int add(self, Due due) except -1:
        """Run something in the loop's next step."""
        self._due.append(due)
        if len(self._due) == 1:
            self._schedule()
        return 0

    cdef int _schedule(self) except -1:
        self.loop.call_soon(self.run)
        return 0

    cdef int hold(self, Outbox outbox) except -1:
        """Have an outbox written when the batch's others have been run, or enough of them."""
        self._held.append(outbox)
        return 0

    def run(self):
        """Run what is due now; the loop calls it."""
        cdef list due = self._due
        self._due = []
        self._index = 0
        try:
            self._run(due)
        finally:
            self.holds = False
            self._write()
            if self._index < len(due):  # the process is being interrupted; should it go on, so do they
                self._due = due[self._index:] + self._due
                self._schedule()

    cdef int _run(self, list due) except -1:
        cdef double before_s, now_s = _clock.now()
        # One alone would only wait for itself.
        self.holds = len(due) > 1 and self._mean_s < SLOW_S
        while self._index < len(due):
            before_s = now_s
            first, due[self._index] = <Due>due[self._index], None  # so that it is freed, and its memory is the next one's
            self._index += 1
            (<Due>first).run()
            first = None
            now_s = _clock.now()
            self._mean_s += (now_s - before_s - self._mean_s) / MEAN_OF
            if now_s - before_s > SLOW_S or len(self._held) >= MAX_HELD:
                self._write()
        return 0

    cdef int _write(self) except -1:
        cdef list held
        if self._held:
            held, self._held = self._held, []
            for outbox in held:
                (<Outbox>outbox).write_out()
        return 0


cpdef Batch batch_of(loop):
    """Return the batch of an event loop: one for all its conversations."""
    batch = _batches.get(loop)
    if batch is None:
        batch = _batches[loop] = Batch(loop)
    return batch
