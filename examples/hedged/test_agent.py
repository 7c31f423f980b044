"""The agent's tests, on the models that its environment names: `pytest`."""

import agent
import pytest
from openai import AsyncOpenAI

pytestmark = pytest.mark.se_app("agent.py")


async def test_it_answers(caller):
    reply = await caller.say("Good morning! Who are you?")
    assert len(reply.text.split()) > 2
    assert reply.first_word_s < 5


async def test_the_backup_answers_when_the_primary_is_away(caller, monkeypatch, caplog):
    monkeypatch.setattr(agent, "primary", AsyncOpenAI(base_url="http://127.0.0.1:9/v1", max_retries=0))
    assert (await caller.say("Good morning! Who are you?")).text
    assert "was answered by backup 1" in caplog.text


async def test_it_can_be_interrupted(caller):
    interruption = caller.interrupt("Wait! What did you say?", after_chars=20)
    story = await caller.say("Tell me a long story.")
    assert story.is_interrupted
    assert (await interruption).text
