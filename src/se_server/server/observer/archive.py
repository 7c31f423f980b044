"""The directory of recordings: written whole or not at all, readable by its owner alone, bounded by age and size."""

from __future__ import annotations

import errno
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
_DAMAGED = (OSError, ValueError, AttributeError, RecursionError)


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


@dataclass(frozen=True)
class Erased:
    """The result of an order to forget.

    Attributes:
        count: how many recordings were removed.
        left: what was not erased, a clause each, with the cause and the way out.
    """

    count: int
    left: Sequence[str] = ()


class Archive:
    """The recordings of one directory.

    Args:
        directory: it, as `make_directory` returned it.
        max_age_s, max_bytes: what is older, and the oldest beyond this size, are removed.

    Attributes:
        directory: it.
    """

    _first: int | None = None

    def __init__(self, directory: Path, max_age_s: float, max_bytes: int) -> None:
        self.directory = directory
        self._max_age_s = max_age_s
        self._max_bytes = max_bytes
        self._forgotten: set[str] = set()
        with suppress(OSError, ValueError, KeyError, TypeError):
            if time.time() - (directory / _FORGOTTEN).stat().st_mtime < _FORGOTTEN_S:
                lines = (directory / _FORGOTTEN).read_text(encoding="ascii").splitlines()
                self._forgotten = {json.loads(line)["forgotten"] for line in lines}
        self._noted = len(self._forgotten)  # of them, those in the file
        self._headers: dict[tuple[str, int], dict[str, Any]] = {}
        # The directory itself: another may take its name.
        with suppress(OSError):
            self._first = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        """Let the directory go."""
        if self._first is not None:
            os.close(self._first)
            self._first = None

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
        shown = _shown(conversation_id)
        digest = hashlib.blake2b(f"{conversation_id}\0{key}".encode(errors="replace"), digest_size=4)
        began = time.strftime("%Y%m%dT%H%M%S", time.gmtime(began_at_s))
        path = self.directory / f"{began}-{shown}-{digest.hexdigest()}{SUFFIX}"
        known = next((known for known in self._paths() if known.name[len(began) :] == path.name[len(began) :]), None)
        if known is not None:
            path, lines = known, _with_older(known, lines)
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        descriptor = self._create(draft)
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
            except _DAMAGED:
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

    def forget(self, conversation_id: str, keys: Sequence[str] = ()) -> Erased:
        """Remove the recordings of a conversation, and return what was removed and what could not be.

        Args:
            conversation_id: the API's id.
            keys: those of its conversations: they are noted, since the observer after this one reads of them again.
        """
        self._forgotten |= {_digest_of(key) for key in keys}
        count, left = 0, []
        try:
            self._note_forgotten()
        except OSError as error:
            left.append(
                f"{self.directory / _FORGOTTEN} cannot be written ({error.strerror}), so a restarted observer may keep"
                " the conversation again: make the directory writable, and forget it again"
            )
        files = re.compile(rf"\d{{8}}T\d{{6}}-{re.escape(_shown(conversation_id))}-[0-9a-f]{{8}}\.jsonl", re.ASCII)
        refused: list[tuple[str, OSError]] = []
        try:
            drafts, whole = self._files_of(conversation_id, files)
        except OSError as error:
            if self._elsewhere() is None:
                left.append(f"{self.directory} cannot be read ({error.strerror}): mend that, and forget it again")
            drafts, whole = [], []
        for path in [*drafts, *whole]:
            try:
                path.unlink(missing_ok=True)
                count += path not in drafts
            except OSError as error:
                refused.append((path.name, error))
        if refused:
            name, cause = refused[0]
            more = f" and {len(refused) - 1} more" if len(refused) > 1 else ""
            left.append(
                f"{name}{more} in {self.directory} cannot be removed ({cause.strerror}): make the directory writable,"
                " and forget it again"
            )
        if (elsewhere := self._elsewhere()) is not None and self._first is not None:
            moved = [name for name in os.listdir(self._first) if files.fullmatch(name)]
            if moved:
                left.append(
                    f"{self.directory} is not the directory that it was when recording began: that one is now"
                    f" {elsewhere}, and has {', '.join(sorted(moved)[:3])}: remove that there"
                )
        return Erased(count, left)

    def _files_of(self, conversation_id: str, files: re.Pattern[str]) -> tuple[list[Path], list[Path]]:
        """Return the drafts and the recordings of a conversation, also those whose header cannot be read.

        Raises:
            OSError: the directory cannot be read.
        """
        drafts, whole = [], [entry.path for entry in self.of(conversation_id)]
        try:
            names = os.listdir(self.directory)
        except FileNotFoundError:
            names = []
        known = {name for name, _ in self._headers}  # their headers could be read
        for name in names:
            if name.startswith(".") and files.fullmatch(name[1:].rpartition(".")[0]):
                drafts.append(self.directory / name)
            elif files.fullmatch(name) and name not in known:
                whole.append(self.directory / name)
        return drafts, whole

    def _elsewhere(self) -> str | None:
        """Return the path of the directory of the beginning, if another has taken its name; None if it is removed."""
        if self._first is None:
            return None
        first = os.fstat(self._first)
        with suppress(OSError):
            now = self.directory.stat()
            if (now.st_dev, now.st_ino) == (first.st_dev, first.st_ino):
                return None
        if not first.st_nlink:
            return None
        try:
            return os.readlink(f"/proc/self/fd/{self._first}")
        except OSError:
            return "somewhere else"

    def _note_forgotten(self) -> None:
        """Write the digests of conversations that were forgotten, if there are new ones.

        Raises:
            OSError: they cannot be written.
        """
        if len(self._forgotten) == self._noted:
            return
        if not self.directory.exists() and self._elsewhere() is not None:  # moved: it may be moved back
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        with open(self._create(self.directory / _FORGOTTEN), "w", encoding="ascii") as file:
            file.writelines(json.dumps({"forgotten": digest}) + "\n" for digest in sorted(self._forgotten))
        self._noted = len(self._forgotten)

    def _create(self, path: Path) -> int:
        """Create a file, and the directory if somebody has removed it."""
        try:
            return _create(path)
        except FileNotFoundError:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            return _create(path)

    def is_forgotten(self, key: str) -> bool:
        """Return whether the conversation with this key was forgotten, also by an earlier observer."""
        return bool(self._forgotten) and _digest_of(key) in self._forgotten

    def prune(self) -> None:
        """Remove what is too old, and the oldest beyond the size of all."""
        with suppress(OSError):
            self._note_forgotten()
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


def _shown(conversation_id: str | None) -> str:
    """Return the part of a file's name that has the id."""
    return _UNSAFE.sub("_", conversation_id or "")[:_SHOWN] or "unnamed"


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
