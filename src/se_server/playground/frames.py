"""The frames of a conversation, as the page shows them."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

from se_server.simulator.recording import Record, Recording

SHOWN_BYTES = 64 * 1024
"""A longer frame is cut on the page; the recording has it whole."""


class Frames(Recording):
    """A recording that tells of each record.

    Args:
        on_record: called with the place of each record.
    """

    def __init__(self, on_record: Callable[[int], None]) -> None:
        super().__init__()
        self._on_record = on_record

    def add(self, now: float, direction: str, kind: str, content: str | bytes | None = None, why: str = "") -> None:
        """Add a record."""
        count = len(self.records)
        super().add(now, direction, kind, content, why)
        if len(self.records) > count:
            self._on_record(count)


def frame_of(record: Record, number: int) -> dict[str, Any]:
    """Return a frame for the page; `number` is its place in the recording."""
    content = record.content
    entry: dict[str, Any] = {
        "number": number,
        "t_s": record.t_s,
        "direction": record.direction,
        "frame": record.kind,
        "why": record.why,
    }
    if isinstance(content, bytes):
        entry["base64"] = base64.b64encode(content[:SHOWN_BYTES]).decode()
    elif content is not None:
        entry["text"] = content[:SHOWN_BYTES]
        entry["cut_chars"] = max(0, len(content) - SHOWN_BYTES)
    return entry
