"""The line being typed and the answer above it, on a small emulated terminal."""

from __future__ import annotations

import asyncio
import fcntl
import io
import os
import struct
import termios
import time
from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from se_server.cli.screen import printable

pyte = pytest.importorskip("pyte")
pytest.importorskip("prompt_toolkit")
console = pytest.importorskip("se_server.cli.console")
Console, width, wrapped = console.Console, console.width, console.wrapped

COLUMNS = 24
SHOWN_S = 10.0


class Emulator(io.StringIO):
    """An emulated screen, on which prompt_toolkit and the answers draw."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd
        self.screen = pyte.Screen(COLUMNS, 24)
        self._stream = pyte.Stream(self.screen)

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def write(self, text: str) -> int:
        self._stream.feed(text.replace("\n", "\r\n"))
        return len(text)


async def until(is_so: Callable[[], bool], seen: Callable[[], object] = lambda: "") -> None:
    """Wait until something is so, while the console reads keys and draws."""
    deadline = time.monotonic() + SHOWN_S
    while not is_so():
        assert time.monotonic() < deadline, seen()
        await asyncio.sleep(0.001)


class Stage:
    """A console on an emulated terminal, with the user's keys and their results."""

    def __init__(self, master: int, slave: int, history: Sequence[str] = ()) -> None:
        self.lines: list[str] = []
        self.ends = 0
        self.out = Emulator(slave)
        self.console = Console(slave, self.out, self.lines.append, self._end, history, ("/again", "/reset", "/rest"))
        self._master = master

    def _end(self) -> None:
        self.ends += 1

    def type(self, keys: str | bytes) -> None:
        os.write(self._master, keys if isinstance(keys, bytes) else keys.encode())

    async def shows(self, *rows: str) -> None:
        await until(lambda: self.rows() == list(rows), self.rows)

    async def enters(self, *lines: str) -> None:
        await until(lambda: self.lines == list(lines), lambda: self.lines)

    def rows(self) -> list[str]:
        """The rows of the screen, without empty ones at its end."""
        return "\n".join(row.rstrip() for row in self.out.screen.display).rstrip().split("\n")


@pytest.fixture
async def stage(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    monkeypatch.setenv("NO_COLOR", "1")
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    made = Stage(master, slave)
    async with made.console:
        yield made
    os.close(master)
    os.close(slave)


async def test_the_line_stays_below_the_answer_that_grows(stage: Stage) -> None:
    stage.console.prompt()
    await stage.shows("you>")
    stage.type("hi")
    await stage.shows("you> hi")
    stage.type("\x15")
    await stage.shows("you>")
    stage.console.said("hi", interrupts=False)
    stage.console.heard("Once upon ")
    await stage.shows("you> hi", "agent> Once upon")
    stage.type("st")
    await stage.shows("you> hi", "agent> Once upon", "you> st")
    stage.console.heard("a time there was")
    await stage.shows("you> hi", "agent> Once upon a time", "       there was", "you> st")
    stage.type("\x7f\x7f")
    await stage.shows("you> hi", "agent> Once upon a time", "       there was")
    stage.console.heard(" a")
    stage.type("x")
    await stage.shows("you> hi", "agent> Once upon a time", "       there was a", "you> x")


async def test_an_interruption_is_marked_in_the_answer(stage: Stage) -> None:
    stage.console.heard("Once upon ")
    stage.type("stop\r")
    await stage.enters("stop")
    stage.console.said("stop", interrupts=True)
    await stage.shows("agent> Once upon —", "you> stop")


async def test_an_interruption_of_silence_is_marked_too(stage: Stage) -> None:
    stage.console.said("hello?", interrupts=True)
    await stage.shows("agent> —", "you> hello?")


async def test_an_empty_answer_is_shown(stage: Stage) -> None:
    stage.console.answered()
    stage.console.prompt()
    await stage.shows("agent> (no answer)", "you>")


async def test_the_prompt_comes_back_below_a_complete_answer(stage: Stage) -> None:
    stage.console.heard("Yes.")
    stage.console.answered()
    stage.console.prompt()
    await stage.shows("agent> Yes.", "you>")
    stage.console.note("[lost]")
    await stage.shows("agent> Yes.", "[lost]", "you>")


@pytest.mark.parametrize("typed", ["x" * 19, "x" * 20, "x" * 60, "größer 你好 " * 4, "👍🏽" * 9])
async def test_a_line_of_several_rows_is_erased_wholly(stage: Stage, typed: str) -> None:
    stage.console.heard("Once ")
    stage.type(typed)
    stage.console.heard("upon")
    stage.console.heard(" a ")
    await until(
        lambda: (
            stage.rows()[0] == "agent> Once upon a"
            and "".join(stage.rows()[1:]).replace(" ", "") == "you>" + typed.replace(" ", "")
        )
    )
    stage.type("\x15")
    await stage.shows("agent> Once upon a")


async def test_answers_wrap_between_words(stage: Stage) -> None:
    """A word is split only if it is wider than a row."""
    for piece in ["A word, and an", "other.\n", "New. ", "Donaudampfschifffahrtsgesellschaft"]:
        stage.console.heard(piece)
    await stage.shows(
        "agent> A word, and",
        "       another.",
        "       New.",
        "       Donaudampfschiff",
        "       fahrtsgesellscha",
        "       ft",
    )


async def test_lines_are_edited_by_the_usual_keys(stage: Stage) -> None:
    stage.console.prompt()
    for keys in ["one two", "\x17", "\tthree\x7f\x7f", "ee\r"]:
        stage.type(keys)
    stage.type("gone\x15kept\r")
    await stage.enters("one  three", "kept")


async def test_keys_without_a_meaning_are_ignored(stage: Stage) -> None:
    for keys in ["a\x1b[A", "\x1b", "[1;5C", "\x1bOP", "b\x1b[24~", "c\r"]:
        stage.type(keys)
    await stage.enters("abc")
    assert stage.ends == 0


async def test_a_letter_may_arrive_in_two_reads(stage: Stage) -> None:
    euro = "€\r".encode()
    stage.type(euro[:1])
    stage.type(euro[1:])
    await stage.enters("€")


async def test_ctrl_d_ends_the_input(stage: Stage) -> None:
    stage.type("a\x7f\x04")
    await until(lambda: stage.ends == 1)


async def test_an_answer_cannot_command_the_terminal(stage: Stage) -> None:
    stage.console.heard("\x1b]0;own\x07ed\x9b2J \ud83d")
    await stage.shows("agent> \ufffd]0;own\ufffded\ufffd2J \ufffd")


async def test_the_terminal_gets_its_modes_back() -> None:
    master, slave = os.openpty()
    before = termios.tcgetattr(slave)
    async with Console(slave, Emulator(slave), lambda line: None, lambda: None):
        await until(lambda: not termios.tcgetattr(slave)[3] & termios.ECHO)
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
    expected = "agent>Once" + "you>" + "aaab" + "x" * 30
    await until(lambda: "".join(stage.rows()).replace(" ", "") == expected)


async def test_a_word_in_pieces_is_not_split_at_the_margin(stage: Stage) -> None:
    for piece in ["It is a won", "der", "ful", " day."]:
        stage.console.heard(piece)
    await stage.shows("agent> It is a", "       wonderful day.")


async def test_the_time_to_the_first_text_stands_beside_the_answer(stage: Stage) -> None:
    stage.console.heard("Yes.")
    stage.console.answered(0.0415)
    stage.console.heard("A longer answer.")
    stage.console.answered(1.25)
    await stage.shows("agent> Yes.  42 ms", "agent> A longer answer.", "       1.2 s")


async def test_notes_are_wrapped_between_words(stage: Stage) -> None:
    stage.console.note("[there is no command /foo]")
    await stage.shows("[there is no command", "  /foo]")


async def test_earlier_lines_are_recalled_searched_and_completed() -> None:
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    stage = Stage(master, slave, ["first words", "second"])
    async with stage.console:
        stage.console.prompt()
        for keys, line in [("\x1b[A", "second"), ("\x10", "first words"), ("\x1b[B", "second"), ("\x15/a\t", "/again")]:
            stage.type(keys)
            await stage.shows(f"you> {line}")
        stage.type("\x15/re\tx\x15\x12irs\r\r")  # a common part is completed; Ctrl-R searches
        await stage.enters("first words")
        stage.type("\x1b[200~two\nlines\x1b[201~\r")
        await stage.enters("first words", "two", "lines")
    os.close(master)
    os.close(slave)


def test_rows_are_those_of_the_whole_text() -> None:
    assert wrapped("", 9) == [""]
    assert wrapped("one two three", 8) == ["one two ", "three"]
    assert wrapped("abcdefghij\n\nk", 4) == ["abcd", "efgh", "ij", "", "k"]
