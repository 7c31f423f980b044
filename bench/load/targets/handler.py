"""The user's side of every target: an ordinary coroutine that sends an ordinary async generator.

It stands alone, as a user's file would: `se-server` loads it by path and the published SDK gets its function. The
last message of the transcript says what to answer: "CHUNKS TAG anything", as in "32 c7e41 and what happened then?".
"""

from __future__ import annotations

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


async def on_transcript(transcript: list[Any], session: Any) -> None:
    """Answer the last message."""
    await session.send_response(answer(transcript[-1].content))
