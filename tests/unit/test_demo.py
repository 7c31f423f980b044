"""The built-in demo agent."""

from __future__ import annotations

import pytest

from se_server.demo import STORY, reply
from se_server.types import ConversationMessage


def after(*said: str) -> str:
    return reply([ConversationMessage("user", text) for text in said])


@pytest.mark.parametrize("said", ["hello", "What is 2 + 2?", "...", "", "ünï çödé", "word " * 500])
def test_it_always_has_an_answer_of_speakable_length(said: str) -> None:
    assert 20 < len(after(said)) < 400


def test_reply_reflects_words_and_counts_turns() -> None:
    answer = after("first", "second", "I like trains")
    assert '"I like trains"' in answer
    assert "3 words" in answer
    assert "turn 3" in answer


def test_a_story_is_long_enough_to_be_interrupted() -> None:
    assert after("Please tell me a STORY!") == STORY
    assert len(STORY.split()) > 100


def test_it_answers_an_empty_history() -> None:
    assert reply([])
