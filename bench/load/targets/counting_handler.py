"""A handler that numbers its chunks, so that a caller notices a lost one: the answer to "TAG 8" is TAG.0 to TAG.7."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

PAUSE_S = 0.1


async def count(tag: str, chunks: int) -> AsyncIterator[str]:
    """Yield the chunks, with a pause before each but the first."""
    for number in range(chunks):
        if number:
            await asyncio.sleep(PAUSE_S)
        yield f" {tag}.{number}"


async def on_transcript(transcript: list[Any], session: Any) -> None:
    """Answer the last message."""
    tag, chunks = transcript[-1].content.split()
    await session.send_response(count(tag, int(chunks)))
