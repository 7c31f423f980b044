"""The agent of `bench.attacks`: the question's first word is the answer's size, or a way to be busy."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

logger = logging.getLogger("agent")


async def _deep(frames: int) -> None:
    if frames:
        await _deep(frames - 1)
    else:
        await asyncio.sleep(60)


async def on_transcript(transcript: Any, session: Any) -> None:
    what, _, size = (transcript[-1].content if transcript else "").partition(" ")
    if not size.isdigit():
        what = "answer"
    if what == "much":
        for _ in range(int(size)):
            await session.send_response("x" * 65536, final=False)
    elif what == "wait":
        await asyncio.sleep(int(size))
    elif what == "deep":
        await _deep(int(size))
    elif what == "log":
        for _ in range(int(size)):
            logger.info("x" * 1000)
    await session.send_response("well, ", final=False)
    await session.send_response("that is all")
