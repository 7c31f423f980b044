"""The terminal of se-chat: the user types a line below the growing answer."""

from __future__ import annotations

import asyncio
import codecs
import os
import re
import termios
import textwrap
import unicodedata
from collections.abc import Callable
from typing import TextIO

from se_server.cli.line_editor import LineEditor
from se_server.cli.screen import AGENT, INTERRUPTED, YOU, Paint, printable, read_some, shown_s, write

_TOKENS = re.compile(r"\n|[^\S\n]+|\S+")


class Console:
    """A terminal on which the user types below the growing answer.

    The terminal's own line editing would mix the two, so the line being typed is kept here: before each output it is
    erased, and drawn again below it afterwards. Use it as a context manager: leaving it restores the terminal's modes.

    Args:
        in_fd: the terminal, for reading.
        out: the same terminal, for writing.
        on_line: called with each line that the user enters.
        on_end: called when the user ends the input (Ctrl-D on an empty line), or the terminal is closed.
        editor: the line being typed; a plain one by default.
    """

    def __init__(
        self,
        in_fd: int,
        out: TextIO,
        on_line: Callable[[str], None],
        on_end: Callable[[], None],
        editor: LineEditor | None = None,
    ) -> None:
        self._fd = in_fd
        self._out = out
        self._on_line = on_line
        self._on_end = on_end
        self._paint = Paint(out)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._editor = editor or LineEditor()
        self._is_prompting = False
        self._in_answer = False
        self._column = 0  # the column of the answer's end; the line being typed is one row below it
        self._word = ""  # the answer's last word, which further text may go on
        self._drawn = ""  # the input line as shown on the screen; empty when it is not shown
        self._drawn_row = 0  # the row of the cursor, counted from the first row of that line
        self._pending: list[str] = []  # output that is written at once, to avoid flicker

    def __enter__(self) -> Console:
        self._saved = termios.tcgetattr(self._fd)
        self.resume()
        asyncio.get_running_loop().add_reader(self._fd, self._readable)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        self._erase()
        self._new_line()
        self._flush()
        termios.tcsetattr(self._fd, termios.TCSADRAIN, self._saved)

    def resume(self) -> None:
        """Set the terminal's modes, also after the shell had the terminal (SIGCONT)."""
        modes = termios.tcgetattr(self._fd)
        modes[3] &= ~(termios.ICANON | termios.ECHO)  # ISIG stays: Ctrl-C and Ctrl-Z remain signals
        modes[6][termios.VMIN], modes[6][termios.VTIME] = 1, 0
        termios.tcsetattr(self._fd, termios.TCSADRAIN, modes)
        self._drawn = ""
        self._redraw()

    # --- showing ----------------------------------------------------------------------------------------------------

    def heard(self, text: str) -> None:
        if not self._in_answer and not text.strip():
            return  # a blank stands for an answer without words
        self._erase()
        if not self._in_answer:
            self._new_line()
            self._begin_answer()
        self._wrap(text)
        self._redraw()

    def answered(self, first_text_s: float | None = None) -> None:
        self._erase()
        if not self._in_answer:
            self._begin_answer()
            self._put(self._paint("(no answer)", dim=True))
        elif first_text_s is not None:
            shown = f"  {shown_s(first_text_s)}"
            room = self._columns() - 1 - self._column
            self._put(("" if len(shown) <= room else "\n" + " " * (len(AGENT) - 2)) + self._paint(shown, dim=True))
        self._end_answer()
        self._redraw()

    def said(self, text: str, *, interrupts: bool) -> None:
        self._erase()
        if interrupts:
            if not self._in_answer:
                self._begin_answer()
            self._put(self._paint(INTERRUPTED, fg="yellow"))
            self._end_answer()
        self._put(self._paint.you() + text + "\n")
        self._is_prompting = False
        self._redraw()

    def note(self, text: str, kind: str = "note", **details: object) -> None:
        self._erase()
        self._new_line()
        self._in_answer = False
        indent = " " * (len(text) - len(text.lstrip()) + 2)
        rows = textwrap.wrap(printable(text), self._columns() - 1, subsequent_indent=indent) or [""]
        self._put("".join(self._paint(row, dim=True) + "\n" for row in rows))
        self._redraw()

    def prompt(self) -> None:
        self._erase()
        self._is_prompting = True
        self._redraw()

    def rest(self) -> None:
        """Move the cursor to the beginning of a line for the next writer."""
        self._erase()
        self._new_line()
        self._flush()

    def _begin_answer(self) -> None:
        self._put(self._paint.agent())
        self._in_answer, self._column, self._word = True, len(AGENT), ""

    def _end_answer(self) -> None:
        self._in_answer, self._column = False, 0
        self._put("\n")

    def _new_line(self) -> None:
        if self._column:
            self._put("\n")
            self._column = 0

    def _wrap(self, text: str) -> None:
        """Write a piece of the answer, wrapped between words. A row is never filled: terminals differ in how they treat
        that.
        """
        last, row = self._columns() - 1, self._columns() - 1 - len(AGENT)
        for token in _TOKENS.findall(printable(text)):
            if token == "\n" or (self._column + width(token) > last and self._column > len(AGENT)):
                begun = "" if token.isspace() else self._word
                if self._column - width(begun) <= len(AGENT) or width(begun + token) > row:
                    begun = ""  # the word fills its row, or is too long for any
                elif begun:
                    self._put(f"\x1b[{width(begun)}D\x1b[K")
                self._put("\n" + " " * len(AGENT) + begun)
                self._column = len(AGENT) + width(begun)
                self._word = begun
                if token.isspace():
                    continue
            for piece in _cut(token, last - self._column, row):
                if self._column + width(piece) > last:
                    self._put("\n" + " " * len(AGENT))
                    self._column, self._word = len(AGENT), ""
                self._put(piece)
                self._column += width(piece)
                self._word = "" if piece.isspace() else self._word + piece

    def _erase(self) -> None:
        """Erase the line being typed, and return to the end of the answer."""
        if not self._drawn:
            return
        self._put("\r" + (f"\x1b[{self._drawn_row}A" if self._drawn_row else "") + "\x1b[J")
        if self._column:
            self._put(f"\x1b[A\x1b[{self._column}C")
        self._drawn = ""

    def _redraw(self) -> None:
        """Draw the line being typed; during an answer only if it is not empty."""
        line, columns = self._editor.text, self._columns()
        if line or (self._is_prompting and not self._in_answer):
            self._put(("\n" if self._column else "") + self._paint.you() + line)
            self._drawn = YOU + line
            last_row = self._drawn_row = (width(self._drawn) - 1) // columns
            if self._editor.cursor < len(line):
                self._drawn_row, column = divmod(width(YOU + line[: self._editor.cursor]), columns)
                up = last_row - self._drawn_row
                self._put("\r" + (f"\x1b[{up}A" if up else "") + (f"\x1b[{column}C" if column else ""))
        self._flush()

    def _columns(self) -> int:
        try:
            # Some pseudo-terminals report 0 columns; below this minimum nothing can be drawn.
            return max(os.get_terminal_size(self._out.fileno()).columns or 80, 2 * len(AGENT))
        except OSError:
            return 80

    def _put(self, text: str) -> None:
        self._pending.append(text)

    def _flush(self) -> None:
        pending = "".join(self._pending)
        self._pending.clear()
        write(self._out, pending)

    # --- typing -----------------------------------------------------------------------------------------------------

    def _readable(self) -> None:
        data = read_some(self._fd)
        if not data:
            asyncio.get_running_loop().remove_reader(self._fd)
            self._on_end()
            return
        try:
            for line in self._editor.feed(self._decoder.decode(data)):
                self._on_line(line)
        except EOFError:
            self._on_end()
        self._erase()
        self._redraw()


def width(text: str) -> int:
    """Return the number of columns of a text: two for wide letters and emoji, none for combining characters."""
    columns = 0
    for char in text:
        if unicodedata.category(char) in ("Mn", "Me", "Cf", "Cc"):
            continue
        columns += 2 if unicodedata.east_asian_width(char) in "WF" else 1
    return columns


def _cut(token: str, room: int, row: int) -> list[str]:
    """Split a token that is wider than a whole row; return other tokens unchanged."""
    if width(token) <= max(room, row):
        return [token]
    pieces: list[str] = []
    piece = ""
    for char in token:
        if piece and width(piece + char) > (row if pieces else room):
            pieces.append(piece)
            piece = ""
        piece += char
    return [*pieces, piece]
