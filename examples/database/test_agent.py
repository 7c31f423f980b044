"""The agent's tests, on the model that its environment names: `pytest`."""

import pytest

pytestmark = pytest.mark.se_app("agent.py")


async def test_it_speaks_while_it_looks_an_order_up(caller):
    reply = await caller.say("Where is my order 42?")
    assert "One moment, I look that up. " in reply.text
    assert not reply.text.endswith("One moment, I look that up. ")
    assert reply.first_word_s < 5


async def test_it_can_be_interrupted(caller):
    interruption = caller.interrupt("Wait! What did you say?", after_chars=40)
    first = await caller.say("Where is my order 42, and what is in it?")
    assert first.is_interrupted
    assert (await interruption).text
