"""The options of the flight recorder."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import ClassVar

from se_server.errors import ConfigError
from se_server.options import interval, memory, one_of, option, text

LEVELS = ("off", "shape", "redacted", "full")
MIN_TAPE_BYTES = 64 * 1024
DEFAULT_ON = "error,api-error,abnormal,slow=4"
_TRIGGERS = ("error", "api-error", "abnormal")
_EXPECTED = "triggers with commas between them: error, api-error, abnormal, slow=SECONDS, one-in=N"


@dataclass(frozen=True)
class Triggers:
    """The conversations that are written without being asked for.

    Attributes:
        names: those of `error`, `api-error` and `abnormal` that were given.
        slow_s: a turn whose first text took longer; None for none.
        one_in: one conversation of so many; None for none.
    """

    names: frozenset[str] = frozenset()
    slow_s: float | None = None
    one_in: int | None = None

    def __str__(self) -> str:
        """Return the option's text, as `triggers` reads it."""
        given = [name for name in _TRIGGERS if name in self.names]
        given += [] if self.slow_s is None else [f"slow={self.slow_s}"]
        given += [] if self.one_in is None else [f"one-in={self.one_in}"]
        return ",".join(given) or "none"


def triggers(raw: object) -> Triggers:
    """Read `error,api-error,abnormal,slow=4,one-in=1000`; an empty text is none of them."""
    if isinstance(raw, Triggers):
        return raw
    if not isinstance(raw, str):
        raise ValueError(_EXPECTED)
    names, slow_s, one_in = set(), None, None
    given: list[str] = []
    for item in filter(None, map(str.strip, raw.split(","))):
        name, has_value, value = item.partition("=")
        name = name.strip().lower().replace("_", "-")
        given.append(name)
        try:
            if name == "slow" and has_value:
                slow_s = interval(value.strip())
            elif name == "one-in" and has_value:
                one_in = int(value)
                if one_in < 1:
                    raise ValueError
            elif name in _TRIGGERS and not has_value:
                names.add(name)
            elif name != "none" or has_value:
                raise ValueError
        except (ValueError, OverflowError):
            raise ValueError(_EXPECTED) from None
    if "none" in given and len(set(given)) > 1:
        raise ValueError(f"none alone, or {_EXPECTED}")
    if twice := [name for name in ("slow", "one-in") if given.count(name) > 1]:
        raise ValueError(f"{twice[0]} once, among {_EXPECTED}")
    return Triggers(frozenset(names), slow_s, one_in)


@dataclass(frozen=True)
class Recording:
    """The flight recorder.

    Attributes:
        record: `off`, `shape`, `redacted` or `full`.
        record_dir: the directory of recordings; None keeps them in memory until someone asks.
        record_on: the conversations that are written without being asked for.
        record_memory: bytes of texts that are kept in memory.
        record_max_age_s: a recording of this age in seconds is removed.
        record_max_bytes: the size of all recordings; beyond it the oldest are removed.
        tape_bytes: the memory of a worker's tape; 0 where no texts are recorded.
        record_redactor: MODULE:FUNCTION or FILE.py:FUNCTION that takes a text and returns it without what is private.
    """

    HEADING: ClassVar[str] = "Recording"

    record: str = option(
        "off",
        one_of(*LEVELS),
        "Keep the last minutes of all conversations: shape has times, ids and lengths, redacted has texts without card"
        " numbers, addresses and telephone numbers, full has everything.",
        "|".join(LEVELS),
        default_text="off",
    )
    record_dir: str | None = option(
        None, text, "Write the conversations that --record-on names to this directory.", "DIR", default_text="none"
    )
    record_on: Triggers = option(
        triggers(DEFAULT_ON),
        triggers,
        "The conversations to write: error, api-error, abnormal (its connection broke), slow=SECONDS (to a first text),"
        " one-in=N.",
        "LIST",
        default_text=DEFAULT_ON,
    )
    record_memory: int = option(
        32 * 1024 * 1024,
        memory,
        "Memory for texts, in all. What does not fit is left out and counted.",
        "BYTES",
        default_text="32MiB",
    )
    record_max_age_s: float = option(
        7 * 86400.0, interval, "Remove a recording at this age.", "SECONDS", default_text="604800, a week"
    )
    record_max_bytes: int = option(
        1024**3, memory, "Remove the oldest recordings beyond this size of all.", "SIZE", default_text="1GiB"
    )
    record_redactor: str | None = option(
        None,
        text,
        "A function that takes each text of a redacted recording and returns it without what is private.",
        "MODULE:FUNCTION",
        default_text="none",
    )

    tape_bytes: int = 0

    @property
    def level(self) -> str:
        """`off`, `shape`, `redacted` or `full`."""
        return self.record

    @property
    def has_texts(self) -> bool:
        """Whether texts are recorded."""
        return self.record in ("redacted", "full")

    @property
    def kept_bytes(self) -> int:
        """The bytes of texts that the observer keeps."""
        return self.record_memory // 2


NO_RECORDING = Recording()


def open_recording(options: Recording, workers: int) -> Recording:
    """Make the directory of recordings, and return the options with the size of a worker's tape.

    Raises:
        ConfigError: an option is missing, has no use, or cannot be used.
    """
    if options.level == "off":
        for name in _without_default(options):
            raise ConfigError(f"{name} is for recordings: give --record shape, redacted or full too")
        return options
    if options.record_dir is None:
        raise ConfigError(f"--record {options.record} needs a directory: give --record-dir DIR")
    if options.record_redactor is not None and options.level != "redacted":
        raise ConfigError("--record-redactor is for --record redacted: leave it out, or record redacted")
    if options.level == "shape" and options.record_memory != NO_RECORDING.record_memory:
        raise ConfigError(
            "--record-memory is for texts, which --record shape has not: leave it out, or record redacted"
        )
    directory = make_directory(options.record_dir)
    tape_bytes = 0
    if options.has_texts:
        # A half is for the workers, of which a reload has twice as many; the other half is for the observer.
        tape_bytes = options.record_memory // (4 * workers)
        if tape_bytes < MIN_TAPE_BYTES:
            least = 4 * workers * MIN_TAPE_BYTES // 1024
            raise ConfigError(f"--record-memory is too small for {workers} workers: give at least {least}KiB")
    return replace(options, record_dir=str(directory), tape_bytes=tape_bytes)


def _without_default(options: Recording) -> Iterator[str]:
    """Yield the options that were given."""
    for field in fields(options):
        if field.name.startswith("record_") and getattr(options, field.name) != getattr(NO_RECORDING, field.name):
            yield "--" + field.name.replace("_", "-")


def make_directory(name: str) -> Path:
    """Make the directory of recordings, if it is not there.

    Raises:
        ConfigError: it cannot be made, or others can read it.
    """
    path = Path(name)
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = path.stat()
        if found.st_uid == os.getuid() and found.st_mode & 0o077:
            raise ConfigError(f"--record-dir: others can read {name}: chmod 700 {name}, or give another directory")
        if not os.access(path, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "this process cannot write to it")
    except OSError as error:
        raise ConfigError(f"--record-dir: cannot use {name}: {error.strerror}") from None
    return path.resolve()
