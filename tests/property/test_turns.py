"""The ledger against a model in plain Python, driven by any order of transcripts and endings."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from se_server.protocol.turn import Turn
from se_server.protocol.turns import ANSWERED, CLOSED, MAX_PAST_TURNS, SUPERSEDED, TurnLedger, TurnState, Verdict

# LEDGER_SEQUENCES=5000 takes minutes, the default seconds.
SEQUENCES = int(os.environ.get("LEDGER_SEQUENCES", "500"))

WORDS = ("book it", "Book it!", "book it please", "no", "3.5", "35", "...", "", None)
SAME = {"book it": "book it", "Book it!": "book it", "book it please": "please", "no": "no", "3.5": "3.5", "35": "35"}

Key = tuple[int, str | None]


class Model:
    """The table of verdicts, with a list for the past; simple rather than fast."""

    def __init__(self, adopts: bool) -> None:
        self.adopts = adopts
        self.running: tuple[int | None, str | None] | None = None
        self.silent = True
        self.failed = False
        self.past: list[tuple[Key, TurnState]] = []

    def judge(self, event_id: int | None, said: str | None) -> Verdict:
        if event_id is None:
            return Verdict.NEW
        if self.running == (event_id, said):
            return Verdict.REPEATED
        outcome = dict(self.past).get((event_id, said))
        if outcome is not None:
            return Verdict.SUPERSEDED if outcome is SUPERSEDED else Verdict.ANSWERED
        if self.adopts and self.running is not None and self.silent and not self.failed:
            running_id, running_said = self.running
            words = SAME.get(said or "")
            if running_id is not None and words is not None and words == SAME.get(running_said or ""):
                return Verdict.ADOPTED
        return Verdict.NEW

    def remember(self, outcome: TurnState) -> None:
        assert self.running is not None
        event_id, said = self.running
        if event_id is not None:
            key = event_id, said
            self.past = [item for item in self.past if item[0] != key]
            self.past = [*self.past, (key, outcome)][-MAX_PAST_TURNS:]

    def end(self, outcome: TurnState) -> None:
        self.remember(outcome)
        self.running = None

    def begin(self, event_id: int | None, said: str | None) -> None:
        if self.running is not None:
            self.remember(SUPERSEDED)
        self.running, self.silent, self.failed = (event_id, said), True, False


class LedgerMachine(RuleBasedStateMachine):
    """Ledger and model get the same events, and must judge every transcript alike."""

    @initialize(adopts=st.booleans())
    def start(self, adopts: bool) -> None:
        self.ledger = TurnLedger(adopts)
        self.model = Model(adopts)
        self.fresh = 100

    def receive(self, event_id: int | None, said: str | None) -> None:
        turn = Turn(event_id, 0.0, self, said)
        verdict = self.ledger.judge(turn)
        assert verdict is self.model.judge(event_id, said)
        if verdict is Verdict.NEW:
            before, running = self.ledger.current, self.model.running
            superseded = self.ledger.begin(turn)
            assert superseded is before
            if superseded is not None:
                assert superseded.interrupted
                assert not superseded.open
                assert (superseded.event_id, superseded.said) == running
            self.model.begin(event_id, said)
        elif verdict is Verdict.ADOPTED:
            self.ledger.adopt(turn)
            self.model.remember(SUPERSEDED)
            self.model.running = (event_id, said)

    @rule(event_id=st.one_of(st.none(), st.integers(0, 6)), said=st.sampled_from(WORDS))
    def transcript(self, event_id: int | None, said: str | None) -> None:
        self.receive(event_id, said)

    @precondition(lambda self: bool(self.model.past))
    @rule(data=st.data())
    def old_transcript(self, data: st.DataObject) -> None:
        (event_id, said), _ = data.draw(st.sampled_from(self.model.past))
        self.receive(event_id, said)

    @rule(count=st.integers(1, MAX_PAST_TURNS + 2), outcome=st.sampled_from((ANSWERED, SUPERSEDED)))
    def many_turns(self, count: int, outcome: TurnState) -> None:
        for _ in range(count):
            self.fresh += 1
            self.receive(self.fresh, "no" if self.model.adopts else "book it")
            if outcome is ANSWERED or self.model.adopts:
                self.ledger_end(outcome if outcome is ANSWERED else CLOSED)

    def ledger_end(self, outcome: TurnState) -> None:
        assert self.ledger.current is not None
        self.ledger.end(self.ledger.current, outcome)
        self.model.end(outcome)

    @precondition(lambda self: self.model.running is not None)
    @rule(outcome=st.sampled_from((ANSWERED, CLOSED)))
    def handler_ends(self, outcome: TurnState) -> None:
        self.ledger_end(outcome)

    @precondition(lambda self: self.model.running is not None)
    @rule(failed=st.booleans())
    def handler_goes_on(self, failed: bool) -> None:
        assert self.ledger.current is not None
        if failed:
            self.ledger.current.failed = self.model.failed = True
        else:
            self.ledger.current.note_texts(1, 1.0)
            self.model.silent = False

    @invariant()
    def the_same_turn_is_under_way(self) -> None:
        current = self.ledger.current
        assert (None if current is None else (current.event_id, current.said)) == self.model.running
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
