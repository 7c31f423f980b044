"""Placement: the worker that a worker waits for, and the time."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from se_server.server.door.placement import AHEAD, LAPSE_NS, PATIENCE_NS, PAUSES_S, STALE_NS, Placement
from se_server.server.shared.scoreboard import Scoreboard, Slot


class Clock:
    def __init__(self) -> None:
        self.now_ns = 10**12

    def __call__(self) -> int:
        return self.now_ns


@pytest.fixture
def queue() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def workers(clock: Clock, *loads: int) -> list[Slot]:
    board = Scoreboard(len(loads))
    slots = []
    for load in loads:
        slot = board.take(1, clock.now_ns)
        assert slot is not None
        slot.load, slot.accepting, slot.heartbeat_ns = load, 1, clock.now_ns
        slots.append(slot)
    return slots


def placement_of(slot: Slot, clock: Clock) -> Placement:
    return Placement(slot, lambda: None, clock)


def test_only_a_worker_ahead_of_others_waits(queue: socket.socket) -> None:
    clock = Clock()
    least, equal, ahead = workers(clock, 5, 5 + AHEAD, 5 + AHEAD + 1)
    assert placement_of(least, clock).pause_s(queue) == 0
    assert placement_of(equal, clock).pause_s(queue) == 0
    assert placement_of(ahead, clock).pause_s(queue) == PAUSES_S[0]


def test_nobody_waits_for_a_worker_without_a_heartbeat(queue: socket.socket) -> None:
    clock = Clock()
    dead, ahead = workers(clock, 0, 100)
    placement = placement_of(ahead, clock)
    assert placement.pause_s(queue) > 0
    clock.now_ns += STALE_NS + 1
    ahead.heartbeat_ns = clock.now_ns
    assert placement.pause_s(queue) == 0
    assert dead.load == 0


def test_patience_with_an_idle_worker_ends(queue: socket.socket) -> None:
    clock = Clock()
    idle, ahead = workers(clock, 0, 100)
    placement = placement_of(ahead, clock)
    waited_ns = 0
    while (pause_s := placement.pause_s(queue)) and waited_ns < 10 * PATIENCE_NS:
        assert pause_s <= PAUSES_S[1]
        waited_ns += int(pause_s * 1e9)
        clock.now_ns += int(pause_s * 1e9)
        idle.heartbeat_ns = clock.now_ns
    assert PATIENCE_NS <= waited_ns < 2 * PATIENCE_NS
    idle.load = 1  # it moves after all
    assert placement.pause_s(queue) > 0


def test_patience_restarts_after_an_empty_queue(queue: socket.socket) -> None:
    clock = Clock()
    idle, ahead = workers(clock, 0, 100)
    placement = placement_of(ahead, clock)
    for _ in range(20):
        assert placement.pause_s(queue) > 0
        clock.now_ns += max(LAPSE_NS, PATIENCE_NS // 10) + 1
        idle.heartbeat_ns = clock.now_ns
