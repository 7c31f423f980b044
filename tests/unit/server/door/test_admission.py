"""Admission: limits, seats and readiness of one worker, alone or among others."""

from __future__ import annotations

import time
from typing import NamedTuple

import pytest

from se_server.server.door.admission import (
    DRAINING,
    MAX_PENDING_HANDSHAKES,
    MAX_SESSIONS,
    MAX_TURNS,
    OVERLOADS,
    SHED_LOOP_LAG_S,
    Admission,
    Capacity,
)
from se_server.server.door.placement import BUSY
from se_server.server.door.responses import AVAILABILITY, SATURATED
from se_server.server.shared.scoreboard import Scoreboard, Slot, State
from se_server.types import Counters

SECOND_NS = 10**9


def make_slots(count: int) -> list[Slot]:
    """Make the slots of ready workers on one scoreboard, with a heartbeat of this moment."""
    board, slots = Scoreboard(count), []
    for _ in range(count):
        slot = board.take(1, time.monotonic_ns())
        assert slot is not None
        slot.state, slot.heartbeat_ns = State.READY, time.monotonic_ns()
        slots.append(slot)
    return slots


class Case(NamedTuple):
    capacity: Capacity
    pending: int = 0
    sessions: int = 0
    turns: int = 0
    lag_s: float = 0.0
    claim: str = ""
    obstacle: str = ""


CASES = {
    "no limits": Case(Capacity(), pending=1000, sessions=1000, turns=1000, lag_s=10.0),
    "a seat is left": Case(Capacity(max_sessions=2), sessions=1),
    "all seats are taken": Case(Capacity(max_sessions=2), sessions=2, claim=MAX_SESSIONS, obstacle=MAX_SESSIONS),
    "turns below the limit": Case(Capacity(max_turns=3), turns=2),
    "turns at the limit": Case(Capacity(max_turns=3), turns=3, claim=MAX_TURNS, obstacle=MAX_TURNS),
    "lag below the limit": Case(Capacity(shed_loop_lag_s=5.0), lag_s=4.0),
    "lag above the limit": Case(
        Capacity(shed_loop_lag_s=5.0), lag_s=6.0, claim=SHED_LOOP_LAG_S, obstacle=SHED_LOOP_LAG_S
    ),
    "turns count before lag": Case(
        Capacity(max_turns=1, shed_loop_lag_s=1.0), turns=1, lag_s=2.0, claim=MAX_TURNS, obstacle=MAX_TURNS
    ),
    "seats count before turns for readiness": Case(
        Capacity(max_sessions=1, max_turns=1), sessions=1, turns=1, claim=MAX_TURNS, obstacle=MAX_SESSIONS
    ),
    "the checking connection is not pending": Case(Capacity(max_pending_handshakes=2), pending=2),
    "too many pending handshakes": Case(Capacity(max_pending_handshakes=2), pending=3, obstacle=MAX_PENDING_HANDSHAKES),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_worker_decides_by_its_load(case: Case) -> None:
    (slot,) = make_slots(1)
    slot.loop_lag_ns = int(case.lag_s * SECOND_NS)
    stats = Counters()
    stats.turns_started = case.turns
    admission = Admission(case.capacity, stats, slot)
    for _ in range(case.pending):
        admission.handshake_began()
    for session in range(case.sessions):
        if case.capacity.max_sessions is not None:
            slot.claim(case.capacity.max_sessions)
        admission.set_sessions(session + 1)
    assert admission.obstacle() == case.obstacle
    assert admission.claim() == case.claim


@pytest.mark.parametrize("alone", [True, False], ids=["alone", "worker"])
def test_an_ended_session_frees_its_seat(alone: bool) -> None:
    admission = Admission(Capacity(max_sessions=1), Counters(), None if alone else make_slots(1)[0])
    assert admission.claim() == ""
    admission.set_sessions(1)
    assert admission.claim() == MAX_SESSIONS
    admission.set_sessions(0)
    assert admission.claim() == ""


def test_a_refused_upgrade_returns_its_seat() -> None:
    first, second = (Admission(Capacity(max_sessions=1), Counters(), slot) for slot in make_slots(2))
    assert first.claim() == ""
    assert second.claim() == MAX_SESSIONS
    first.set_sessions(0)  # the token was wrong
    assert second.claim() == ""


def test_workers_share_the_seats() -> None:
    one, other = (Admission(Capacity(max_sessions=3), Counters(), slot) for slot in make_slots(2))
    for admission, sessions in ((one, 1), (other, 1), (one, 2)):
        assert admission.claim() == ""
        admission.set_sessions(sessions)
    assert one.claim() == other.claim() == MAX_SESSIONS
    assert one.obstacle() == other.obstacle() == MAX_SESSIONS


def test_the_limit_of_pending_handshakes_is_inclusive() -> None:
    admission = Admission(Capacity(max_pending_handshakes=2), Counters(), None)
    assert [admission.handshake_began() for _ in range(3)] == [True, True, False]
    admission.handshake_ended()
    admission.handshake_ended()
    assert admission.handshake_began()


def test_load_counts_sessions_and_pending_handshakes() -> None:
    (slot,) = make_slots(1)
    stats = Counters()
    admission = Admission(Capacity(max_turns=1), stats, slot)
    admission.handshake_began()
    admission.set_sessions(2)
    assert slot.load == 3
    stats.turns_started = 1
    admission.show()
    assert slot.load == 3 + BUSY
    stats.turns_ended = 1
    admission.handshake_ended()
    assert slot.load == 2


def test_readiness_is_denied_while_every_worker_drains() -> None:
    one, other = make_slots(2)
    admission = Admission(Capacity(), Counters(), one)
    one.state = State.DRAINING
    assert admission.obstacle() == ""
    other.state = State.DRAINING
    assert admission.obstacle() == DRAINING


def test_a_missing_heartbeat_counts_as_lag() -> None:
    (slot,) = make_slots(1)
    admission = Admission(Capacity(shed_loop_lag_s=1.0), Counters(), slot)
    slot.heartbeat_ns = time.monotonic_ns() - 3 * SECOND_NS
    assert admission.claim() == SHED_LOOP_LAG_S


def test_every_overload_has_its_responses() -> None:
    assert set(SATURATED) == set(OVERLOADS)
    assert set(AVAILABILITY) == {"", DRAINING, *OVERLOADS}
