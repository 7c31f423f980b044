"""Record the traffic of a conversation with its times, bounded, in memory or on disk."""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

from se_server.recordings.reading import load_recorded
from se_server.recordings.records import MAX_BYTES, Record

__all__ = ["MAX_BYTES", "Record", "Recording", "load_recording"]


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
    """Load the traffic of a recording from a file.

    Raises:
        CallerError: the file cannot be read or is not a recording; the message names the line.
    """
    return load_recorded(path).records
