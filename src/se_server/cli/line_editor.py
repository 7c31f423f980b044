"""The line that the user of se-chat types: edited with the keys of a shell, with a history and completion."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

MAX_HISTORY = 500
_ESCAPES = {
    "\x1b[A": "\x10", "\x1bOA": "\x10", "\x1b[B": "\x0e", "\x1bOB": "\x0e",  # up, down
    "\x1b[C": "\x06", "\x1bOC": "\x06", "\x1b[D": "\x02", "\x1bOD": "\x02",  # right, left
    "\x1b[H": "\x01", "\x1bOH": "\x01", "\x1b[1~": "\x01", "\x1b[7~": "\x01",  # home
    "\x1b[F": "\x05", "\x1bOF": "\x05", "\x1b[4~": "\x05", "\x1b[8~": "\x05",  # end
    "\x1b[1;5C": "\x1bf", "\x1b[1;3C": "\x1bf", "\x1b[1;5D": "\x1bb", "\x1b[1;3D": "\x1bb",  # a word on, back
    "\x1b[3~": "delete", "\x1b\x7f": "\x17", "\x1b\b": "\x17",
}  # fmt: skip
_KEY = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|O.|[^\[O])|.", re.DOTALL)
_BEGUN = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|O)?\Z")


class LineEditor:
    """A line with a cursor.

    The keys are those of readline's Emacs mode: arrows, Home, End, Ctrl-A, -E, -B, -F, -P, -N, -K, -U, -W, -Y, Alt-B,
    -F, -D, Delete. Tab completes a command.

    Args:
        history: earlier lines, the oldest first.
        commands: the words that Tab completes at the beginning of a line.

    Attributes:
        text: the line.
        cursor: the number of characters before the cursor.
    """

    def __init__(self, history: Sequence[str] = (), commands: Sequence[str] = ()) -> None:
        self.text = ""
        self.cursor = 0
        self._history = list(history)
        self._commands = commands
        self._place = len(self._history)  # in the history; its length is the line being typed
        self._typed = ""  # that line, while an earlier one is shown
        self._killed = ""
        self._unread = ""  # half an escape sequence

    def feed(self, keys: str) -> Iterator[str]:
        """Take keys, and yield the lines that they end.

        Raises:
            EOFError: Ctrl-D on an empty line; later keys are dropped.
        """
        keys = self._unread + keys
        begun = _BEGUN.search(keys)
        keys, self._unread = (keys, "") if begun is None else (keys[: begun.start()], begun[0])
        for found in _KEY.findall(keys):
            key = _ESCAPES.get(found, found)
            if key in ("\r", "\n"):
                yield self._enter()
            elif key == "\x04" and not self.text:
                raise EOFError
            else:
                self._edit(key)

    def _enter(self) -> str:
        line = self.text
        if line.strip() and self._history[-1:] != [line]:
            self._history.append(line)
        self._place, self._typed = len(self._history), ""
        self.text, self.cursor = "", 0
        return line

    def _edit(self, key: str) -> None:
        before, after = self.text[: self.cursor], self.text[self.cursor :]
        if key in _MOVES:
            self.cursor = _MOVES[key](self.text, self.cursor)
        elif key in ("\x7f", "\b"):
            self._set(before[: _left(before, len(before))], after)
        elif key in ("delete", "\x04"):
            self._set(before, after[_right(after, 0) :])
        elif key in ("\x10", "\x0e"):
            self._recall(-1 if key == "\x10" else 1)
        elif key == "\x0b":  # Ctrl-K
            self._kill(before, after, "")
        elif key == "\x15":  # Ctrl-U
            self._kill("", before, after)
        elif key == "\x17":  # Ctrl-W
            kept = re.sub(r"\S*\s*\Z", "", before)
            self._kill(kept, before[len(kept) :], after)
        elif key == "\x1bd":
            kept = after[_word_end(after, 0) :]
            self._kill(before, after[: len(after) - len(kept)], kept)
        elif key == "\x19":  # Ctrl-Y
            self._set(before + self._killed, after)
        elif key == "\t":
            self._set(self._completed(before), after)
        elif len(key) == 1 and (key.isprintable() or unicodedata.category(key) == "Cf"):  # Cf: joins emoji
            self._set(before + key, after)

    def _set(self, before: str, after: str) -> None:
        self.text, self.cursor = before + after, len(before)

    def _kill(self, before: str, killed: str, after: str) -> None:
        self._killed = killed
        self._set(before, after)

    def _recall(self, step: int) -> None:
        place = self._place + step
        if not 0 <= place <= len(self._history):
            return
        if self._place == len(self._history):
            self._typed = self.text
        self._place = place
        self.text = self._typed if place == len(self._history) else self._history[place]
        self.cursor = len(self.text)

    def _completed(self, before: str) -> str:
        if not before.startswith("/") or " " in before:
            return before + " "
        meant = [command for command in self._commands if command.startswith(before)]
        return meant[0] if len(meant) == 1 else before


def _left(text: str, cursor: int) -> int:
    """Return the place one letter to the left; marks and joiners belong to the letter before them."""
    cursor = max(0, cursor - 1)
    while cursor and _joins(text, cursor):
        cursor -= 1
    return cursor


def _right(text: str, cursor: int) -> int:
    cursor = min(len(text), cursor + 1)
    while cursor < len(text) and _joins(text, cursor):
        cursor += 1
    return cursor


def _joins(text: str, cursor: int) -> bool:
    return (
        unicodedata.category(text[cursor]) in ("Mn", "Me", "Cf")
        or text[cursor - 1] == "\u200d"
        or "\U0001f3fb" <= text[cursor] <= "\U0001f3ff"  # skin tones
    )


def _word_start(text: str, cursor: int) -> int:
    return len(re.sub(r"\w*\W*\Z", "", text[:cursor]))


def _word_end(text: str, cursor: int) -> int:
    found = re.compile(r"\W*\w*").match(text, cursor)
    return cursor if found is None else found.end()


_MOVES = {
    "\x01": lambda text, cursor: 0,
    "\x05": lambda text, cursor: len(text),
    "\x02": _left,
    "\x06": _right,
    "\x1bb": _word_start,
    "\x1bf": _word_end,
}


# --- the history of earlier chats -----------------------------------------------------------------------------------


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
