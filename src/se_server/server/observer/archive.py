"""The directory of recordings: written whole or not at all, readable by its owner alone, bounded by age and size."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from se_server.recordings.merging import merged

logger = logging.getLogger("se_server.server.observer")

SUFFIX = ".jsonl"
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")
_NAME = re.compile(r"\d{8}T\d{6}-[\w.-]+\.jsonl", re.ASCII)
_SHOWN = 60
_FORGOTTEN = ".forgotten"
_FORGOTTEN_S = 7 * 86400.0
"""No worker lives longer than this after the last conversation was forgotten, or its events are gone."""


@dataclass(frozen=True)
class Entry:
    """A recording in the directory.

    Attributes:
        path: its file.
        conversation_id: the API's id.
        size: its bytes.
        written_at_s: when it was written, in seconds since 1970.
        header: its header.
    """

    path: Path
    conversation_id: str | None
    size: int
    written_at_s: float
    header: dict[str, Any]


class Archive:
    """The recordings of one directory.

    Args:
        directory: it, as `make_directory` returned it.
        max_age_s, max_bytes: what is older, and the oldest beyond this size, are removed.

    Attributes:
        directory: it.
    """

    def __init__(self, directory: Path, max_age_s: float, max_bytes: int) -> None:
        self.directory = directory
        self._max_age_s = max_age_s
        self._max_bytes = max_bytes
        self._forgotten: set[str] = set()
        with suppress(OSError, ValueError, KeyError, TypeError):
            if time.time() - (directory / _FORGOTTEN).stat().st_mtime < _FORGOTTEN_S:
                lines = (directory / _FORGOTTEN).read_text(encoding="ascii").splitlines()
                self._forgotten = {json.loads(line)["forgotten"] for line in lines}
        self._headers: dict[tuple[str, int], dict[str, Any]] = {}

    def write(self, conversation_id: str | None, key: str, began_at_s: float, lines: Sequence[str]) -> Path:
        """Write a recording, in place of an earlier one of the same conversation, whose older lines it takes over.

        Args:
            conversation_id: the API's id.
            key: distinguishes conversations with equal ids.
            began_at_s: when it began, in seconds since 1970.
            lines: the recording.

        Raises:
            OSError: it cannot be written.
        """
        shown = _UNSAFE.sub("_", conversation_id or "")[:_SHOWN] or "unnamed"
        digest = hashlib.blake2b(f"{conversation_id}\0{key}".encode(errors="replace"), digest_size=4)
        began = time.strftime("%Y%m%dT%H%M%S", time.gmtime(began_at_s))
        path = self.directory / f"{began}-{shown}-{digest.hexdigest()}{SUFFIX}"
        known = next((known for known in self._paths() if known.name[len(began) :] == path.name[len(began) :]), None)
        if known is not None:
            path, lines = known, _with_older(known, lines)
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            descriptor = _create(draft)
        except FileNotFoundError:  # somebody has removed the directory
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = _create(draft)
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                file.writelines(line + "\n" for line in lines)
            os.replace(draft, path)
        except OSError:
            with suppress(OSError):
                draft.unlink()
            raise
        return path

    def entries(self) -> list[Entry]:
        """Return the recordings, the newest first."""
        found = []
        headers = {}
        for path in self._paths():
            try:
                stat = path.stat()
                place = (path.name, stat.st_mtime_ns)
                header = headers[place] = self._headers.get(place) or _header_of(path)
            except (OSError, ValueError):
                continue
            found.append(Entry(path, header.get("conversation_id"), stat.st_size, stat.st_mtime, header))
        self._headers = headers
        return sorted(found, key=lambda entry: -entry.written_at_s)

    def find(self, name: str) -> Entry | None:
        """Return a recording by the name of its file."""
        return next((entry for entry in self.entries() if entry.path.name == name), None)

    def of(self, conversation_id: str) -> list[Entry]:
        """Return the recordings of a conversation, the newest first."""
        return [entry for entry in self.entries() if entry.conversation_id == conversation_id]

    def forget(self, conversation_id: str, keys: Sequence[str] = ()) -> int:
        """Remove the recordings of a conversation, and return how many there were.

        Args:
            conversation_id: the API's id.
            keys: those of its conversations: they are noted, since the observer after this one reads of them again.
        """
        self._forgotten |= {_digest_of(key) for key in keys}
        if keys:
            with open(_create(self.directory / _FORGOTTEN), "w", encoding="ascii") as file:
                file.writelines(json.dumps({"forgotten": digest}) + "\n" for digest in sorted(self._forgotten))
        found = self.of(conversation_id)
        for entry in found:
            entry.path.unlink(missing_ok=True)
        return len(found)

    def is_forgotten(self, key: str) -> bool:
        """Return whether the conversation with this key was forgotten, also by an earlier observer."""
        return bool(self._forgotten) and _digest_of(key) in self._forgotten

    def prune(self) -> None:
        """Remove what is too old, and the oldest beyond the size of all."""
        left = self._max_bytes
        now = time.time()
        for entry in self.entries():
            left -= entry.size
            if left < 0 or now - entry.written_at_s > self._max_age_s:
                with suppress(OSError):
                    entry.path.unlink()
        for draft in self.directory.glob(f".*{SUFFIX}.*"):  # of an observer that was killed
            with suppress(OSError):
                if now - draft.stat().st_mtime > 60:
                    draft.unlink()

    def _paths(self) -> Iterator[Path]:
        with suppress(OSError), os.scandir(self.directory) as found:
            for item in found:
                if _NAME.fullmatch(item.name) and item.is_file(follow_symlinks=False):
                    yield self.directory / item.name


def _with_older(path: Path, lines: Sequence[str]) -> Sequence[str]:
    try:
        return merged(path.read_text(encoding="utf-8").split("\n"), lines)
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return lines  # a file that somebody has changed


def _digest_of(key: str) -> str:
    return hashlib.blake2b(key.encode(), digest_size=16).hexdigest()


def _create(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)


def _header_of(path: Path) -> dict[str, Any]:
    with path.open(encoding="utf-8") as file:
        header = json.loads(file.readline(1 << 20)).get("recording")
    if not isinstance(header, dict):
        raise ValueError("no recording")
    return header
