"""The pacer: work that is ready together is done over many steps of the loop, in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from se_server.server.door.pacer import BUDGET_S, GAP_S, Pacer


class Steps:
    """A loop whose steps the test takes, and its clock."""

    def __init__(self) -> None:
        self.now_s = 10.0
        self.soon: list[Callable[[], None]] = []
        self.done: list[bytes] = []

    def call_soon(self, callback: Callable[[], None]) -> None:
        self.soon.append(callback)

    def clock(self) -> float:
        return self.now_s

    def take(self) -> None:
        callbacks, self.soon = self.soon, []
        for callback in callbacks:
            callback()

    def work(self, data: bytes) -> None:
        """Take a little over half of a budget."""
        self.now_s += 0.51 * BUDGET_S
        self.done.append(data)


@pytest.fixture
def steps() -> Steps:
    return Steps()


@pytest.fixture
def pacer(steps: Steps) -> Pacer:
    return Pacer(steps, steps.clock)  # type: ignore[arg-type]


def offer(pacer: Pacer, steps: Steps, count: int) -> None:
    for n in range(count):
        if not pacer.do(steps.work, b"%d" % n):
            pacer.defer(steps.work, b"%d" % n)


def test_work_within_the_budget_is_done_at_once(pacer: Pacer, steps: Steps) -> None:
    offer(pacer, steps, 2)
    assert steps.done == [b"0", b"1"]
    assert steps.soon == []


def test_further_work_is_spread_over_steps(pacer: Pacer, steps: Steps) -> None:
    offer(pacer, steps, 7)
    done = [len(steps.done)]
    while steps.soon:
        assert len(steps.soon) == 1
        steps.take()
        done.append(len(steps.done))
    assert done == [2, 4, 6, 7]
    assert steps.done == [b"%d" % n for n in range(7)]


def test_new_work_waits_behind_older_work(pacer: Pacer, steps: Steps) -> None:
    offer(pacer, steps, 4)
    steps.now_s += 2 * GAP_S
    assert not pacer.do(steps.work, b"new")


def test_pause_restores_the_budget(pacer: Pacer, steps: Steps) -> None:
    offer(pacer, steps, 2)
    assert not pacer.do(steps.work, b"too soon")
    steps.now_s += 2 * GAP_S
    assert pacer.do(steps.work, b"later")


def test_work_inside_of_work_is_done_at_once(pacer: Pacer, steps: Steps) -> None:
    def outer(data: bytes) -> None:
        steps.now_s += 2 * BUDGET_S
        assert pacer.do(steps.work, b"inner")

    assert pacer.do(outer, b"")
    assert steps.done == [b"inner"]


def test_work_that_fails_leaves_the_rest(pacer: Pacer, steps: Steps) -> None:
    def failing(data: bytes) -> None:
        raise RuntimeError("on purpose")

    offer(pacer, steps, 2)
    pacer.defer(failing, b"")
    pacer.defer(steps.work, b"rest")
    with pytest.raises(RuntimeError, match="on purpose"):
        steps.take()
    steps.take()
    assert steps.done[-1] == b"rest"
    assert steps.soon == []


def test_waiting_bytes_are_counted(pacer: Pacer, steps: Steps) -> None:
    for _ in range(3):
        pacer.defer(steps.work, b"x" * 100)
    assert pacer.waiting_bytes == 300
    steps.take()
    assert pacer.waiting_bytes == 100
    assert len(pacer) == 1
    steps.take()
    assert (pacer.waiting_bytes, len(pacer)) == (0, 0)


def test_turns_are_given_over_many_steps() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        pacer, steps = Pacer(loop), 0
        turns = [loop.create_task(pacer.turn()) for _ in range(100)]
        while not all(turn.done() for turn in turns):
            steps += 1
            await asyncio.sleep(0)
        assert steps >= 5

    asyncio.run(scenario())
