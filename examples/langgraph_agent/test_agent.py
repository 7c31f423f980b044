"""The agent's test, on the model that its environment names: `pytest`."""

import pytest

pytestmark = pytest.mark.se_app("agent.py")


# One test: the package keeps its connections for the whole process, and each test has an event loop of its own.
async def test_it_answers_and_can_be_interrupted(caller):
    reply = await caller.say("Good morning! Who are you?")
    assert len(reply.text.split()) > 2
    assert reply.first_word_s < 5
    interruption = caller.interrupt("Wait! What did you say?", after_chars=20)
    story = await caller.say("Tell me a long story.")
    assert story.is_interrupted
    assert (await interruption).text
