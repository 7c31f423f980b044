"""The work due in one step of the event loop, done together.

A loop with much to do finds many messages at once. It is a quarter faster to read all of them, then to run all their
handlers, then to send all that these have written, than to do the three for one message after the other: the code of one
of the three fits into a processor's caches, that of all does not.

So a handler starts in the loop's next step, as tasks do, but all that start there are one callback of the loop. While it
runs, what they write is held: some 16 short answers, where handlers have shown that they are quick. Where one computes
or blocks after he has answered, nothing is held for a long time, since that would keep his answer and others'.

Only uvloop's loops have batches. Others may be made to run inside a handler (nest_asyncio), and there is no telling
what is called in between.
"""

from se_server.telemetry._clock cimport Clock, clock_of
from se_server.conversation._outbox cimport Outbox

import logging
import time
from contextvars import Context
from weakref import WeakValueDictionary

import uvloop

cdef enum:
    # Number of answers sent together: their bytes still are in the nearest cache.
    MAX_HELD = 16

# Stop holding answers once the mean time to a handler's first await (over `MEAN_OF` handlers) exceeds this.
cdef double SLOW_S = 0.00025
cdef double MEAN_OF = 64.0

# A handler slower than this blocks the loop. Hold nothing for the next `WATCHED` handlers; double the number at each
# further slow handler, and halve it after four times as many quick ones. Pauses of the garbage collector are rarer than
# that, blocking handlers are not.
cdef double BLOCKED_S = 0.005
cdef long long WATCHED = 256
cdef long long WATCHED_MOST = 1 << 20

cdef object _batches = WeakValueDictionary()  # conversations keep the batch, and with it the loop

cdef object _log = logging.getLogger("se_server.connection")


cdef class Due:
    cdef int run(self) except -1:
        raise NotImplementedError


cdef class Batch:
    """The turns of one event loop that start in its next step.

    Args:
        loop: whose steps.
        clock: gives seconds that never go back.
    """

    def __init__(self, loop, clock):
        self.loop = loop
        self._clock = clock_of(clock)
        self.holds = False
        self._due = []
        self._held = []
        self._context = Context()  # not that of a conversation
        self._mean_s = 2 * SLOW_S
        self._watch = WATCHED
        self._watched = 0

    cdef int add(self, Due due) except -1:
        """Run something in the loop's next step."""
        self._due.append(due)
        if len(self._due) == 1:
            self._schedule()
        return 0

    cdef int _schedule(self) except -1:
        self.loop.call_soon(self, context=self._context)
        return 0

    cdef int hold(self, Outbox outbox) except -1:
        """Write an outbox after the other work of the batch, or after enough of it."""
        self._held.append(outbox)
        if len(self._held) >= MAX_HELD:
            self._write()
        return 0

    def __call__(self):
        """Run what is due now; the loop calls it, which spares it a bound method a step."""
        cdef list due = self._due
        cdef Py_ssize_t index = 0
        cdef double before_s, now_s = self._clock.now()
        self._due = []
        # A single turn has no other to wait for.
        self.holds = len(due) > 1 and self._mean_s < SLOW_S and self._watched >= self._watch
        try:
            while index < len(due):
                before_s = now_s
                first = <Due>due[index]
                due[index] = None  # free it now, so that the next one reuses its memory
                index += 1
                (<Due>first).run()
                first = None
                now_s = self._clock.now()
                if self._is_slow(now_s - before_s):
                    self._write()
                    now_s = self._clock.now()
        finally:
            self.holds = False
            if index < len(due):  # the process is being interrupted; if it goes on, run the rest
                self._due = due[index:] + self._due
                self._schedule()
            self._write()

    cdef bint _is_slow(self, double took_s) except -1:
        """Note how long a handler took; return whether others should not wait for such handlers."""
        self._mean_s += (took_s - self._mean_s) / MEAN_OF
        self._watched += 1
        if took_s < BLOCKED_S:
            if self._watched >= 4 * self._watch and self._watch > WATCHED:
                self._watch //= 2
                self._watched = self._watch
            return took_s > SLOW_S
        self.holds = False
        self._watched = 0
        self._watch = min(2 * self._watch, WATCHED_MOST)
        return True

    cdef int _write(self) except -1:
        cdef list held
        cdef Py_ssize_t index = 0
        if not self._held:
            return 0
        held, self._held = self._held, []
        try:
            while index < len(held):
                outbox = <Outbox>held[index]
                index += 1
                try:
                    (<Outbox>outbox).write_out()
                except Exception:
                    _log.exception("an answer could not be written; its conversation is dropped")
                    (<Outbox>outbox).give_up()
        finally:
            if index < len(held):
                self._held = held[index:] + self._held
                if not self._due:
                    self._schedule()
        return 0


cpdef Batch batch_of(loop, clock=time.monotonic):
    """Return the batch of an event loop, one for all its conversations; None if it has none.

    Args:
        loop: the loop.
        clock: of a batch that is made now; gives seconds that never go back.
    """
    if not isinstance(loop, uvloop.Loop):
        return None
    batch = _batches.get(loop)
    if batch is None:
        batch = _batches[loop] = Batch(loop, clock)
    return batch
