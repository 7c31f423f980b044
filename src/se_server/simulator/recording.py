"""Everything that went over a conversation's wire, both ways, with its time: bounded, in memory or on disk."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from se_server.errors import CallerError

MAX_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class Record:
    """One message, or one thing that happened to a connection.

    Attributes:
        t_s: when, in seconds since the recording began.
        direction: "out" from the API to the server, "in" the other way.
        kind: "text" and "binary" are messages; "open", "close", "drop", "reset", "reconnect", "end", "ping" and "pong"
            happen to connections.
        content: the message: text, or the bytes of a binary one; of an end, how it came about.
        why: the habit that made the API do it; empty when it was none.
    """

    t_s: float
    direction: str
    kind: str
    content: str | bytes | None = None
    why: str = ""

    def line(self) -> str:
        """Return the record as one JSON object without a line end; bytes are in base64."""
        entry: dict[str, object] = {"t_s": round(self.t_s, 6), "direction": self.direction, "kind": self.kind}
        if isinstance(self.content, bytes):
            entry["base64"] = base64.b64encode(self.content).decode()
        elif self.content is not None:
            entry["text"] = self.content
        if self.why:
            entry["why"] = self.why
        return json.dumps(entry)


class Recording:
    """A conversation's records.

    Args:
        file: where each record is written as a line of JSON, at once; None keeps them in `records` instead.
        max_bytes: what is recorded at most; one "truncated" record then ends it.

    Attributes:
        records: what was recorded, when there is no file.
        is_full: whether `max_bytes` was reached.
    """

    def __init__(self, file: TextIO | None = None, *, max_bytes: int = MAX_BYTES) -> None:
        self.records: list[Record] = []
        self.is_full = False
        self._file = file
        self._left_bytes = max_bytes
        self._began: float | None = None

    def add(self, now: float, direction: str, kind: str, content: str | bytes | None = None, why: str = "") -> None:
        """Write something down; `now` is in seconds of the conversation's clock.

        Raises:
            OSError: the file cannot take it.
        """
        if self.is_full:
            return
        if self._began is None:
            self._began = now
        record = Record(now - self._began, direction, kind, content, why)
        line = record.line() + "\n"
        self._left_bytes -= len(line)
        if self._left_bytes < 0:
            self.is_full = True
            record = Record(record.t_s, direction, "truncated")
            line = record.line() + "\n"
        if self._file is None:
            self.records.append(record)
        else:
            self._file.write(line)


def load_recording(path: Path) -> list[Record]:
    """Read a recording from disk.

    Raises:
        CallerError: the file cannot be read or is no recording; the sentence names the line.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        lines = data.decode().split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise CallerError(f"{path}: cannot read the recording: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > MAX_BYTES:
        raise CallerError(f"{path}: larger than {MAX_BYTES // 1024 // 1024} MiB, which no recording is")
    records = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            content = base64.b64decode(entry["base64"]) if "base64" in entry else entry.get("text")
            record = Record(float(entry["t_s"]), entry["direction"], entry["kind"], content, entry.get("why", ""))
            is_message = record.kind in ("text", "binary")
            if record.direction not in ("in", "out") or (is_message and not isinstance(content, str | bytes)):
                raise ValueError("no record")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise CallerError(f"{path}, line {number}: this is no record of a conversation") from None
        records.append(record)
    return records
