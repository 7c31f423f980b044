"""The ledger against a model in plain Python, driven by any order of transcripts and endings."""

from __future__ import annotations

import os
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from se_server.protocol.turn import Turn
from se_server.protocol.turns import (
    ANSWERED,
    CLOSED,
    CUT_OFF,
    MAX_PAST_TURNS,
    SUPERSEDED,
    TurnLedger,
    TurnState,
    Verdict,
)

# LEDGER_SEQUENCES=5000 takes minutes, the default seconds.
SEQUENCES = int(os.environ.get("LEDGER_SEQUENCES", "500"))

WORDS = ("book it", "Book it!", "book it please", "no", "3.5", "35", "...", "", None)
SAME = {"book it": "book it", "Book it!": "book it", "book it please": "please", "no": "no", "3.5": "3.5", "35": "35"}

SILENT = ("...", "", None)

Key = tuple[int | None, str | None]


@dataclass(frozen=True)
class Options:
    """The options of a ledger."""

    adopts: bool = False
    replays: bool = False
    retries: bool = False
    stays_silent: bool = False


@dataclass
class Under:
    """The newest turn as the model sees it."""

    event_id: int | None
    said: str | None
    words: str | None = None  # of the user, where it has gone on through a silence
    is_silence: bool = False
    is_retry: bool = False
    has_text: bool = False
    has_answer: bool = False
    failed: bool = False
    is_final: bool = False
    has_final: bool = False
    final_at: float = 0.0
    replays: int = 0

    @property
    def key(self) -> Key:
        return self.event_id, self.said

    @property
    def seen(self) -> Key:
        """The id and the words as the turn shows them: those before a silence that it went on through."""
        return self.event_id, self.words


class Model:
    """The table of verdicts, with a list for the past; simple rather than fast."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.running: Under | None = None
        self.newest: Under | None = None  # ended with an answer, and no turn began since
        self.past: list[tuple[Key, TurnState]] = []

    def judge(self, event_id: int | None, said: str | None, now: float, ends_with_agent: bool) -> Verdict:
        key = event_id, said
        if event_id is not None:
            if self.running is not None and self.running.key == key:
                return Verdict.REPLAYED if self.was_lost(self.running, now) else Verdict.REPEATED
            if self.newest is not None and self.newest.key == key:
                if self.may_retry(self.newest, now):
                    return Verdict.RETRIED
                return Verdict.REPLAYED if self.was_lost(self.newest, now) else Verdict.ANSWERED
            outcome = dict(self.past).get(key)
            if outcome is not None:
                return Verdict.SUPERSEDED if outcome is SUPERSEDED else Verdict.ANSWERED
            if self.is_adopted(said):
                return Verdict.ADOPTED
        if self.options.stays_silent and (ends_with_agent or said in SILENT):
            running = self.running
            if running is not None and not running.has_final and not running.is_silence:
                return Verdict.ADOPTED
            return Verdict.SILENT
        return Verdict.NEW

    def is_adopted(self, said: str | None) -> bool:
        running = self.running
        if not self.options.adopts or running is None or running.has_text or running.failed:
            return False
        words = SAME.get(said or "")
        return running.event_id is not None and words is not None and words == SAME.get(running.words or "")

    def was_lost(self, turn: Under, now: float) -> bool:
        return self.options.replays and turn.is_final and turn.replays < 2 and 1 <= now - turn.final_at <= 20

    def may_retry(self, turn: Under, now: float) -> bool:
        is_failure = turn.failed and not turn.has_answer and not turn.is_retry
        return self.options.retries and is_failure and 1 <= now - turn.final_at <= 20

    def remember(self, outcome: TurnState) -> None:
        assert self.running is not None
        key = self.running.key
        if key[0] is not None:
            self.past = [item for item in self.past if item[0] != key]
            self.past = [*self.past, (key, outcome)][-MAX_PAST_TURNS:]

    def end(self, outcome: TurnState) -> None:
        self.remember(outcome)
        keeps = outcome in (ANSWERED, CUT_OFF) and (self.options.replays or self.options.retries)
        self.newest = self.running if keeps else self.newest
        self.running = None

    def begin(self, event_id: int | None, said: str | None, is_retry: bool, ends_with_agent: bool) -> None:
        if self.running is not None:
            self.remember(SUPERSEDED)
        is_silence = ends_with_agent or said in SILENT
        self.running, self.newest = Under(event_id, said, said, is_silence, is_retry), None


class LedgerMachine(RuleBasedStateMachine):
    """Ledger and model get the same events, and must judge every transcript alike."""

    @initialize(adopts=st.booleans(), replays=st.booleans(), retries=st.booleans(), stays_silent=st.booleans())
    def start(self, adopts: bool, replays: bool, retries: bool, stays_silent: bool) -> None:
        self.ledger = TurnLedger(adopts, replays, retries, stays_silent)
        self.model = Model(Options(adopts, replays, retries, stays_silent))
        self.fresh = 100
        self.now = 0.0

    def receive(self, event_id: int | None, said: str | None, ends_with_agent: bool = False) -> None:
        turn = Turn(event_id, self.now, self, said)
        turn.ends_with_agent = ends_with_agent
        verdict = self.ledger.judge(turn)
        assert verdict is self.model.judge(event_id, said, self.now, ends_with_agent)
        if verdict in (Verdict.NEW, Verdict.SILENT, Verdict.RETRIED):
            before, running = self.ledger.current, self.model.running
            turn.is_retry = verdict is Verdict.RETRIED
            superseded = self.ledger.begin(turn)
            assert superseded is before
            if superseded is not None:
                assert running is not None
                assert superseded.interrupted
                assert not superseded.open
                assert (superseded.event_id, superseded.said) == running.seen
            self.model.begin(event_id, said, turn.is_retry, ends_with_agent)
            if verdict is Verdict.SILENT:
                self.handler_ends(ANSWERED)
        elif verdict is Verdict.ADOPTED:
            self.ledger.adopt(turn)
            self.model.remember(SUPERSEDED)
            assert self.model.running is not None
            self.model.running.event_id, self.model.running.said = event_id, said
            self.model.running.is_final = self.model.running.has_final = False
            if not (ends_with_agent or said in SILENT):
                self.model.running.words = said
        elif verdict is Verdict.REPLAYED:
            answered = self.ledger.current or self.ledger.newest
            under = self.model.running or self.model.newest
            assert answered is not None
            assert under is not None
            answered.replays += 1
            answered.note_final(self.now)
            under.replays += 1
            under.final_at = self.now

    @rule(event_id=st.one_of(st.none(), st.integers(0, 6)), said=st.sampled_from(WORDS), ends_with_agent=st.booleans())
    def transcript(self, event_id: int | None, said: str | None, ends_with_agent: bool) -> None:
        self.receive(event_id, said, ends_with_agent)

    @precondition(lambda self: bool(self.model.past))
    @rule(data=st.data())
    def old_transcript(self, data: st.DataObject) -> None:
        (event_id, said), _ = data.draw(st.sampled_from(self.model.past))
        self.receive(event_id, said)

    @precondition(lambda self: bool(self.model.running or self.model.newest))
    @rule()
    def newest_transcript(self) -> None:
        under = self.model.running or self.model.newest
        assert under is not None
        self.receive(*under.key)

    @rule(seconds=st.sampled_from((0.25, 0.75, 1.0, 4.0, 14.0, 19.0)))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(count=st.integers(1, MAX_PAST_TURNS + 2), outcome=st.sampled_from((ANSWERED, SUPERSEDED)))
    def many_turns(self, count: int, outcome: TurnState) -> None:
        for _ in range(count):
            self.fresh += 1
            self.receive(self.fresh, "no" if self.model.options.adopts else "book it")
            if outcome is ANSWERED or self.model.options.adopts:
                self.handler_ends(outcome if outcome is ANSWERED else CLOSED)

    @precondition(lambda self: self.model.running is not None)
    @rule()
    def final_goes_out(self) -> None:
        assert self.ledger.current is not None
        assert self.model.running is not None
        self.ledger.current.note_final(self.now)
        self.model.running.is_final = self.model.running.has_final = True
        self.model.running.final_at = self.now

    @precondition(lambda self: self.model.running is not None)
    @rule(outcome=st.sampled_from((ANSWERED, CLOSED, CUT_OFF)))
    def handler_ends(self, outcome: TurnState) -> None:
        current, running = self.ledger.current, self.model.running
        assert current is not None
        assert running is not None
        if outcome is CUT_OFF:
            current.failed = running.failed = True
        if outcome is not CLOSED and current.needs_final:
            current.note_final(self.now)
            running.is_final, running.final_at = True, self.now
            running.has_final = True
        self.ledger.end(current, outcome, self.now)
        self.model.end(outcome)

    @precondition(lambda self: self.model.running is not None)
    @rule(failed=st.booleans())
    def handler_goes_on(self, failed: bool) -> None:
        assert self.ledger.current is not None
        assert self.model.running is not None
        if failed:
            self.ledger.current.failed = self.model.running.failed = True
        else:
            self.ledger.current.note_texts(1, 1.0)
            self.model.running.has_text, self.model.running.is_final = True, False
            self.model.running.has_answer = True

    @precondition(lambda self: self.model.running is not None)
    @rule(text=st.sampled_from(("first word", "failure text", "blank")))
    def a_text_stands_for_the_answer(self, text: str) -> None:
        current, running = self.ledger.current, self.model.running
        assert current is not None
        assert running is not None
        if text == "blank":
            current.keep(" \n")
            current.note_texts(1, 1.0)
            if current.chunks == 1:
                current.leave_out_blanks()
                assert not current.chunks
                assert current.text == ""
            else:
                running.is_final = False
        elif text == "first word" and not running.has_text:
            current.note_filler("One moment. ", 1.0)
            running.has_text, running.is_final = True, False
        elif not running.failed and not running.has_answer:
            current.note_texts(1, 1.0)
            current.failed = running.failed = current.has_failure_text = True
            running.has_text, running.is_final = True, False

    @invariant()
    def the_same_turn_is_under_way(self) -> None:
        current, running = self.ledger.current, self.model.running
        assert (None if current is None else (current.event_id, current.said)) == (running and running.seen)
        newest, under = self.ledger.newest, self.model.newest
        assert (None if newest is None else (newest.event_id, newest.said)) == (under and under.seen)
        if current is not None:
            assert current.open
            assert current.event_id_json == (b"null" if current.event_id is None else b"%d" % current.event_id)


@pytest.mark.timeout(1800)
class TestLedger(LedgerMachine.TestCase):  # type: ignore[name-defined,misc]
    """Derandomised: the same sequences each time, so that a failure is reproducible."""

    settings = settings(
        max_examples=SEQUENCES,
        stateful_step_count=20,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
