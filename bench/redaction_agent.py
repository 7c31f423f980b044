"""The agent of `bench.redaction`: repeats what it hears in chunks, or raises it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any


async def pieces(text: str) -> AsyncIterator[str]:
    for at in range(0, len(text), 5):
        yield text[at : at + 5]


async def on_transcript(transcript: Any, session: Any) -> None:
    said = transcript[-1].content
    if said.startswith("fail"):
        raise ValueError(f"no customer {said}")
    await session.send_response(pieces(f"you said {said}"))
