"""Record the traffic of a conversation with its times, bounded, in memory or on disk."""

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
    """One message, or one event of a connection.

    Attributes:
        t_s: the time since the recording began, in seconds.
        direction: "out" from the API to the server, "in" from the server to the API.
        kind: "text" and "binary" are messages; "open", "close", "drop", "reset", "reconnect", "end", "ping" and "pong"
            are events of connections.
        content: the text or bytes of a message; for an end, its description.
        why: the habit that made the API act; empty without one.
    """

    t_s: float
    direction: str
    kind: str
    content: str | bytes | None = None
    why: str = ""

    def line(self) -> str:
        """Return the record as one JSON object without a line end; bytes are encoded in base64."""
        entry: dict[str, object] = {"t_s": round(self.t_s, 6), "direction": self.direction, "kind": self.kind}
        if isinstance(self.content, bytes):
            entry["base64"] = base64.b64encode(self.content).decode()
        elif self.content is not None:
            entry["text"] = self.content
        if self.why:
            entry["why"] = self.why
        return json.dumps(entry)


class Recording:
    """The records of a conversation.

    Args:
        file: receives each record at once as a line of JSON; None keeps the records in `records`.
        max_bytes: the size limit; a final "truncated" record marks that it was reached.

    Attributes:
        records: the records, when there is no file.
        is_full: whether `max_bytes` was reached.
    """

    def __init__(self, file: TextIO | None = None, *, max_bytes: int = MAX_BYTES) -> None:
        self.records: list[Record] = []
        self.is_full = False
        self._file = file
        self._left_bytes = max_bytes
        self._began: float | None = None

    def add(self, now: float, direction: str, kind: str, content: str | bytes | None = None, why: str = "") -> None:
        """Add a record; `now` is in seconds of the conversation's clock.

        Raises:
            OSError: the file cannot be written.
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
    """Load a recording from a file.

    Raises:
        CallerError: the file cannot be read or is not a recording; the message names the line.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        lines = data.decode().split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise CallerError(f"{path}: cannot read the recording: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > MAX_BYTES:
        raise CallerError(f"{path}: larger than {MAX_BYTES // 1024 // 1024} MiB, the limit of a recording")
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
                raise ValueError("not a record")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise CallerError(f"{path}, line {number}: not a record of a conversation") from None
        records.append(record)
    return records
