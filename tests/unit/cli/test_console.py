"""The line being typed and the answer above it, on a small emulated terminal."""

from __future__ import annotations

import fcntl
import io
import os
import re
import struct
import termios
from collections.abc import AsyncIterator

import pytest

from se_server.cli.console import Console, width
from se_server.cli.screen import printable

COLUMNS = 24
SEQUENCE = re.compile(r"\x1b\[(\d*)([A-Za-z])|(.)", re.DOTALL)


class Emulator(io.StringIO):
    """An emulated screen: rows of cells, a cursor, and a wrap deferred to the next letter, as in terminals."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd
        self._rows: list[list[str]] = [[]]
        self._row = self._column = 0

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def write(self, text: str) -> int:
        for count, command, char in SEQUENCE.findall(text):
            if command == "A":
                self._row -= int(count or 1)
            elif command == "C":
                self._column += int(count or 1)
            elif command == "D":
                self._column -= int(count or 1)
            elif command == "K":
                del self._rows[self._row][self._column :]
            elif command == "J":
                del self._rows[self._row + 1 :]
                del self._rows[self._row][self._column :]
            elif char == "\n":
                self._go(self._row + 1, 0)
            elif char == "\r":
                self._column = 0
            elif char:
                self._draw(char)
        return len(text)

    def _draw(self, char: str) -> None:
        cells = width(char)
        if self._column + cells > COLUMNS:
            self._go(self._row + 1, 0)
        row = self._rows[self._row]
        row += [" "] * (self._column - len(row))
        row[self._column : self._column + cells] = [char, *[""] * (cells - 1)]
        self._column += cells

    def _go(self, row: int, column: int) -> None:
        self._row, self._column = row, column
        while len(self._rows) <= row:
            self._rows.append([])

    def lines(self) -> list[str]:
        return ["".join(row).rstrip() for row in self._rows]


class Stage:
    """A console on an emulated terminal, with the user's keys and their results."""

    def __init__(self, master: int, slave: int) -> None:
        self.lines: list[str] = []
        self.ends = 0
        self.out = Emulator(slave)
        self.console = Console(slave, self.out, self.lines.append, self._end)
        self._master = master

    def _end(self) -> None:
        self.ends += 1

    def type(self, keys: str | bytes) -> None:
        os.write(self._master, keys if isinstance(keys, bytes) else keys.encode())
        self.console._readable()  # blocks until the keys have passed the terminal

    def shows(self) -> list[str]:
        return self.out.lines()


@pytest.fixture
async def stage(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    monkeypatch.setenv("NO_COLOR", "1")
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    made = Stage(master, slave)
    with made.console:
        yield made
    os.close(master)
    os.close(slave)


async def test_the_line_stays_below_the_answer_that_grows(stage: Stage) -> None:
    stage.console.prompt()
    assert stage.shows() == ["you>"]
    stage.type("hi")
    assert stage.shows() == ["you> hi"]
    stage.console.said("hi", interrupts=False)
    stage.type("\x15")
    stage.console.heard("Once upon ")
    assert stage.shows() == ["you> hi", "agent> Once upon"]
    stage.type("st")
    assert stage.shows() == ["you> hi", "agent> Once upon", "you> st"]
    stage.console.heard("a time there was")
    assert stage.shows() == ["you> hi", "agent> Once upon a time", "       there was", "you> st"]
    stage.type("\x7f\x7f")
    assert stage.shows() == ["you> hi", "agent> Once upon a time", "       there was", ""]
    stage.console.heard(" a")
    stage.type("x")
    assert stage.shows()[2:] == ["       there was a", "you> x"]


async def test_an_interruption_is_marked_in_the_answer(stage: Stage) -> None:
    stage.console.heard("Once upon ")
    stage.type("stop\r")
    assert stage.lines == ["stop"]
    stage.console.said("stop", interrupts=True)
    assert stage.shows() == ["agent> Once upon —", "you> stop", ""]


async def test_an_interruption_of_silence_is_marked_too(stage: Stage) -> None:
    stage.console.said("hello?", interrupts=True)
    assert stage.shows() == ["agent> —", "you> hello?", ""]


async def test_an_empty_answer_is_shown(stage: Stage) -> None:
    stage.console.answered()
    stage.console.prompt()
    assert stage.shows() == ["agent> (no answer)", "you>"]


async def test_the_prompt_comes_back_below_a_complete_answer(stage: Stage) -> None:
    stage.console.heard("Yes.")
    stage.console.answered()
    stage.console.prompt()
    assert stage.shows() == ["agent> Yes.", "you>"]
    stage.console.note("[lost]")
    assert stage.shows() == ["agent> Yes.", "[lost]", "you>"]


@pytest.mark.parametrize("typed", ["x" * 19, "x" * 20, "x" * 60, "größer 你好 " * 4, "👍🏽" * 9])
async def test_a_line_of_several_rows_is_erased_wholly(stage: Stage, typed: str) -> None:
    stage.console.heard("Once ")
    stage.type(typed)
    stage.console.heard("upon")
    stage.console.heard(" a ")
    assert stage.shows()[0] == "agent> Once upon a"
    assert "".join(stage.shows()[1:]).replace(" ", "") == "you>" + typed.replace(" ", "")
    stage.type("\x15")
    assert stage.shows() == ["agent> Once upon a", ""]


async def test_answers_wrap_between_words(stage: Stage) -> None:
    """A word is split only if it is wider than a row."""
    for piece in ["A word, and an", "other.\n", "New. ", "Donaudampfschifffahrtsgesellschaft"]:
        stage.console.heard(piece)
    assert stage.shows() == [
        "agent> A word, and",
        "       another.",
        "       New.",
        "       Donaudampfschiff",
        "       fahrtsgesellscha",
        "       ft",
    ]


async def test_lines_are_edited_by_the_usual_keys(stage: Stage) -> None:
    stage.console.prompt()
    for keys in ["one two", "\x17", "\tthree\x7f\x7f", "ee\r"]:
        stage.type(keys)
    stage.type("gone\x15kept\r")
    assert stage.lines == ["one  three", "kept"]


async def test_keys_without_a_meaning_are_ignored(stage: Stage) -> None:
    for keys in ["a\x1b[A", "\x1b", "[1;5C", "\x1bOP", "b\x1bx", "c\r"]:
        stage.type(keys)
    assert stage.lines == ["abc"]
    assert stage.ends == 0


async def test_a_letter_may_arrive_in_two_reads(stage: Stage) -> None:
    euro = "€\r".encode()
    stage.type(euro[:1])
    stage.type(euro[1:])
    assert stage.lines == ["€"]


async def test_ctrl_d_ends_the_input(stage: Stage) -> None:
    stage.type("a\x7f\x04")
    assert stage.ends == 1


async def test_an_answer_cannot_command_the_terminal(stage: Stage) -> None:
    stage.console.heard("\x1b]0;own\x07ed\x9b2J \ud83d")
    assert stage.shows() == ["agent> \ufffd]0;own\ufffded\ufffd2J \ufffd"]


async def test_the_terminal_gets_its_modes_back() -> None:
    master, slave = os.openpty()
    before = termios.tcgetattr(slave)
    with Console(slave, Emulator(slave), lambda line: None, lambda: None):
        assert not termios.tcgetattr(slave)[3] & termios.ECHO
    assert termios.tcgetattr(slave) == before
    os.close(master)
    os.close(slave)


def test_widths_are_those_of_terminals() -> None:
    assert [width(text) for text in ["", "abc", "ä", "a\u0308", "你好", "👍"]] == [0, 3, 1, 1, 4, 2]
    assert printable("a\tb\r\nc\x00") == "a b\nc\ufffd"


async def test_the_cursor_is_where_the_next_letter_goes(stage: Stage) -> None:
    stage.type("x" * 30 + "\x01" + "a" * 3)
    stage.console.heard("Once")
    stage.type("b")
    assert "".join(stage.shows()).replace(" ", "") == "agent>Once" + "you>" + "aaab" + "x" * 30


async def test_a_word_in_pieces_is_not_split_at_the_margin(stage: Stage) -> None:
    for piece in ["It is a won", "der", "ful", " day."]:
        stage.console.heard(piece)
    assert stage.shows() == ["agent> It is a", "       wonderful day."]


async def test_the_time_to_the_first_text_stands_beside_the_answer(stage: Stage) -> None:
    stage.console.heard("Yes.")
    stage.console.answered(0.0415)
    stage.console.heard("A longer answer.")
    stage.console.answered(1.25)
    assert stage.shows() == ["agent> Yes.  42 ms", "agent> A longer answer.", "       1.2 s", ""]


async def test_notes_are_wrapped_between_words(stage: Stage) -> None:
    stage.console.note("[there is no command /foo]")
    assert stage.shows() == ["[there is no command", "  /foo]", ""]
