"""`bench.hostile`, short: two workers handle all habits at random, and the checks detect faults."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.hostile import Held, Plan, Server, judge_runs, log_problems, what_is_wrong
from bench.hostile_agent import answer_to
from se_server.simulator.calls import Ask, CallTurn
from se_server.simulator.judge import Outcome

RUN_TIMEOUT_S = 90


@pytest.mark.parametrize(
    ("retranscription", "reading"),
    [
        ("supersede", "none"),
        ("adopt", "none"),
        ("supersede", "empty"),
        ("adopt", "wordless"),
        ("supersede", "after-final"),
    ],
)
def test_every_turn_of_hostile_conversations_is_heard_once(retranscription: str, reading: str) -> None:
    options = ["--conversations", "20", "--turns", "5", "--at-once", "20", "--scale", "0.1"]
    done = subprocess.run(
        [sys.executable, "-m", "bench.hostile", *options, "--retranscription", retranscription, "--reading", reading],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=RUN_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def turn_of(*asks: tuple[int, str]) -> CallTurn:
    turn = CallTurn(asks[-1][1], 0.0)
    turn.asks = [Ask(event_id, words, "", [0.0]) for event_id, words in asks]
    return turn


def run_of(number: int, event_id: int, words: str, *, connection: str = "1-1", pieces: int = 3) -> list[dict[str, Any]]:
    run = {"conversation": "hostile-0-0", "connection": connection, "run": number, "event_id": event_id, "words": words}
    return [{"what": "began", **run}, {"what": "ended", **run, "pieces": pieces}]


def runs_judged(turn: CallTurn, *runs: list[dict[str, Any]], retranscription: str = "supersede") -> list[str]:
    plan = Plan(1, 1, 0, 1.0, 1, retranscription, "none")
    problems, ran = judge_runs([line for run in runs for line in run], [Held([turn])], plan)
    assert ran == len(runs)
    return problems


def test_a_handler_repeated_for_one_id_is_found() -> None:
    turn = turn_of((7, "hello"))
    assert runs_judged(turn, run_of(1, 7, "hello")) == []
    assert runs_judged(turn, run_of(1, 7, "hello"), run_of(2, 7, "hello")) == [
        "hostile-0-0, id 7: handlers ran again on connection 1-1"
    ]
    # Over a new connection the question is a new one: the session that knew it is gone.
    assert runs_judged(turn, run_of(1, 7, "hello"), run_of(2, 7, "hello", connection="2-1")) == []


def test_a_handler_without_a_matching_transcript_is_found() -> None:
    assert runs_judged(turn_of((7, "hello")), run_of(1, 7, "bye")) == [
        "hostile-0-0, id 7: a handler ran with other words than were said"
    ]
    assert runs_judged(turn_of((7, "hello")), run_of(1, 8, "hello")) == [
        "hostile-0-0, id 8: a handler ran that no transcript asked for"
    ]


def test_a_handler_that_never_ends_is_found() -> None:
    assert runs_judged(turn_of((7, "hello")), run_of(1, 7, "hello")[:1]) == [
        "hostile-0-0, id 7: a handler began, and never ended"
    ]


def test_an_unadopted_answer_is_found_unless_begun() -> None:
    turn = turn_of((7, "hello there"), (9, "Hello there."))
    silent = [run_of(1, 7, "hello there", pieces=0), run_of(2, 9, "Hello there.")]
    assert runs_judged(turn, *silent) == []
    assert runs_judged(turn, *silent, retranscription="adopt") == [
        "hostile-0-0: id 9 started again what id 7 had not begun to say"
    ]
    other = turn_of((7, "hello there"), (8, "hello"), (9, "Hello there."))  # 8 ended 7, and 9 came before it began
    assert runs_judged(other, *silent, retranscription="adopt") == []
    waiting = run_of(1, 9, "hello there")  # adopted before its handler began
    assert runs_judged(turn, waiting, retranscription="adopt") == []
    assert runs_judged(turn, waiting) == ["hostile-0-0, id 9: a handler ran with other words than were said"]
    speaking = [run_of(1, 7, "hello there", pieces=1), run_of(2, 9, "Hello there.")]
    assert runs_judged(turn, *speaking, retranscription="adopt") == []


def test_a_repeated_partial_or_foreign_answer_is_found() -> None:
    turn, answer = turn_of((7, "hello")), answer_to("hello")
    turn.chunks = answer
    assert what_is_wrong(turn, Outcome.HEARD, is_ok=True) == ""
    turn.chunks = [*answer, *answer]
    assert what_is_wrong(turn, Outcome.HEARD, is_ok=True).startswith("heard 'You said: hello")
    turn.chunks = answer[:-1]
    assert what_is_wrong(turn, Outcome.HEARD, is_ok=True)
    assert what_is_wrong(turn, Outcome.INTERRUPTED, is_ok=True) == ""
    turn.chunks = answer_to("bye")[:2]
    assert "which begins none of" in what_is_wrong(turn, Outcome.INTERRUPTED, is_ok=True)


def test_adoption_accepts_the_answer_under_an_older_id() -> None:
    turn = turn_of((7, "hello there"), (9, "Hello there."))
    turn.chunks = answer_to("hello there")
    assert what_is_wrong(turn, Outcome.HEARD, is_ok=True, adopts=True) == ""
    assert what_is_wrong(turn, Outcome.HEARD, is_ok=True)
    turn.chunks = answer_to("hello")
    assert what_is_wrong(turn, Outcome.HEARD, is_ok=True, adopts=True)


@pytest.mark.parametrize(
    ("log", "exit_code", "count"),
    [("INFO [1] fine\nWARNING [1] slow", 0, 0), ("ERROR [1] x", 0, 1), ("Traceback (most recent", 0, 1), ("", 1, 1)],
)
def test_logged_errors_and_a_bad_end_are_found(log: str, exit_code: int, count: int) -> None:
    assert len(log_problems(Server("ws://x", log, exit_code))) == count
