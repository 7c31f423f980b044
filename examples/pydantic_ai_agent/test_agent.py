"""The agent's tests, on the model that its environment names: `pytest`."""

import pytest

pytestmark = pytest.mark.se_app("agent.py")


async def test_it_answers(caller):
    reply = await caller.say("Good morning! Who are you?")
    assert len(reply.text.split()) > 2
    assert reply.first_word_s < 5


async def test_it_can_be_interrupted(caller):
    interruption = caller.interrupt("Wait! What did you say?", after_chars=20)
    story = await caller.say("Tell me a long story.")
    assert story.is_interrupted
    assert (await interruption).text
