"""The handler of the soak: answers at once, or stops after a word, for callers that interrupt or vanish.

It imports nothing of bench, like a user's file: `se-server` loads it by path. The last message of the transcript
decides: "wait" or anything else.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any


async def answer(*, waits: bool) -> AsyncIterator[str]:
    """Yield a short answer, or the beginning of one that never ends."""
    yield "Well"
    if waits:
        await asyncio.get_running_loop().create_future()
    for word in (",", " that", " depends", "."):
        yield word


async def on_transcript(transcript: list[Any], session: Any) -> None:
    """Answer the last message."""
    await session.send_response(answer(waits=transcript[-1].content == "wait"))
