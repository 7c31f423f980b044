"""The agent of `bench.chaos`: answers with its process id, and harms its process on request."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

LEAK_BYTES = 120 << 20
leaked: list[bytearray] = []


def do_harm(said: str) -> None:
    """Harm this process if a caller says so."""
    if said == "hang":
        time.sleep(3600)
    elif said == "leak":
        leaked.append(bytearray(b"x") * LEAK_BYTES)


async def on_transcript(transcript: Any, session: Any) -> None:
    do_harm(transcript[-1].content)
    await asyncio.sleep(0.01)
    await session.send_response(f"{os.getpid()}")
