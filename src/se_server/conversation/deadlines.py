"""One timer for many items with the same timeout; most are discarded long before it, at no cost of a timer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)

LAST_LOOK_S = 0.002
"""A timeout waits this long: after code has blocked the loop, timers run before what has come meanwhile is read."""

CLOCK_STEP_S = 0.001  # resolution of uvloop's clock, which may read slightly before the time of its timer

LATE_S = 0.02  # of a timer: the loop was blocked


class Deadlines(Generic[T]):
    """Calls `missed` with each item that was added and not discarded within the time.

    Args:
        loop: the loop whose clock and timer it uses.
        timeout_s: seconds from `add` to the deadline.
        missed: gets the item, which is discarded.
    """

    __slots__ = ("_due", "_is_last_look", "_loop", "_missed", "_timeout_s", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, timeout_s: float, missed: Callable[[T], object]) -> None:
        self._loop = loop
        self._timeout_s = timeout_s
        self._missed = missed
        self._due: dict[T, float] = {}  # ordered by deadline, as items are added in this order
        self._timer: asyncio.TimerHandle | None = None
        self._is_last_look = False

    def add(self, item: T) -> None:
        """Start an item's time, or start it again."""
        self._due.pop(item, None)
        self._due[item] = self._loop.time() + self._timeout_s
        if self._timer is None:
            self._timer = self._loop.call_later(self._timeout_s, self._look)

    def discard(self, item: T) -> None:
        """Forget an item, which is in time or gone."""
        self._due.pop(item, None)

    def close(self) -> None:
        """Cancel the timer and forget all items."""
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        now = self._loop.time() + CLOCK_STEP_S
        first_due = next(iter(self._due.values()), now)
        if now - first_due > LATE_S and not self._is_last_look:
            self._is_last_look = True
            self._timer = self._loop.call_later(LAST_LOOK_S, self._look)
            return
        self._is_last_look = False
        late = []
        for item, due in self._due.items():
            if due > now:
                self._timer = self._loop.call_later(due - now, self._look)
                break
            late.append(item)
        for item in late:
            if self._due.pop(item, None) is not None:  # else `missed` of an earlier item discarded it
                self._missed(item)
