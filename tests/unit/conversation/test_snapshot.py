"""A snapshot shows a session at each point of its life, and stays as it was taken."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from se_server.conversation.snapshot import MAX_ID, snapshot_of
from se_server.protocol.turns import ANSWERED, SUPERSEDED, Turn, TurnLedger, TurnState
from se_server.telemetry.pace import Pace
from se_server.telemetry.turn_record import TurnRecord


def session(**changes: Any) -> Any:
    values: dict[str, Any] = {
        "conversation_id": "conv_1",
        "is_open": True,
        "_ledger": TurnLedger(),
        "_pace": None,
        "_opened_at": 10.0,
        "_ended_at": 10.0,
        "_why": "",
        "_transport": SimpleNamespace(ending=(1006, "")),
    }
    return SimpleNamespace(**{**values, **changes})


def turn(state: TurnState = TurnState.WAITING, chunks: int = 0) -> TurnLedger:
    ledger = TurnLedger()
    one = Turn(1, started_at=11.0)
    one.state = state
    if chunks:
        one.note_texts(chunks, 11.5)
    ledger.begin(one)
    return ledger


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, "listening"),
        ({"_ledger": turn()}, "waiting"),
        ({"_ledger": turn(TurnState.RUNNING)}, "thinking"),
        ({"_ledger": turn(TurnState.RUNNING, chunks=1)}, "speaking"),
        ({"is_open": False}, "ending"),
    ],
)
def test_the_state_follows_the_turn(changes: dict[str, Any], state: str) -> None:
    assert snapshot_of(session(**changes), 12.0).state == state


def test_ages_count_from_session_and_turn() -> None:
    seen = snapshot_of(session(_ledger=turn()), 12.0)
    assert (seen.age_s, seen.duration_s, seen.turn_age_s) == (2.0, 2.0, 1.0)


def test_the_duration_stops_at_the_end() -> None:
    seen = snapshot_of(session(is_open=False, _ended_at=13.0), 20.0)
    assert (seen.age_s, seen.duration_s) == (10.0, 3.0)


def test_an_open_session_has_no_ending() -> None:
    seen = snapshot_of(session(), 12.0)
    assert (seen.code, seen.reason) == (None, "")


@pytest.mark.parametrize(
    ("ending", "why", "reason"),
    [
        ((1000, "bye"), "close message", "bye"),
        ((1000, ""), "close message", "close message"),
        ((1006, ""), "", "connection lost"),
    ],
)
def test_the_reason_is_the_most_exact(ending: tuple[int, str], why: str, reason: str) -> None:
    seen = snapshot_of(session(is_open=False, _why=why, _transport=SimpleNamespace(ending=ending)), 12.0)
    assert (seen.code, seen.reason) == (ending[0], reason)


def test_the_pace_of_all_turns_is_shown() -> None:
    pace = Pace()
    for interrupted, after_s in ((False, 0.2), (True, 0.4)):
        pace.add(interrupted)
        pace.add_first_chunk(after_s)
    seen = snapshot_of(session(_pace=pace), 12.0)
    assert (seen.turns, seen.interruptions) == (2, 1)
    assert seen.first_text_p50_s == pytest.approx(0.2)
    assert seen.first_text_max_s == pytest.approx(0.4)


def test_a_long_id_is_cut() -> None:
    assert snapshot_of(session(conversation_id="x" * 1000), 12.0).conversation_id == "x" * MAX_ID


@pytest.mark.parametrize(
    ("state", "failed", "outcome"),
    [(ANSWERED, False, "answered"), (ANSWERED, True, "failed"), (SUPERSEDED, False, "superseded")],
)
def test_a_record_names_the_outcome(state: TurnState, failed: bool, outcome: str) -> None:
    one = Turn(7, started_at=1.0)
    one.note_texts(2, 1.25)
    one.end(state, 3.0)
    assert str(TurnRecord.of(one, failed)) == (
        f"event_id=7 outcome={outcome} chunks=2 first_text_s=0.250 duration_s=2.000"
    )
