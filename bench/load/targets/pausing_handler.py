"""The shared handler, in an app that records each run of the garbage collector in the file PAUSES_TO.

Each conversation keeps the messages of its next request to a language model, as agents do.
"""

from __future__ import annotations

import gc
import json
import os
import time
from pathlib import Path
from typing import Any

from bench.load.targets import handler

_pauses: list[tuple[float, float, int]] = []
_began_at = 0.0


def _note(phase: str, info: dict[str, int]) -> None:
    global _began_at
    now = time.monotonic()
    if phase == "start":
        _began_at = now
    else:
        _pauses.append((_began_at, now - _began_at, info["generation"]))


def on_startup() -> None:
    """Register the collector's callback, as late as an app can."""
    gc.callbacks.append(_note)


async def on_transcript(transcript: list[Any], session: Any) -> None:
    """Answer the last message."""
    session.prompt = [{"role": message.role, "content": message.content} for message in transcript]
    await handler.on_transcript(transcript, session)


def on_shutdown() -> None:
    """Write the collections: start in monotonic seconds, duration, and generation."""
    gc.callbacks.remove(_note)
    Path(os.environ["PAUSES_TO"]).write_text(json.dumps(_pauses))
