"""The user's side of every target: an ordinary coroutine that sends an ordinary async generator.

It stands alone, as a user's file would: `se-server` loads it by path and the published SDK gets its function. The
last message of the transcript says what to answer: "CHUNKS TAG anything", as in "32 c7e41 and what happened then?".
After "CHUNKS TAG trickle" the stream suspends before each chunk, as that of a slow LLM does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

WORDS = (
    *(
        "",
        " well",
        ",",
        " the",
        " short",
        " answer",
        " is",
        " that",
        " it",
        " depends",
        " on",
        " what",
        " you",
        " mean",
    ),
    *(" by", " ready", ".", " Most", " orders", " leave", " the", " same", " day", ",", " and", " yours", " is", " no"),
    *(" different", " from", " those", "."),
)
"""The chunks of an answer after the first, which is the tag of the question; about the size of an LLM's tokens."""


async def answer(question: str) -> AsyncIterator[str]:
    """Yield as many chunks as the question asks for, without a pause between them."""
    chunks, tag, _ = question.split(" ", 2)
    yield tag
    for word in WORDS[1 : int(chunks)]:
        yield word


async def trickle(question: str) -> AsyncIterator[str]:
    """Yield the same, and suspend before each chunk: the loop gets a turn."""
    async for text in answer(question):
        await asyncio.sleep(0)
        yield text


async def on_transcript(transcript: list[Any], session: Any) -> None:
    """Answer the last message."""
    question = transcript[-1].content
    await session.send_response(trickle(question) if " trickle" in question else answer(question))
