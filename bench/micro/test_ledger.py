"""The cost of the turn ledger's verdict on a transcript: a new turn, or a remembered one. It has no peers."""

from __future__ import annotations

from itertools import count

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from se_server.protocol.turn import Turn
from se_server.protocol.turns import ANSWERED, MAX_PAST_TURNS, TurnLedger, Verdict

SAID = "and when will it be at my door?"


def answered(ledger: TurnLedger, event_id: int) -> Verdict:
    """Judge one transcript, answer it, and return the verdict."""
    turn = Turn(event_id, 0.0, None, SAID)
    verdict = ledger.judge(turn)
    ledger.begin(turn)
    turn.note_texts(1, 1.0)
    ledger.end(turn, ANSWERED, 2.0)
    return verdict


@pytest.mark.benchmark(group="ledger")
def test_a_new_turn(benchmark: BenchmarkFixture) -> None:
    ledger = TurnLedger()
    event_ids = count(1)
    assert answered(ledger, next(event_ids)) is Verdict.NEW
    benchmark(lambda: answered(ledger, next(event_ids)))


@pytest.mark.parametrize("verdict", [Verdict.REPEATED, Verdict.ANSWERED, Verdict.SUPERSEDED], ids=lambda v: v.name)
@pytest.mark.benchmark(group="ledger")
def test_sent_again(benchmark: BenchmarkFixture, verdict: Verdict) -> None:
    """The current turn again, or one of the remembered ones."""
    ledger = TurnLedger()
    for event_id in range(1, MAX_PAST_TURNS):
        if verdict is Verdict.SUPERSEDED:
            ledger.begin(Turn(event_id, 0.0, None, SAID))
        else:
            answered(ledger, event_id)
    ledger.begin(Turn(MAX_PAST_TURNS, 0.0, None, SAID))
    again = MAX_PAST_TURNS if verdict is Verdict.REPEATED else MAX_PAST_TURNS // 2

    def judge() -> Verdict:
        return ledger.judge(Turn(again, 0.0, None, SAID))

    assert judge() is verdict
    benchmark(judge)
