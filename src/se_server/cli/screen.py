"""The `Screen` of se-chat, and its plain form: lines for pipes, files and dumb terminals."""

from __future__ import annotations

import asyncio
import codecs
import os
import unicodedata
from collections.abc import Callable
from typing import Protocol, TextIO

import click

AGENT = "agent> "
YOU = "you> "
INTERRUPTED = "—"


class OutputError(Exception):
    """The output cannot be written; the text is the system's reason."""


class Screen(Protocol):
    """An output that shows a conversation."""

    def heard(self, text: str) -> None:
        """Show a piece of the agent's answer."""

    def answered(self, first_text_s: float | None = None) -> None:
        """Mark the answer as complete, and show the seconds to its first text."""

    def said(self, text: str, *, interrupts: bool) -> None:
        """Show the user's words, and mark an answer that they interrupt."""

    def note(self, text: str, kind: str = "note", **details: object) -> None:
        """Show a remark that is not part of the conversation; `kind` and `details` are for programs."""

    def prompt(self) -> None:
        """Show that it is the user's turn."""


class Paint:
    """Colours for one output: none if it is not a terminal, or if NO_COLOR (no-color.org) is set."""

    def __init__(self, out: TextIO) -> None:
        dumb = os.environ.get("TERM", "dumb") == "dumb"
        self.is_on = out.isatty() and not dumb and not os.environ.get("NO_COLOR")

    def __call__(self, text: str, **style: object) -> str:
        return click.style(text, **style) if self.is_on else text  # type: ignore[arg-type]

    def agent(self) -> str:
        return self(AGENT.rstrip(), fg="cyan", bold=True) + " "

    def you(self) -> str:
        return self(YOU.rstrip(), fg="green", bold=True) + " "


class Transcript:
    """Shows a conversation as plain lines.

    Args:
        out: the output.
        echo: whether to print the user's words; not needed when the terminal has shown them.
    """

    def __init__(self, out: TextIO, *, echo: bool) -> None:
        self._out = out
        self._paint = Paint(out)
        self._echo = echo
        self._in_answer = False

    def heard(self, text: str) -> None:
        if not self._in_answer and not text.strip():
            return  # a blank stands for an answer without words
        shown = printable(text) if self._out.isatty() else text
        self._put(shown if self._in_answer else self._paint.agent() + shown)
        self._in_answer = True

    def answered(self, first_text_s: float | None = None) -> None:
        if not self._in_answer:
            self._put(self._paint.agent() + self._paint("(no answer)", dim=True))
        elif first_text_s is not None and self._out.isatty():  # other outputs have the words alone
            self._put(self._paint(f"  {shown_s(first_text_s)}", dim=True))
        self._put("\n")
        self._in_answer = False

    def said(self, text: str, *, interrupts: bool) -> None:
        if interrupts:
            self._put(("" if self._in_answer else self._paint.agent()) + self._paint(INTERRUPTED, fg="yellow") + "\n")
        self._in_answer = False
        if self._echo:
            self._put(self._paint.you() + text + "\n")

    def note(self, text: str, kind: str = "note", **details: object) -> None:
        self._put(("\n" if self._in_answer else "") + self._paint(text, dim=True) + "\n")
        self._in_answer = False

    def prompt(self) -> None:
        if not self._echo:
            self._put(self._paint.you())

    def _put(self, text: str) -> None:
        write(self._out, text)


def shown_s(seconds: float) -> str:
    """Return a time for people: `85 ms`, `1.2 s`."""
    return f"{seconds * 1000:.0f} ms" if seconds < 0.9995 else f"{seconds:.1f} s"


def write(out: TextIO, text: str) -> None:
    """Write and flush.

    Raises:
        OutputError: the disk is full, or the reader has closed the pipe.
    """
    try:
        out.write(text)
        out.flush()
    except OSError as error:
        raise OutputError(error.strerror or str(error)) from error


class LineReader:
    """Reads lines from a file descriptor without blocking the loop. A context manager, as `Console` is.

    Args:
        fd: a pipe, a terminal or a file.
        on_line: called with each line, without its end.
        on_end: called at the end of the input.
    """

    def __init__(self, fd: int, on_line: Callable[[str], None], on_end: Callable[[], None]) -> None:
        self._fd = fd
        self._on_line = on_line
        self._on_end = on_end
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    def __enter__(self) -> LineReader:
        loop = asyncio.get_running_loop()
        try:
            loop.add_reader(self._fd, self._readable)
        except PermissionError:
            # epoll refuses files and /dev/null, which never block.
            while self._take(read_some(self._fd)):
                pass
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)

    def _readable(self) -> None:
        if not self._take(read_some(self._fd)):
            asyncio.get_running_loop().remove_reader(self._fd)

    def _take(self, data: bytes) -> bool:
        *lines, self._rest = (self._rest + self._decoder.decode(data, final=not data)).split("\n")
        if not data and self._rest:
            lines.append(self._rest)
        for line in lines:
            self._on_line(line)
        if not data:
            self._on_end()
        return bool(data)


def read_some(fd: int) -> bytes:
    """Read the available bytes; none at the end of the input, or if the terminal is closed."""
    try:
        return os.read(fd, 65536)
    except OSError:
        return b""  # EIO: the other side of a pseudo-terminal was closed


def printable(text: str) -> str:
    """Replace control characters, which could command the terminal: the text comes from a peer."""
    text = text.replace("\r\n", "\n").replace("\t", " ")
    return "".join("\ufffd" if unicodedata.category(char) in ("Cc", "Cs") and char != "\n" else char for char in text)
