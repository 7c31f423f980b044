"""The handler of the soak: answers at once, or never goes on after a word, for callers who interrupt or vanish.

It stands alone, as a user's file would: `se-server` loads it by path. The last message of the transcript says which:
"wait" or anything else.
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
