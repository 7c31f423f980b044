"""The agent of `bench.observer_cost`: one short answer at once."""

from __future__ import annotations

from typing import Any


async def on_transcript(transcript: Any, session: Any) -> None:
    await session.send_response("Yes, of course. What else?")
