"""The server's side of one utterance, cut out of the observer's picture of its conversation."""

from __future__ import annotations

from typing import Any

from se_server.playground.ledger import turn_of


def row(event_id: int, at_s: float) -> dict[str, Any]:
    parts = [0.0, 0.0, 0.1, 0.2, 0.0, 0.0]
    facts = {"outcome": "answered", "parts": parts, "first_text_s": 0.3, "duration_s": 1.0, "blocked_by": None}
    return {"event_id": event_id, "at_s": at_s, **facts}


CONVERSATION: dict[str, Any] = {
    "pid": 7,
    "turns": [row(5, 1.0), row(9, 3.0)],
    "events": [
        (0.0, "opened", ""),
        (1.0, "arrived", ""),
        (1.0, "transcript", ""),
        (1.1, "filler sent", ""),
        (1.3, "texts sent", ""),
        (2.0, "turn ended", ""),
        (3.0, "arrived", ""),
        (3.001, "transcript", ""),
        (3.1, "transcript again", ""),
        (3.3, "texts sent", ""),
    ],
    "payloads": [0, 0, 5, 1, 2, 0, 0, 9, 2, 1],
}


def test_events_begin_with_their_transcript_at_zero() -> None:
    side = turn_of(CONVERSATION, {9})
    assert side is not None
    assert side["events"] == [
        [0.0, "arrived", 0],
        [0.001, "transcript", 9],
        [0.1, "transcript again", 2],
        [0.3, "texts sent", 1],
    ]


def test_each_text_that_was_sent_has_a_mark() -> None:
    side = turn_of(CONVERSATION, {5})
    assert side is not None
    assert side["marks"] == ["filler", "", ""]


def test_a_turn_that_goes_on_has_no_side() -> None:
    assert turn_of({**CONVERSATION, "turns": [row(5, 1.0)]}, {9}) is None
