"""Play a script: hold its conversation and report the expectations that were not met."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from se_server.errors import CallerError
from se_server.simulator.calls import CallTurn
from se_server.simulator.conversation import Conversation
from se_server.simulator.judge import span
from se_server.simulator.script import Expect, Replay, Script, Step

_SHOWN_CHARS = 200


@dataclass(frozen=True)
class Failure:
    """An expectation that was not met.

    Attributes:
        step: the number of the step, counted from 1; 0 for the whole conversation.
        expected: the expectation in words.
        heard: the words heard instead.
        reason: the judge's sentence about the turn, or the end of the conversation.
    """

    step: int
    expected: str
    heard: str
    reason: str

    def __str__(self) -> str:
        where = f"step {self.step}: " if self.step else ""
        heard = f"heard {_shown(self.heard)}" if self.heard else "heard nothing"
        return f"{where}expected {self.expected}, {heard}" + (f" ({self.reason})" if self.reason else "")


async def play(
    script: Script, caller: Conversation, on_failure: Callable[[Failure], None] | None = None
) -> list[Failure]:
    """Hold the conversation of a script.

    Args:
        script: the script.
        caller: an open conversation with the script's habits and id.
        on_failure: called with each failure as it happens.

    Returns:
        The expectations that were not met. The conversation continues after each, while it is open.
    """
    failures: list[Failure] = []

    def fail(failure: Failure) -> None:
        failures.append(failure)
        if on_failure is not None:
            on_failure(failure)

    if script.conversation is not None:
        await _play_python(script.conversation, caller, fail)
        return failures
    for number, step in enumerate(script.steps, 1):
        following = script.steps[number] if number < len(script.steps) else None
        try:
            if isinstance(step, Replay):
                await _replay(step, caller)
            else:
                waits = not isinstance(following, Step) or not _cuts_in(following)
                for expected, turn in await _take(step, caller, waits=waits):
                    heard, reason = ("", "") if turn is None else (turn.heard, caller.verdict(turn).reason)
                    fail(Failure(number, expected, heard, reason))
        except CallerError as error:
            turn = caller.model.turn
            expected = "an answer" if isinstance(step, Replay) else _wanted(step)
            fail(Failure(number, expected, "" if turn is None else turn.heard, str(error)))
            return failures
    if any(isinstance(step, Replay) for step in script.steps):
        for verdict in caller.summary().turns:
            if not verdict.is_ok:
                fail(Failure(0, f"a proper answer to {_shown(verdict.said)}", verdict.heard, verdict.reason))
    return failures


def _cuts_in(step: Step) -> bool:
    is_silence = step.say is None and step.expect is not None and step.expect.silence
    return step.interrupt is not None or step.wait_s is not None or step.hang_up or step.reconnect or is_silence


def _wanted(step: Step) -> str:
    if step.ping:
        return "a pong"
    words = step.say or step.interrupt
    return f"an answer to {_shown(words)}" if words else "the conversation to go on"


async def _take(step: Step, caller: Conversation, *, waits: bool) -> list[tuple[str, CallTurn | None]]:
    """Carry out a step. Return the expectations that were not met, each with its turn."""
    if step.say is not None:
        await caller.quiet()
        turn = caller.utter(step.say)
        if (waits or step.expect is not None) and not (step.expect and step.expect.silence):
            await caller.answered(turn)
    elif step.interrupt is not None:
        await _interrupt(step, step.interrupt, caller)
    elif step.wait_s is not None:
        await asyncio.sleep(step.wait_s)
    elif step.ping:
        await caller.ping()
    elif step.reconnect:
        await caller.reconnect()
    elif step.hang_up:
        caller.drop()
        await caller.wait_ended()
    elif step.close:
        await caller.close()
    if step.expect is None:
        return []
    spoken = caller.model.turn
    if spoken is None:
        return [("an answer, but nothing was said before", None)]
    if step.expect.silence:
        await _listen(spoken, caller, step.expect.within_s)
    elif spoken.is_answering:
        await caller.answered(spoken)
    if _is_disturbed(caller, spoken):
        return []  # a habit cut off the answer; the server is not at fault
    return [(expected, spoken) for expected in unmet(step.expect, spoken)]


async def _interrupt(step: Step, words: str, caller: Conversation) -> None:
    turn = caller.model.turn
    try:
        await caller.interrupt(words, after_chars=step.after_chars, after_s=step.after_s)
    except CallerError:
        if turn is None or not _is_disturbed(caller, turn):
            raise
        await caller.say(words)


def _is_disturbed(caller: Conversation, turn: CallTurn) -> bool:
    """Whether a habit cut off an answer: the user spoke by habit, or the connection broke."""
    newest = caller.model.turn
    return (
        turn.is_habit or turn.interrupted_by == "api" or (newest is not turn and newest is not None and newest.is_habit)
    )


async def _listen(turn: CallTurn, caller: Conversation, within_s: float | None) -> None:
    """Wait until the first word, until none can come any more, or until the time is over."""
    until = caller.now + (1.0 if within_s is None else within_s)
    while not turn.chunks and turn.is_answering and caller.ended is None and caller.now < until:
        if not await caller.changed(until - caller.now):
            return


def unmet(expect: Expect, turn: CallTurn) -> list[str]:
    """Return the expectations that a turn does not meet, in words."""
    heard = turn.heard
    if expect.silence:
        return ["silence"] if turn.chunks else []
    failed = [_shown(text) for text in expect.contains if text.lower() not in heard.lower()]
    if expect.equals is not None and heard.strip() != expect.equals.strip():
        failed.append(f"exactly {_shown(expect.equals)}")
    if expect.matches is not None and re.search(expect.matches, heard) is None:
        failed.append(f"a match of {expect.matches!r}")
    for limit_s, at, what in (
        (expect.within_s, turn.first_chunk_at, "the first word"),
        (expect.complete_within_s, turn.final_at, "the whole answer"),
    ):
        if limit_s is not None and (at is None or at - turn.said_at > limit_s):
            took = "it never came" if at is None else f"it took {span(at - turn.said_at)}"
            failed.append(f"{what} within {limit_s:g} s, but {took}")
    return failed


async def _replay(step: Replay, caller: Conversation) -> None:
    turn = caller.model.turn
    if turn is not None:
        ask = turn.asks[-1]
        while ask.final_at is None and (step.is_final or len(ask.text) < step.heard_chars):
            await caller.event("answer")
    if step.gap_s:
        await asyncio.sleep(step.gap_s)
    if step.hangs_up:
        caller.drop()
    elif step.content is None:
        await caller.reconnect(repeats=False)
    else:
        caller.replay(step.content)


async def _play_python(
    conversation: Callable[..., object], caller: Conversation, fail: Callable[[Failure], None]
) -> None:
    try:
        result = conversation(caller)
        if inspect.isawaitable(result):
            await result
    except (AssertionError, CallerError) as error:
        file = getattr(getattr(conversation, "__code__", None), "co_filename", "")
        where, trace = "", error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == file:
                where = f"{Path(file).name}, line {trace.tb_lineno}"
            trace = trace.tb_next
        expected = (
            f"what {where} says" if isinstance(error, AssertionError) else f"the conversation to go on at {where}"
        )
        fail(Failure(0, expected, caller.heard, str(error)))


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…")
