"""Speaking while a tool runs, with `final=False`: every word is heard once, however the API reads the protocol."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from se_server.doctor.readings import READINGS
from se_server.testing import Habits, call

TOOL_S = (0.0, 0.5, 3.5, 20.0)
BEFORE, AFTER = "One moment, I look that up. ", "It leaves on Friday."


async def words(text: str) -> AsyncIterator[str]:
    for word in text.split(" "):
        await asyncio.sleep(0.05)
        yield word + " "


async def tool_calls() -> AsyncIterator[dict[str, Any]]:
    asked = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}
    yield {"choices": [{"index": 0, "delta": {"role": "assistant", "content": None, "tool_calls": [asked]}}]}


def agent(tool_s: float, ended: list[str]) -> Any:
    """Return the pattern of docs/agents.md: all answers but the last have `final=False`."""

    async def on_transcript(transcript: Any, session: Any) -> None:
        await session.send_response(tool_calls(), final=False)
        looking = asyncio.create_task(asyncio.sleep(tool_s, "found"))
        try:
            await session.send_response(BEFORE, final=False)
            await looking
            await session.send_response(words(AFTER))
        finally:
            looking.cancel()
            ended.append(transcript[-1].content)

    return on_transcript


def habits_of(reading: str) -> Habits:
    return Habits(**READINGS[reading].switches) if reading in READINGS else Habits()


@pytest.mark.parametrize("tool_s", TOOL_S)
@pytest.mark.parametrize("reading", ["none", *READINGS])
async def test_all_words_are_heard_under_each_reading(reading: str, tool_s: float) -> None:
    ended: list[str] = []
    async with call(agent(tool_s, ended), habits=habits_of(reading)) as caller:
        reply = await caller.say("Where is my order?")
        assert reply.text.split() == (BEFORE + AFTER).split()
        assert reply.first_word_s == 0  # nobody waits for the tool to hear that it runs
        assert (await caller.say("And the other?")).text.split() == (BEFORE + AFTER).split()
        assert caller.summary().is_ok, caller.summary().problems
    assert len(ended) == 2  # no handler ran twice


@pytest.mark.parametrize("reading", ["none", *READINGS])
async def test_an_interruption_ends_the_tool(reading: str) -> None:
    ended: list[str] = []
    async with call(agent(10, ended), habits=habits_of(reading)) as caller:
        interruption = caller.interrupt("Wait!", after_s=2)
        first = await caller.say("Where is my order?")
        assert first.is_interrupted
        assert first.text.strip() == BEFORE.strip()
        assert (await interruption).text.split() == (BEFORE + AFTER).split()
    assert ended == ["Where is my order?", "Wait!"]


async def test_a_final_before_the_tool_loses_the_rest() -> None:
    """The tests above see faults: where the first answer is final, the API that stops at finals plays no more."""

    async def on_transcript(transcript: Any, session: Any) -> None:
        await session.send_response(BEFORE)
        await session.send_response(AFTER)

    async with call(on_transcript, habits=habits_of("after-final")) as caller:
        assert AFTER not in (await caller.say("Where is my order?")).text
