"""`chunk_pace_s`: texts are gathered once an answer is ahead of its speech; the first and the last never wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

WORDS = [f"word{number:02} " for number in range(100)]  # 7 characters each: half a second of speech
PER_S = 50


async def texts(words: list[str], per_s: float = PER_S) -> AsyncIterator[str]:
    for word in words:
        yield word
        await asyncio.sleep(1 / per_s)


async def answer(transcript: Any, session: Any) -> None:
    said = transcript[-1].content
    if said == "slowly":
        await session.send_response(texts(WORDS[:20], per_s=2))
    elif said == "failing":
        await session.send_response(failing())
    elif said == "in two parts":
        await session.send_response(texts(WORDS[:50]), final=False)
        await session.send_response(" And the rest.")
    else:
        await session.send_response(texts(WORDS))


async def failing() -> AsyncIterator[str]:
    async for text in texts(WORDS[:50]):
        yield text
    raise ValueError("It broke")


@pytest.mark.se_app({"on_transcript": answer}, chunk_pace_s=0.5)
async def test_texts_are_gathered_once_ahead_of_speech(caller: Any) -> None:
    reply = await caller.say("fast")
    assert reply.text == "".join(WORDS)
    assert reply.first_word_s < 0.05
    chunks = [chunk if isinstance(chunk, str) else chunk.text for chunk in reply.chunks]
    # Two and a half seconds of speech come at once, at 50 words a second; then two messages a second.
    assert chunks[:5] == WORDS[:5]
    assert max(map(len, chunks)) == pytest.approx(len(WORDS[0]) * PER_S * 0.5, abs=len(WORDS[0]) * 2)
    assert len(chunks) < 16
    # The end of the answer waited for nothing.
    assert reply.duration_s == pytest.approx(len(WORDS) / PER_S, abs=0.05)


@pytest.mark.se_app({"on_transcript": answer}, chunk_pace_s=0.5)
async def test_texts_at_the_pace_of_speech_never_wait(caller: Any) -> None:
    reply = await caller.say("slowly")
    assert len(reply.chunks) == 20


@pytest.mark.se_app({"on_transcript": answer})
async def test_texts_are_not_gathered_by_default(caller: Any) -> None:
    reply = await caller.say("fast")
    assert len(reply.chunks) == 100


@pytest.mark.se_app({"on_transcript": answer}, chunk_pace_s=0.5)
async def test_gathered_texts_come_before_what_follows(caller: Any) -> None:
    reply = await caller.say("in two parts")
    assert reply.text == "".join(WORDS[:50]) + " And the rest."


@pytest.mark.se_app({"on_transcript": answer}, chunk_pace_s=30, failure_text="Sorry.")
async def test_gathered_texts_are_heard_before_a_failure(caller: Any) -> None:
    reply = await caller.say("failing")
    assert reply.text == "".join(WORDS[:50])
    assert [str(error) for error in caller.errors] == ["It broke"]
    caller.errors.clear()


@pytest.mark.se_app({"on_transcript": answer}, chunk_pace_s=30)
async def test_gathered_texts_of_an_interrupted_answer_are_dropped(caller: Any) -> None:
    caller.interrupt("slowly", after_chars=35)
    reply = await caller.say("fast")
    assert reply.is_interrupted
    assert len(reply.text) < len("".join(WORDS)) // 2
