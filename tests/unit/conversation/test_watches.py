"""One timer for all sessions of a loop: in order, robust against failures, and without keeping sessions alive."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from se_server.conversation.watches import Watch, Watches


class Loop:
    """A loop whose time a test sets."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[tuple[float, Callable[..., None], tuple[Any, ...]]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, call: Callable[..., None], *args: Any) -> None:
        self.timers.append((when, call, args))

    def run_until(self, until: float) -> None:
        while due := sorted((timer for timer in self.timers if timer[0] <= until), key=lambda timer: timer[0]):
            self.timers.remove(due[0])
            self.now = max(self.now, due[0][0])
            due[0][1](*due[0][2])
        self.now = until


class Session:
    """Notes when it is looked at, and asks for the next looks in turn."""

    def __init__(self, loop: Loop, *delays_s: float | None) -> None:
        self.loop = loop
        self.delays_s = list(delays_s)
        self.looks: list[float] = []

    def _watch_is_due(self, watch: Watch) -> float | None:
        self.looks.append(round(self.loop.now, 2))
        return self.delays_s.pop(0) if self.delays_s else None


def test_each_session_is_looked_at_when_it_asked() -> None:
    loop, watches = Loop(), Watches()
    first, second = Session(loop, 0.5, None), Session(loop, None)
    watches.add(loop, first, 3)  # type: ignore[arg-type]
    loop.run_until(1)
    watches.add(loop, second, 0.5)  # type: ignore[arg-type]
    loop.run_until(20)
    assert (first.looks, second.looks) == ([3, 3.5], [1.5])
    assert loop.timers == [], "nothing is due any more"


def test_a_thousand_sessions_have_one_timer() -> None:
    loop, watches = Loop(), Watches()
    for _ in range(1000):
        watches.add(loop, Session(loop), 3)  # type: ignore[arg-type]
    assert len(loop.timers) == 1


def test_a_session_that_ended_is_not_kept() -> None:
    loop, watches = Loop(), Watches()
    session = Session(loop)
    watch = watches.add(loop, session, 3)  # type: ignore[arg-type]
    gone = weakref.ref(session)
    watch.session = None
    del session
    gc.collect()
    assert gone() is None
    loop.run_until(5)


def test_the_failure_of_one_session_is_not_anothers() -> None:
    class Failing(Session):
        def _watch_is_due(self, watch: Watch) -> float | None:
            raise OSError("no room")

    loop, watches = Loop(), Watches()
    other = Session(loop)
    watches.add(loop, Failing(loop), 1)  # type: ignore[arg-type]
    watches.add(loop, other, 2)  # type: ignore[arg-type]
    with pytest.raises(OSError, match="no room"):
        loop.run_until(1)
    loop.run_until(3)
    assert other.looks == [2]
