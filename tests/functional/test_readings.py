"""All habits of the API at random, in virtual time, under each reading of the API and with options at random.

Every user turn is heard once, superseded or ended by the caller's side; no handler runs twice; the API never gives up.
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest

from se_server.doctor.readings import READINGS
from se_server.testing import CallerError, Habits, Outcome, call

CONVERSATIONS, TURNS = 60, 8
WORDS = {"empty_answer_text": "Mm-hm.", "first_word_after_s": 3, "first_word_text": "One moment."}


class Agent:
    """Answers in a manner that depends on the event id, and keeps a journal of its handlers."""

    def __init__(self, seed: int, reading: str, parts_are_final: bool) -> None:
        self.seed = seed
        self.parts_are_final = parts_are_final
        # Where blanks count for nothing, a turn without words cannot be answered.
        self.manners = ["plain", "plain", "tool", "parts", "slow", "slow", "fail"]
        self.manners += ["empty"] * (reading != "wordless")
        self.runs: Counter[tuple[int, str]] = Counter()

    async def on_transcript(self, transcript: Any, session: Any) -> None:
        dice = random.Random(f"{self.seed}/{session.turn.event_id}")
        self.runs[id(session), f"{session.turn.event_id} {transcript[-1].content}"] += 1
        if session.turn.is_silence and dice.random() < 0.5:
            return
        manner = dice.choice(self.manners)
        if manner == "tool":
            await session.send_response(tool_call())
        elif manner == "slow":
            await asyncio.sleep(20 * dice.random())
        elif manner == "fail":
            raise KeyError("on purpose")
        elif manner == "empty":
            await session.send_response("")
            await asyncio.sleep(8 * dice.random())
            return
        elif manner == "parts":
            await session.send_response(spoken("One. ", "Two. "), final=self.parts_are_final)
            await asyncio.sleep(3 * dice.random())
        await session.send_response(spoken("This ", "is ", "all."))
        await asyncio.sleep(dice.choice((0, 0, 5)) * dice.random())

    def on_error(self, error: Exception, session: Any) -> None:
        """Take the errors of the API and of handlers that fail on purpose."""


async def tool_call() -> AsyncIterator[dict[str, Any]]:
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}
    yield {"choices": [{"index": 0, "delta": {"role": "assistant", "content": None, "tool_calls": [call]}}]}


async def spoken(*pieces: str) -> AsyncIterator[str]:
    for piece in pieces:
        yield piece
        await asyncio.sleep(0.1)


def options_at_random(dice: random.Random, reading: str) -> dict[str, Any]:
    options: dict[str, Any] = dict(WORDS) if reading == "wordless" else {}
    choices = {
        "retranscription": ("supersede", "adopt"),
        "finals": ("turn",) if reading == "after-final" else ("response", "turn"),
        "settle_s": (0, 0.2, 0.6),
        # Staying silent ends the call where blanks count for nothing, as documented.
        "silence_turns": ("handle",) if reading == "wordless" else ("handle", "stay_silent"),
        "failed_transcripts": ("ignore", "retry"),
        "superseded_transcripts": ("ack", "ignore"),
        "hold_after_s": (1, 2, 3, 3.5),
    }
    return {**options, **{name: dice.choice(values) for name, values in choices.items()}}


@pytest.mark.parametrize("reading", ["none", *READINGS])
async def test_no_turn_is_lost_under_any_reading(reading: str) -> None:
    dice = random.Random(reading)
    for seed in range(CONVERSATIONS):
        options = options_at_random(dice, reading)
        assert await problems_of(seed, reading, options) == [], (seed, options)


async def problems_of(seed: int, reading: str, options: dict[str, Any]) -> list[str]:
    habits = Habits.hostile(seed)
    if reading in READINGS:
        habits = dataclasses.replace(habits, **READINGS[reading].switches)
    agent = Agent(seed, reading, parts_are_final=options["finals"] == "turn")
    async with call(
        agent, habits=habits, conversation_id=f"conv_{seed}", reply_timeout_s=120, time_budget_s=36_000, **options
    ) as caller:
        for number in range(TURNS):
            await caller.say(f"These are the words of turn {number}, if you please.")
        await caller.hang_up()
        problems = [caller.verdict(turn).reason for turn in caller.turns if not is_fine(caller, turn)]
        if options["failed_transcripts"] == "ignore":
            problems += [f"ran {count} times: {run}" for run, count in agent.runs.items() if count > 1]
    return problems


def is_fine(caller: Any, turn: Any) -> bool:
    verdict = caller.verdict(turn)
    return verdict.is_ok or (verdict.outcome is Outcome.SILENT and turn.is_final)  # a handler that said nothing


@pytest.mark.parametrize(
    "off", [{"hold_after_s": "off"}, {"answered_transcripts": "ignore"}, {"empty_answer_text": ""}]
)
async def test_without_its_options_the_api_gives_up(off: dict[str, Any]) -> None:
    """The test above sees faults: with each option switched off some conversations end."""
    options = {"finals": "response", "failed_transcripts": "ignore", **off}

    async def hold_all() -> None:
        for seed in range(CONVERSATIONS):
            await problems_of(seed, "empty", options)

    with pytest.raises(CallerError, match="generation failed"):
        await hold_all()
