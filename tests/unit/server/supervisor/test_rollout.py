"""The transitions of a rollout, each driven with a fake pool."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from se_server.server.shared.scoreboard import State
from se_server.server.shared.seats import MAX_WORKERS
from se_server.server.supervisor.generation import MAX_BOOT_FAILURES
from se_server.server.supervisor.pool import NO_HURRY_S
from tests.unit.server.supervisor.fakes import Stage, make_spec

RELOAD_S = make_spec().lifecycle.reload_drain_timeout_s


@pytest.fixture
def stage() -> Iterator[Stage]:
    made = Stage(workers=2)
    yield made
    made.pool.close()


SERVING = ("begin 2", "ready 0.1", "ready 1.1")


@pytest.mark.parametrize(
    ("steps", "alive", "events", "drained"),
    [
        (("begin 2",), ["0.1 starting", "1.1 starting"], [], []),
        (("begin 2", "ready 1.1"), ["0.1 starting", "1.1 ready"], [], []),
        (SERVING, ["0.1 ready", "1.1 ready"], ["ready 2/ws"], []),
        # A candidate starts one worker first, then as many as are ready.
        ((*SERVING, "begin 4"), ["0.1 ready", "1.1 ready", "0.2 starting"], ["ready 2/ws", "reloading"], []),
        (
            (*SERVING, "begin 4", "ready 0.2"),
            ["0.1 ready", "1.1 ready", "0.2 ready", "1.2 starting"],
            ["ready 2/ws", "reloading"],
            [],
        ),
        (
            (*SERVING, "begin 4", "ready 0.2", "ready 1.2"),
            ["0.1 ready", "1.1 ready", "0.2 ready", "1.2 ready", "2.2 starting", "3.2 starting"],
            ["ready 2/ws", "reloading"],
            [],
        ),
        # The old generation drains when the candidate is complete.
        (
            (*SERVING, "begin 1", "ready 0.2"),
            ["0.2 ready"],
            ["ready 2/ws", "reloading", "reloaded"],
            [(0, 1, RELOAD_S), (1, 1, RELOAD_S)],
        ),
        # A second reload drops the first candidate.
        (
            (*SERVING, "begin 1", "begin 1"),
            ["0.1 ready", "1.1 ready", "0.3 starting"],
            ["ready 2/ws", "reloading", "reloading"],
            [(0, 2, RELOAD_S)],
        ),
        # A candidate that cannot start leaves the old generation in service.
        (
            (*SERVING, "begin 3", "ready 0.2", "fail 1.2"),
            ["0.1 ready", "1.1 ready"],
            ["ready 2/ws", "reloading", "reloaded"],
            [(0, 2, RELOAD_S)],
        ),
        # A worker that dies is replaced.
        ((*SERVING, "crash 1.1"), ["0.1 ready", "1.1 starting"], ["ready 2/ws"], []),
        ((*SERVING, "scale 1"), ["0.1 ready", "1.1 ready", "2.1 starting"], ["ready 2/ws"], []),
        ((*SERVING, "scale -1"), ["0.1 ready"], ["ready 2/ws"], [(1, 1, RELOAD_S)]),
        ((*SERVING, "scale -9"), ["0.1 ready"], ["ready 2/ws"], [(1, 1, RELOAD_S)]),
        # Fewer places can complete a candidate.
        (("begin 2", "ready 0.1", "scale -1"), ["0.1 ready"], ["ready 1/ws"], [(1, 1, RELOAD_S)]),
        # A scaled number survives a reload with the same options, and not one with another number.
        (
            (*SERVING, "scale -1", "begin 2", "ready 0.2"),
            ["0.2 ready"],
            ["ready 2/ws", "reloading", "reloaded"],
            [(1, 1, RELOAD_S), (0, 1, RELOAD_S)],
        ),
        (
            (*SERVING, "scale -1", "begin 3", "ready 0.2"),
            ["0.1 ready", "0.2 ready", "1.2 starting"],
            ["ready 2/ws", "reloading"],
            [(1, 1, RELOAD_S)],
        ),
    ],
)
def test_events_move_workers_and_generations(
    stage: Stage, steps: tuple[str, ...], alive: list[str], events: list[str], drained: list[tuple[int, int, float]]
) -> None:
    stage.play(*steps)
    assert list(stage.alive()) == alive
    assert stage.announcer.events == events
    assert stage.pool.drained == drained


@pytest.mark.parametrize(
    ("steps", "state", "failed", "waits"),
    [
        ((), State.DRAINING, False, False),
        (("begin 2",), State.STARTING, False, False),
        (SERVING, State.READY, False, False),
        (("begin 2", "fail 1.1"), State.DRAINING, True, False),
        (("repairing 2", "fail 1.1"), State.STARTING, False, True),
        (("repairing 2", "fail 1.1", "begin 2"), State.STARTING, False, False),
        ((*SERVING, "begin 2", "fail 0.2"), State.READY, False, False),
    ],
)
def test_state_follows_the_generations(
    stage: Stage, steps: tuple[str, ...], state: State, failed: bool, waits: bool
) -> None:
    stage.play(*steps)
    assert (stage.rollout.state, stage.rollout.failed, stage.rollout.waits_for_repair) == (state, failed, waits)


def test_a_failed_start_is_announced_once(stage: Stage) -> None:
    stage.play("begin 2")
    stage.fail(0, 1)
    stage.fail(1, 1)
    assert stage.announcer.events == ["failed: a worker ended before it was ready"]
    assert not stage.rollout.has_vacancies


def test_a_serving_generation_retries_before_it_fails(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.play(*SERVING, "crash 0.1")
    now = 1e9
    monkeypatch.setattr("se_server.server.supervisor.rollout.time.monotonic", lambda: now)
    for _ in range(MAX_BOOT_FAILURES - 1):
        stage.fail(0, 1)
        assert list(stage.alive()) == ["1.1 ready"]  # the pause is not over
        now += 60
        stage.rollout.fill_places()
        assert list(stage.alive()) == ["1.1 ready", "0.1 starting"]
    stage.fail(0, 1)
    assert stage.rollout.failed
    assert stage.announcer.events[-1].startswith("failed: ")


def test_a_ready_worker_resets_the_failures(stage: Stage) -> None:
    stage.play(*SERVING)
    assert stage.rollout.serving is not None
    stage.rollout.serving.failures = MAX_BOOT_FAILURES - 1
    stage.play("crash 0.1", "ready 0.1")
    assert stage.rollout.serving.failures == 0


def test_an_ended_rollout_starts_no_worker(stage: Stage) -> None:
    stage.play(*SERVING)
    stage.rollout.end()
    stage.crash(0, 1)
    assert list(stage.alive()) == ["1.1 ready"]
    assert stage.rollout.next_due() == []


def test_a_failed_fork_is_tried_again(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.pool.fork_error = OSError("no memory")
    stage.play("begin 2")
    assert list(stage.alive()) == []
    later = max(stage.rollout.next_due())
    monkeypatch.setattr("se_server.server.supervisor.rollout.time.monotonic", lambda: later)
    stage.rollout.fill_places()
    assert sorted(stage.alive()) == ["0.1 starting", "1.1 starting"]


def test_the_number_of_workers_is_bounded(stage: Stage) -> None:
    stage.play(*SERVING)
    stage.rollout.scale(10 * MAX_WORKERS)
    assert stage.rollout.serving is not None
    assert stage.rollout.serving.count == MAX_WORKERS


def test_a_replaced_worker_drains_and_another_starts(stage: Stage) -> None:
    stage.play(*SERVING)
    stage.rollout.replace(stage.worker(0, 1))
    stage.rollout.fill_places()
    assert list(stage.alive()) == ["1.1 ready", "0.1 starting"]
    assert stage.pool.drained == [(0, 1, RELOAD_S)]


def test_a_recycled_worker_drains_after_its_replacement(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(workers=2)
    stage.begin(workers=2, max_worker_sessions=10)
    stage.play("ready 0.1", "ready 1.1")
    old = stage.worker(1, 1)
    monkeypatch.setattr(type(old.wear), "reason", lambda wear, *_: "it is old" if wear is old.wear else "")
    stage.rollout.recycle(1e9)
    stage.rollout.fill_places()
    stage.rollout.recycle(1e9)
    assert list(stage.alive()) == ["0.1 ready", "1.1 ready"]
    later = 2e9
    monkeypatch.setattr("se_server.server.supervisor.rollout.time.monotonic", lambda: later)
    stage.rollout.fill_places()
    assert list(stage.alive()) == ["0.1 ready", "1.1 ready", "1.1 starting"]
    assert stage.pool.drained == []
    stage.make_ready(1, 1)
    assert stage.pool.drained == [(1, 1, NO_HURRY_S)]
    assert old.drain_ordered
    stage.pool.close()


def test_a_failed_replacement_keeps_the_recycled_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(workers=1)
    stage.begin(workers=1, max_worker_sessions=10)
    stage.play("ready 0.1")
    monkeypatch.setattr("se_server.server.supervisor.recycle.Wear.reason", lambda *_: "it is old")
    now = 1e9
    stage.rollout.recycle(now)
    monkeypatch.setattr("se_server.server.supervisor.rollout.time.monotonic", lambda: now)
    stage.rollout.fill_places()
    stage.fail(0, 1)
    assert list(stage.alive()) == ["0.1 ready"]
    assert stage.pool.drained == []
    stage.rollout.recycle(now + 1)
    assert stage.rollout.next_due() == []  # it waits before the next try
    stage.pool.close()


def test_no_worker_is_recycled_during_a_reload(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(workers=1)
    stage.begin(workers=1, max_worker_sessions=10)
    stage.play("ready 0.1")
    stage.begin(workers=1, max_worker_sessions=10)
    monkeypatch.setattr("se_server.server.supervisor.recycle.Wear.reason", lambda *_: "it is old")
    stage.rollout.recycle(1e9)
    assert stage.rollout.serving is not None
    assert stage.rollout.serving.vacant == {}
    stage.pool.close()
