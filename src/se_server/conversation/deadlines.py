"""One timer for many that all have the same time: most of them are done long before, and never cost one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)

CLOCK_STEP_S = 0.001  # of uvloop's clock: it may stand a little before the time that its timer was set for


class Deadlines(Generic[T]):
    """Calls `missed` with each item that was added and not discarded within the time.

    Args:
        loop: the loop whose clock and timer it uses.
        timeout_s: the time of each.
        missed: gets the item, which is discarded.
    """

    __slots__ = ("_due", "_loop", "_missed", "_timeout_s", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, timeout_s: float, missed: Callable[[T], object]) -> None:
        self._loop = loop
        self._timeout_s = timeout_s
        self._missed = missed
        self._due: dict[T, float] = {}  # in the order of their times, which is that of their coming
        self._timer: asyncio.TimerHandle | None = None

    def add(self, item: T) -> None:
        """Let an item's time begin, anew if it runs."""
        self._due.pop(item, None)
        self._due[item] = self._loop.time() + self._timeout_s
        if self._timer is None:
            self._timer = self._loop.call_later(self._timeout_s, self._look)

    def discard(self, item: T) -> None:
        """It is in time, or gone."""
        self._due.pop(item, None)

    def close(self) -> None:
        """Give the timer up; nobody's time runs any more."""
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        now = self._loop.time() + CLOCK_STEP_S
        late = []
        for item, due in self._due.items():
            if due > now:
                self._timer = self._loop.call_later(due - now, self._look)
                break
            late.append(item)
        for item in late:
            if self._due.pop(item, None) is not None:  # else one before it had it discarded
                self._missed(item)
