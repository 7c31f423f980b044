"""One timer for many: each item is missed in its time, and only if it was not discarded before."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from typing import Any

from se_server.conversation.deadlines import Deadlines
from se_server.conversation.host import LOOKS_PER_INTERVAL, KeepAlive


class Clock(asyncio.AbstractEventLoop):
    """A loop that has timers and nothing else, whose time passes when it is told to."""

    def __init__(self) -> None:
        self._now = 0.0
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._made = 0

    def time(self) -> float:
        return self._now

    def get_debug(self) -> bool:
        return False

    def call_later(self, delay: float, callback: Callable[..., object], *args: Any, context: Any = None) -> Any:
        handle = asyncio.TimerHandle(self._now + delay, callback, args, self)
        self._made += 1
        heapq.heappush(self._timers, (handle.when(), self._made, handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass

    @property
    def pending(self) -> int:
        """Return the number of pending timers."""
        return sum(not handle.cancelled() for *_, handle in self._timers)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        end = self._now + seconds
        while self._timers and self._timers[0][0] <= end:
            self._now, _, handle = heapq.heappop(self._timers)
            if not handle.cancelled():
                handle._run()
        self._now = end


def test_only_kept_items_are_missed() -> None:
    """Only what was not discarded is missed and each in its time."""
    clock, missed = Clock(), []
    deadlines = Deadlines[int](clock, 10.0, lambda item: missed.append((item, clock.time())))
    for item in range(6):  # at 0, 1, 2 and so on
        deadlines.add(item)
        clock.advance(1.0)
    assert clock.pending == 1
    for item in (0, 2, 3):
        deadlines.discard(item)
    clock.advance(60.0)
    assert [(item, round(at, 1)) for item, at in missed] == [(1, 11.0), (4, 14.0), (5, 15.0)]
    assert clock.pending == 0


def test_time_begins_anew() -> None:
    clock, missed = Clock(), []
    deadlines = Deadlines[str](clock, 10.0, missed.append)
    deadlines.add("a")
    clock.advance(9.0)
    deadlines.add("a")
    clock.advance(9.0)
    assert missed == []
    clock.advance(1.5)
    assert missed == ["a"]


def test_a_missed_item_may_discard_another() -> None:
    """One that is missed may discard another and begin anew."""
    clock, missed = Clock(), []

    def miss(item: str) -> None:
        missed.append(item)
        deadlines.discard("b")
        if len(missed) == 1:
            deadlines.add("a")

    deadlines = Deadlines[str](clock, 10.0, miss)
    for item in ("a", "b", "c"):
        deadlines.add(item)
    clock.advance(25.0)
    assert missed == ["a", "c", "a"]


def test_nothing_is_missed_after_the_end() -> None:
    clock, missed = Clock(), []
    deadlines = Deadlines[str](clock, 10.0, missed.append)
    deadlines.add("a")
    deadlines.close()
    assert clock.pending == 0
    clock.advance(60.0)
    assert missed == []


def test_connections_are_checked_four_times_an_interval() -> None:
    """Every connection is looked at four times an interval but not all at once."""
    clock = Clock()

    class Connection:
        def __init__(self) -> None:
            self.group = 0
            self.looks: list[float] = []

        def look(self) -> None:
            self.looks.append(clock.time())

    keep_alive = KeepAlive(clock, 20.0)
    connections: list[Any] = [Connection() for _ in range(1000)]
    for connection in connections:
        keep_alive.add(connection)
    clock.advance(40.0)
    looks = [at for connection in connections for at in connection.looks]
    assert {len(connection.looks) for connection in connections} == {2 * LOOKS_PER_INTERVAL}
    assert max(looks.count(at) for at in set(looks)) <= 20
    for connection in connections:
        keep_alive.discard(connection)
    clock.advance(1.0)
    assert clock.pending == 0
