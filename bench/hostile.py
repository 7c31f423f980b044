"""Conversations with all of the API's bad habits at random against a real server, judged from outside and inside.

`python -m bench.hostile [--conversations 500] [--turns 20] [--seed 0] [--retranscription adopt] [--reading empty]`. The
simulator judges the answers that the caller heard; the agent's journal (`hostile_agent.py`) lists the handlers that
ran. Requirements:

* A user turn is answered exactly once, word for word and under its newest id, or is cut short by the API's side
  itself: the user spoke again, or the connection broke.
* No handler runs twice for one utterance: on one connection at most once for the same event id and the same words. With
  `--retranscription adopt` also at most once for the same words under several ids, unless an answer had begun.
* No conversation is ended by the API for a missing answer, and the handler of a caller's last words runs, too.
* Nothing is sent under an id that the server had to know was outdated, or that no transcript had.
* The server logs no error, and it stops with exit code 0.

`--reading` is how the API takes answers (`se_server/doctor/readings.py`); the server gets the options that fit it:
words in place of blanks for "wordless", one final a turn for "after-final". With "ignore" the API loses no answers, and
the server does not replay them.

`--scale` multiplies all times, those of the API's habits and those of the agent. Exit code 0: all requirements hold;
1: one does not, and the report names the conversation; 2: it could not be run.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import itertools
import json
import math
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.hostile_agent import answer_to
from bench.kernel import BenchError
from bench.load.targets import API_KEY
from se_server.doctor.readings import READINGS
from se_server.errors import CallerError
from se_server.protocol.words import same_words
from se_server.simulator.caller import Caller
from se_server.simulator.calls import CallTurn
from se_server.simulator.habits import Habits
from se_server.simulator.judge import Outcome
from se_server.simulator.model import GENERATION_FAILED
from se_server.simulator.utterances import LAST_WORDS

AGENT = Path(__file__).with_name("hostile_agent.py")
READY = re.compile(r"ready: (ws://\S+)")
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 40.0
REPLY_TIMEOUT_S = 30.0
HOLD_AFTER_S = 3.0
FILLER = "One moment, please."
EMPTY = "Mm-hm."
MAX_SHOWN = 30

THINGS = ("lamp", "train", "garden", "kettle", "violin", "letter", "window", "harbour", "ladder", "pillow", "candle")
Key = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Plan:
    """The size of a run and its options."""

    conversations: int
    turns: int
    seed: int
    scale: float
    at_once: int
    retranscription: str
    reading: str


@dataclass(slots=True)
class Held:
    """A finished conversation: its turns by their ids, and its faults."""

    turns: list[CallTurn] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    asked: int = 0
    discarded: int = 0
    is_closed: bool = False  # by a close handshake, so that everything before it has arrived


# --- from outside: the answers that the caller heard ----------------------------------------------------------------


async def hold(url: str, plan: Plan, number: int) -> Held:
    """Hold one conversation, and judge it as its caller would."""
    name = f"hostile-{plan.seed}-{number}"
    dice = random.Random(name)
    held = Held()
    habits = habits_of(plan)
    try:
        async with Caller.connect(
            url,
            api_key=API_KEY,
            conversation_id=name,
            habits=habits,
            connect_timeout_s=20,
            reply_timeout_s=REPLY_TIMEOUT_S,
        ) as caller:
            for turn in range(plan.turns):
                first, second = dice.sample(THINGS, 2)
                await caller.say(f"In turn {turn} of {number}, what do you think of the {first}, or the {second}?")
            await caller.quiet()
            held.turns = caller.model.turns
            held.discarded = caller.model.discarded
            if caller.model.violations:
                held.problems.append(f"{name}: {caller.model.violations} messages broke the protocol")
            if caller.model.end_reason == GENERATION_FAILED:
                held.problems.append(f"{name}: the API ended the conversation for missing answers")
            for place, each in enumerate(held.turns):
                verdict = caller.verdict(each)
                held.outcomes[verdict.outcome.value] += 1
                held.asked += verdict.tries
                adopts = plan.retranscription == "adopt"
                if wrong := what_is_wrong(each, verdict.outcome, is_ok=verdict.is_ok, adopts=adopts):
                    held.problems.append(f"{name}, turn {place}, ids {verdict.event_ids}: {wrong} ({verdict.reason})")
        held.is_closed = caller.ended is not None and caller.ended.is_clean
    except CallerError as error:
        held.problems.append(f"{name}: {error}")
    return held


def habits_of(plan: Plan) -> Habits:
    """Return the habits of a run: all at random, under its reading of the API."""
    habits = Habits.hostile(plan.seed).scaled(plan.scale)
    # The pauses of the machine have no scale: the API gives up as late as it does with its own times.
    habits = dataclasses.replace(habits, max_tries=math.ceil(habits.max_tries / min(plan.scale, 1.0)))
    if plan.reading == "ignore":
        return dataclasses.replace(habits, loses_answer=False)
    reading = READINGS.get(plan.reading)
    return habits if reading is None else dataclasses.replace(habits, **reading.switches)  # type: ignore[arg-type]


def options_of(plan: Plan) -> list[str]:
    """Return the options of the server that fit the reading."""
    hold_after_s = f"{HOLD_AFTER_S * plan.scale:g}"
    options = ["--retranscription", plan.retranscription, "--hold-after-s", hold_after_s]
    if plan.reading == "wordless":
        options += ["--empty-answer-text", EMPTY, "--first-word-after-s", hold_after_s, "--first-word-text", FILLER]
    elif plan.reading == "after-final":
        options += ["--finals", "turn"]
    elif plan.reading == "ignore":
        options += ["--answered-transcripts", "ignore"]
    return options


def what_is_wrong(turn: CallTurn, outcome: Outcome, *, is_ok: bool, adopts: bool = False) -> str:
    """Return a caller's complaint; empty when there is none.

    Args:
        turn: the user's words and the answer.
        outcome: the turn's outcome.
        is_ok: whether the simulator's judge is content.
        adopts: whether an answer to the same words under an older id is accepted.
    """
    if turn.is_silence:
        return "" if is_ok else "a silence was not answered as it should be"
    newest = turn.asks[-1].wording
    same = [ask.wording for ask in turn.asks if adopts and same_words(ask.wording, newest)]
    answers = {"".join(answer_to(wording)) for wording in (newest, *same)}
    if not is_ok:
        return "not heard as it should be"
    heard = turn.heard.removeprefix(f"{FILLER} ")
    if outcome is Outcome.HEARD and heard not in answers:
        return f"heard {turn.heard!r} instead of {' or '.join(map(repr, sorted(answers)))}"
    if not any(answer.startswith(heard) or f"{FILLER} ".startswith(heard) for answer in answers):
        return f"heard {turn.heard!r}, which begins none of {', '.join(map(repr, sorted(answers)))}"
    return ""


# --- from inside: the handlers that ran -----------------------------------------------------------------------------


def read_journal(directory: Path) -> list[dict[str, Any]]:
    """Return the lines of all workers' journals."""
    lines = [line for path in sorted(directory.glob("*.jsonl")) for line in path.read_text().splitlines()]
    return [json.loads(line) for line in lines]


def judge_runs(journal: Sequence[dict[str, Any]], held: Sequence[Held], plan: Plan) -> tuple[list[str], int]:
    """Find handlers that ran twice for one utterance, or for none.

    Returns:
        The faults, and the number of handlers that ran.
    """
    runs: dict[Key, list[dict[str, Any]]] = defaultdict(list)
    pieces = {
        (line["conversation"], line["run"], line["connection"]): line["pieces"]
        for line in journal
        if line["what"] == "ended"
    }
    problems = []
    for line in journal:
        if line["what"] == "began":
            line["pieces"] = pieces.get((line["conversation"], line["run"], line["connection"]))
            if line["pieces"] is None:
                problems.append(f"{line['conversation']}, id {line['event_id']}: a handler began, and never ended")
            runs[line["conversation"], line["event_id"]].append(line)
    known: set[Key] = set()
    for number, conversation in enumerate(held):
        name = f"hostile-{plan.seed}-{number}"
        for turn in conversation.turns:
            ran = []
            for ask in turn.asks:
                known.add((name, ask.event_id))
                again = runs.get((name, ask.event_id), [])
                ran += again
                # A turn adopted before its handler began has the new id and its first words.
                adopts = plan.retranscription == "adopt"
                is_said = [
                    turn.is_agent_last
                    or run["words"] == ask.wording
                    or (adopts and same_words(run["words"], ask.wording))
                    for run in again
                ]
                if not all(is_said):
                    problems.append(f"{name}, id {ask.event_id}: a handler ran with other words than were said")
                if repeated := [it for it, times in Counter(run["connection"] for run in again).items() if times > 1]:
                    problems.append(f"{name}, id {ask.event_id}: handlers ran again on connection {repeated[0]}")
            if plan.retranscription == "adopt":
                problems += not_adopted(name, turn, ran)
            if turn.said == LAST_WORDS and conversation.is_closed and not ran:
                problems.append(f"{name}: no handler saw the caller's last words")
    heard_of = {f"hostile-{plan.seed}-{number}" for number, each in enumerate(held) if each.turns}
    strangers = [key for key in runs if key[0] in heard_of and key not in known]
    problems += [f"{name}, id {event_id}: a handler ran that no transcript asked for" for name, event_id in strangers]
    return problems, sum(map(len, runs.values()))


def not_adopted(name: str, turn: CallTurn, runs: Sequence[dict[str, Any]]) -> list[str]:
    """Find answers that were restarted although the same words arrived while the agent was still silent."""
    ordered = sorted(runs, key=lambda run: int(run["run"]))

    def is_superseded_between(earlier: dict[str, Any], later: dict[str, Any]) -> bool:
        # Other words in between end the earlier turn, even if their own handler never ran.
        between = [ask for ask in turn.asks if earlier["event_id"] < ask.event_id < later["event_id"] and ask.sent_at]
        return any(not same_words(ask.wording, later["words"]) for ask in between)

    return [
        f"{name}: id {later['event_id']} started again what id {earlier['event_id']} had not begun to say"
        for earlier, later in itertools.pairwise(ordered)
        if earlier["connection"] == later["connection"]
        and same_words(earlier["words"], later["words"])
        and not earlier["pieces"]
        and not is_superseded_between(earlier, later)
    ]


# --- the server -----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Server:
    """The server under test, its log and its exit code."""

    url: str
    log: str = ""
    exit_code: int | None = None


@asynccontextmanager
async def serving(plan: Plan, journal: Path) -> AsyncIterator[Server]:
    """Run `se-server` with two workers, and stop it gracefully; its log and exit code are available afterwards."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("SE_SERVER_")},
        "ELEVENLABS_API_KEY": API_KEY,
        "HOSTILE_JOURNAL": str(journal),
        "HOSTILE_SCALE": str(plan.scale),
        "HOSTILE_PARTS": "finals" if plan.reading == "after-final" else "open",
    }
    command = [sys.executable, "-m", "se_server.cli.server", str(AGENT), "--workers", "2"]
    command += ["--host", "127.0.0.1", "--port", "0", *options_of(plan)]
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(  # noqa: ASYNC220  it takes milliseconds, and nothing else runs yet
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )

        def printed() -> str:
            return os.pread(output.fileno(), 1 << 24, 0).decode(errors="replace")

        try:
            deadline = time.monotonic() + START_TIMEOUT_S
            while (ready := READY.search(printed())) is None:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise BenchError(
                        f"se-server was not ready in time; it said: {printed()[-2000:].strip() or 'nothing'}"
                    )
                await asyncio.sleep(0.05)
            server = Server(ready[1])
            yield server
            process.send_signal(signal.SIGTERM)
            try:
                server.exit_code = await asyncio.to_thread(process.wait, STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                server.exit_code = None
            server.log = printed()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def log_problems(server: Server) -> list[str]:
    """Return errors in the log, and an exit code other than 0."""
    wrong = [line for line in server.log.splitlines() if re.search(r"\b(ERROR|CRITICAL)\b|Traceback", line)]
    if server.exit_code is None:
        wrong.append(f"se-server did not stop within {STOP_TIMEOUT_S:g} s")
    elif server.exit_code:
        wrong.append(f"se-server ended with exit code {server.exit_code}")
    return wrong


# --- the run --------------------------------------------------------------------------------------------------------


async def hold_all(url: str, plan: Plan) -> list[Held]:
    """Hold all conversations, `at_once` at a time, and print the progress."""
    free = asyncio.Semaphore(plan.at_once)
    done: list[Held] = []

    async def one(number: int) -> Held:
        async with free:
            held = await hold(url, plan, number)
            done.append(held)
            return held

    async def tell() -> None:
        while True:
            await asyncio.sleep(5)
            problems = sum(len(held.problems) for held in done)
            print(
                f"  {len(done)} of {plan.conversations} conversations, {problems} problems", file=sys.stderr, flush=True
            )

    telling = asyncio.ensure_future(tell())
    try:
        return await asyncio.gather(*(one(number) for number in range(plan.conversations)))
    finally:
        telling.cancel()


async def run(plan: Plan) -> int:
    """Hold, judge, report."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        async with serving(plan, Path(directory)) as server:
            held = await hold_all(server.url, plan)
        journal = read_journal(Path(directory))
    outside = [problem for each in held for problem in each.problems]
    inside, ran = judge_runs(journal, held, plan)
    logged = log_problems(server)
    outcomes = sum((each.outcomes for each in held), Counter[str]())
    rows = [
        ("conversations", len(held)),
        ("user turns", sum(outcomes.values())),
        *((f"  {name}", count) for name, count in outcomes.most_common()),
        ("transcripts sent", sum(each.asked for each in held)),
        ("handlers run", ran),
        ("errors of the API noticed", sum(line["what"] == "peer error" for line in journal)),
        ("malformed messages noticed", sum(line["what"] == "malformed" for line in journal)),
        ("chunks that crossed a newer transcript", sum(each.discarded for each in held)),
        ("lines of the log, warnings among them", f"{len(server.log.splitlines())}, {server.log.count(' WARNING ')}"),
        ("wrong: heard by callers", len(outside)),
        ("wrong: handlers run", len(inside)),
        ("wrong: errors in the log", len(logged)),
    ]
    print(
        f"seed {plan.seed}, {plan.retranscription}, reading {plan.reading}, times x {plan.scale:g},"
        f" {time.monotonic() - began:.0f} s"
    )
    for name, value in rows:
        print(f"  {name:<40} {value:>10}")
    problems = [*outside, *inside, *logged]
    for problem in problems[:MAX_SHOWN]:
        print(f"  ! {problem}")
    if len(problems) > MAX_SHOWN:
        print(f"  ... and {len(problems) - MAX_SHOWN} more")
    return 1 if problems else 0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.hostile", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--conversations", type=int, default=500)
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scale", type=float, default=0.25, help="multiplies all times (0.25)")
    parser.add_argument("--at-once", type=int, default=100, help="conversations at the same time (100)")
    parser.add_argument("--retranscription", choices=("supersede", "adopt"), default="supersede")
    parser.add_argument("--reading", choices=("none", *READINGS, "ignore"), default="none")
    try:
        return asyncio.run(run(Plan(**vars(parser.parse_args(arguments)))))
    except BenchError as error:
        print(f"Not run: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
