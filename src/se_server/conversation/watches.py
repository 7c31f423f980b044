"""One timer for all sessions of a loop that have something to do later and, mostly, will not have to do it.

A turn pays nothing for it: a session is in the heap at most once, and is asked there whether anything is due by now.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import weakref
from typing import Protocol

from se_server.conversation.deadlines import CLOCK_STEP_S


class Watched(Protocol):
    """The part of a session that its watch uses."""

    def _watch_is_due(self, watch: Watch) -> float | None:
        """Do what is due, and return the seconds until the next look; None for no further one."""


class Watch:
    """The place of one session in the heap. The session sets `session` to None when it ends."""

    __slots__ = ("session",)

    def __init__(self, session: Watched) -> None:
        self.session: Watched | None = session


class Watches:
    """The heap of one loop."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Watch]] = []
        self._order = itertools.count()
        self._timer_at: float | None = None

    def add(self, loop: asyncio.AbstractEventLoop, session: Watched, delay_s: float) -> Watch:
        """Look at `session` after `delay_s` seconds, and then as often as it asks for."""
        watch = Watch(session)
        self._push(loop, watch, loop.time() + delay_s)
        return watch

    def _push(self, loop: asyncio.AbstractEventLoop, watch: Watch, at: float) -> None:
        heapq.heappush(self._heap, (at, next(self._order), watch))
        # The timer is never cancelled: one that is too early finds nothing due. No handle is kept, which would keep
        # the loop alive.
        if self._timer_at is None or at < self._timer_at:
            self._timer_at = at
            loop.call_at(at, self._look, loop, at)

    def _look(self, loop: asyncio.AbstractEventLoop, at: float) -> None:
        if self._timer_at == at:
            self._timer_at = None
        now = loop.time() + CLOCK_STEP_S
        heap = self._heap
        try:
            while heap and heap[0][0] <= now:
                watch = heapq.heappop(heap)[2]
                if watch.session is not None:
                    delay_s = watch.session._watch_is_due(watch)
                    if delay_s is not None:
                        heapq.heappush(heap, (now + delay_s, next(self._order), watch))
        finally:  # one session's failure is not another's
            if heap and (self._timer_at is None or heap[0][0] < self._timer_at):
                self._timer_at = heap[0][0]
                loop.call_at(heap[0][0], self._look, loop, heap[0][0])


_by_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Watches] = weakref.WeakKeyDictionary()


def watches_of(loop: asyncio.AbstractEventLoop) -> Watches:
    """Return the heap of a loop."""
    watches = _by_loop.get(loop)
    if watches is None:
        watches = _by_loop[loop] = Watches()
    return watches
