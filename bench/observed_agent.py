"""The agent of `bench.observed`: two texts with its process id and its supervisor's, and harm on request."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from typing import Any

from bench.chaos_agent import LEAK_BYTES, leaked


async def words() -> AsyncIterator[str]:
    for _ in range(2):
        yield f"{os.getpid()} {os.getppid()}"
        await asyncio.sleep(0.005)


async def on_transcript(transcript: Any, session: Any) -> None:
    said = transcript[-1].content
    if said == "hang":
        time.sleep(3600)  # noqa: ASYNC251  that is the harm
    elif said == "leak":
        leaked.append(bytearray(b"x") * LEAK_BYTES)
    await session.send_response(words())
