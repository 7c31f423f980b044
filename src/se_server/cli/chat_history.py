"""The lines that the user has typed in earlier chats."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

MAX_HISTORY = 500


def history_file(environ: Mapping[str, str]) -> Path:
    """Return the file of the history, in the user's directory for such states."""
    given = environ.get("XDG_STATE_HOME", "")
    base = Path(given) if os.path.isabs(given) else Path(environ.get("HOME", "/nonexistent"), ".local", "state")
    return base / "se-server" / "chat_history"


def load_history(path: Path) -> list[str]:
    """Return the lines of earlier chats, the oldest first; none if there is no file."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    lines = ["".join(letter for letter in line if letter.isprintable()) for line in text.split("\n")]
    return [line for line in lines if line][-MAX_HISTORY:]


def save_line(path: Path, line: str) -> None:
    """Add a line to the history. What is typed may be private: only the user may read the file."""
    with suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        kept = load_history(path)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", encoding="utf-8", errors="replace") as file:
            file.writelines(f"{each}\n" for each in [*kept, line][-MAX_HISTORY:])
