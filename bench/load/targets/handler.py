"""The user's side of every target: an ordinary coroutine that sends an ordinary async generator.

It imports nothing of bench, like a user's file: `se-server` loads it by path and the published SDK gets its function.
The last message of the transcript determines the answer: "CHUNKS TAG anything", as in "32 c7e41 and what happened
then?". After "CHUNKS TAG trickle" the stream suspends before each chunk, like that of a slow LLM.
`BENCH_CHUNK_BYTES` makes the chunks after the first that long.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

CHUNK_BYTES = int(os.environ.get("BENCH_CHUNK_BYTES", "0"))

WORDS: tuple[str, ...] = (
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
if CHUNK_BYTES:
    WORDS = tuple(word.ljust(CHUNK_BYTES, ".") for word in WORDS)


async def answer(question: str) -> AsyncIterator[str]:
    """Yield as many chunks as the question asks for; after "trickle" the loop runs before each."""
    chunks, tag, rest = question.split(" ", 2)
    trickles = rest.startswith("trickle")
    for word in (tag, *WORDS[1 : int(chunks)]):
        if trickles:
            await asyncio.sleep(0)
        yield word


async def on_transcript(transcript: list[Any], session: Any) -> None:
    """Answer the last message."""
    await session.send_response(answer(transcript[-1].content))
