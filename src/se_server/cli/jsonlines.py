"""A conversation for programs: one JSON object a line for each event."""

from __future__ import annotations

import json
import time
from typing import TextIO

from se_server.cli.screen import write


class JsonLines:
    """A `Screen` that writes JSON.

    Each line has `t_s`, the seconds since the first, and `event`: `said` (`text`, `interrupts`), `heard` (`text`),
    `answered` (`first_text_s`), or the kind of a note (`text` and more).

    Args:
        out: the output.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._began = time.monotonic()

    def heard(self, text: str) -> None:
        self._put("heard", text=text)

    def answered(self, first_text_s: float | None = None) -> None:
        self._put("answered", first_text_s=None if first_text_s is None else round(first_text_s, 4))

    def said(self, text: str, *, interrupts: bool) -> None:
        self._put("said", text=text, interrupts=interrupts)

    def note(self, text: str, kind: str = "note", **details: object) -> None:
        self._put(kind, text=text, **details)

    def prompt(self) -> None:
        """Show nothing: a program needs no prompt."""

    def _put(self, event: str, **fields: object) -> None:
        entry = {"t_s": round(time.monotonic() - self._began, 4), "event": event, **fields}
        write(self._out, json.dumps(entry) + "\n")
