"""The ledger judges transcripts by the table at the head of `turns.py`; its memory is bounded."""

from __future__ import annotations

import gc
import json
import sys

import pytest

from se_server.protocol._wire import decode
from se_server.protocol.turn import Turn
from se_server.protocol.turns import (
    ANSWERED,
    CLOSED,
    MAX_PAST_TURNS,
    SUPERSEDED,
    PastTurns,
    TurnLedger,
    Verdict,
)


def turn(event_id: int | None, said: str | None = "hello") -> Turn:
    return Turn(event_id, 0.0, None, said)


def test_without_an_id_every_transcript_is_new() -> None:
    ledger = TurnLedger(adopts=True)
    for _ in range(3):
        assert ledger.judge(turn(None)) is Verdict.NEW
        ledger.begin(turn(None))


def test_the_turn_under_way_again_is_repeated() -> None:
    ledger = TurnLedger()
    ledger.begin(turn(26))
    assert ledger.judge(turn(26)) is Verdict.REPEATED


def test_the_same_id_with_other_content_is_new() -> None:
    """The same id with other content is a new turn also when it was answered."""
    ledger = TurnLedger()
    first = turn(26)
    ledger.begin(first)
    assert ledger.judge(turn(26, "hello again")) is Verdict.NEW
    ledger.end(first, ANSWERED)
    assert ledger.judge(turn(26, "hello again")) is Verdict.NEW
    assert ledger.judge(turn(26)) is Verdict.ANSWERED


def test_an_answered_turn_stays_answered() -> None:
    """An answered turn again is answered also while another is under way."""
    ledger = TurnLedger()
    first = turn(26)
    ledger.begin(first)
    ledger.end(first, ANSWERED)
    ledger.begin(turn(45))
    assert ledger.judge(turn(26)) is Verdict.ANSWERED


def test_a_superseded_turn_stays_superseded() -> None:
    """A superseded turn again is superseded also when the later one was answered."""
    ledger = TurnLedger()
    later = turn(45, "hello you")
    ledger.begin(turn(26))
    ledger.begin(later)
    assert ledger.judge(turn(26)) is Verdict.SUPERSEDED
    ledger.end(later, ANSWERED)
    assert ledger.judge(turn(26)) is Verdict.SUPERSEDED


def test_the_last_end_of_a_turn_counts() -> None:
    """A superseded transcript that is forgotten, comes again and is answered, is an answered one from then on."""
    ledger = TurnLedger()
    ledger.begin(turn(1))
    for event_id in range(2, MAX_PAST_TURNS + 3):
        ledger.begin(turn(event_id))
    again = turn(1)
    assert ledger.judge(again) is Verdict.NEW
    ledger.begin(again)
    ledger.end(again, ANSWERED)
    assert ledger.judge(turn(1)) is Verdict.ANSWERED


def test_the_oldest_turn_is_forgotten_and_no_other() -> None:
    ledger = TurnLedger()
    for event_id in range(10_000):
        one = turn(event_id)
        ledger.begin(one)
        ledger.end(one, ANSWERED)
    verdicts = [ledger.judge(turn(event_id)) for event_id in range(9_900, 10_000)]
    assert verdicts == [Verdict.NEW] * (100 - MAX_PAST_TURNS) + [Verdict.ANSWERED] * MAX_PAST_TURNS


def test_the_same_words_are_adopted_before_text() -> None:
    ledger = TurnLedger(adopts=True)
    current = turn(26, "Where is my order?")
    ledger.begin(current)
    retold = turn(43, "where is my order")
    assert ledger.judge(retold) is Verdict.ADOPTED
    ledger.adopt(retold)
    assert ledger.current is current
    assert (current.event_id, current.event_id_json, current.said) == (43, b"43", "where is my order")
    assert ledger.judge(turn(26, "Where is my order?")) is Verdict.SUPERSEDED
    assert ledger.judge(turn(43, "where is my order")) is Verdict.REPEATED
    current.note_texts(1, 1.0)
    assert ledger.judge(turn(45, "Where is my order?")) is Verdict.NEW


@pytest.mark.parametrize("spoil", ["fail", "end", "no words", "off", "no id"])
def test_nothing_else_is_adopted(spoil: str) -> None:
    ledger = TurnLedger(adopts=spoil != "off")
    current = turn(None if spoil == "no id" else 26, None if spoil == "no words" else "hello")
    ledger.begin(current)
    current.failed = spoil == "fail"
    if spoil == "end":
        ledger.end(current, ANSWERED)
    assert ledger.judge(turn(43, current.said)) is Verdict.NEW


def test_an_adopted_turns_final_has_its_new_id() -> None:
    """The final of an adopted turn goes out under its new id."""
    ledger = TurnLedger(adopts=True)
    current = turn(26)
    ledger.begin(current)
    current.needs_final = False  # an empty answer went out
    ledger.adopt(turn(43))
    assert current.needs_final


def test_what_a_close_ended_is_not_superseded() -> None:
    ledger = TurnLedger()
    current = turn(26)
    ledger.begin(current)
    ledger.end(current, CLOSED)
    assert not current.interrupted
    assert ledger.judge(turn(26)) is Verdict.ANSWERED


def test_a_turn_ends_once() -> None:
    ledger = TurnLedger()
    first = turn(26)
    ledger.begin(first)
    ledger.begin(turn(45))
    ledger.end(first, ANSWERED)
    assert first.state is SUPERSEDED
    assert ledger.judge(turn(26)) is Verdict.SUPERSEDED


def said(*entries: tuple[str, str]) -> str | None:
    transcript = [{"role": role, "content": content} for role, content in entries]
    return decode(json.dumps({"type": "user_transcript", "user_transcript": transcript, "event_id": 1}).encode()).said


def test_the_last_user_message_was_said() -> None:
    """The last user message is the one that was said, wherever it stands."""
    assert said() is None
    assert said(("agent", "hi")) is None
    assert said(("user", "a"), ("agent", "b"), ("user", "c")) == "c"
    assert said(("user", "a"), ("agent", "b")) == "a"


def test_a_shortened_history_changes_nothing() -> None:
    """A history that was shortened after an interruption does not make a transcript another."""
    whole = said(("user", "hi"), ("agent", "Hello, how can I help you today?"), ("user", "stop"))
    heard = said(("user", "hi"), ("agent", "Hello, how..."), ("user", "stop"))
    ledger = TurnLedger()
    ledger.begin(turn(26, whole))
    assert ledger.judge(turn(26, heard)) is Verdict.REPEATED


def test_ids_beyond_63_bits_are_ids() -> None:
    ledger = TurnLedger()
    for event_id in (-(1 << 63), 26, (1 << 64) - 1):
        one = turn(event_id)
        assert ledger.judge(one) is Verdict.NEW
        ledger.begin(one)
        assert ledger.judge(turn(event_id)) is Verdict.REPEATED
        ledger.end(one, ANSWERED)
        assert ledger.judge(turn(event_id)) is Verdict.ANSWERED


def test_the_memory_of_a_ledger_is_bounded() -> None:
    """A ledger owns nothing before the second turn has ended and no more after it."""
    ledger = TurnLedger()
    owned = []
    for event_id in range(1000):
        one = turn(event_id)
        ledger.begin(one)
        ledger.end(one, ANSWERED)
        owned.append(sum(sys.getsizeof(item) for item in gc.get_referents(ledger) if type(item) is PastTurns))
    assert owned[0] == 0
    assert set(owned[1:]) == {sys.getsizeof(PastTurns())}
    assert owned[-1] < 1024
