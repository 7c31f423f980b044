"""The agent of `bench.observed`: two texts with its process id and its supervisor's, and harm on request."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

from bench.chaos_agent import do_harm


async def words() -> AsyncIterator[str]:
    for _ in range(2):
        yield f"{os.getpid()} {os.getppid()}"
        await asyncio.sleep(0.005)


async def on_transcript(transcript: Any, session: Any) -> None:
    do_harm(transcript[-1].content)
    await session.send_response(words())
