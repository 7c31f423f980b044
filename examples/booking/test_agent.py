"""The agent's tests: `pytest examples/booking`. The provider's six seconds of pauses take no real time."""

from __future__ import annotations

import agent
import pytest

from se_server.testing import Caller, Habits, MakeCaller


@pytest.fixture
def se_app() -> object:
    return agent


async def test_it_answers_in_time(caller: Caller) -> None:
    reply = await caller.say("Hello?")
    assert reply.text == "I book tables. When would you come? "
    assert reply.first_word_s is not None
    assert reply.first_word_s < 2


async def test_it_speaks_before_it_uses_the_tool(caller: Caller) -> None:
    reply = await caller.say("Is there a table on Friday?")
    assert reply.text == "One moment, I look that up. I found this: two tables on Friday. "
    assert reply.first_word_s == 1.5


async def test_it_can_be_interrupted(caller: Caller) -> None:
    caller.interrupt("Wait!", after_chars=40)
    first = await caller.say("Is there a table on Friday?")
    assert first.is_interrupted
    assert "Friday." not in first.text
    assert (await caller.say("Hello?")).text.startswith("I book tables.")


async def test_a_failing_tool_is_not_hidden(caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(day: str) -> str:
        raise ConnectionError("the book of reservations is away")

    monkeypatch.setattr(agent, "free_tables", fail)
    reply = await caller.say("Is there a table on Friday?")
    assert reply.text == "One moment, I look that up. "
    assert str(caller.errors.pop()) == "the book of reservations is away"


async def test_it_handles_the_habits_of_the_live_api(make_caller: MakeCaller) -> None:
    caller = make_caller(habits=Habits.live())
    await caller.say("Hello?")
    await caller.say("Is there a table on Friday?")
    assert caller.summary().is_ok, caller.summary().problems
