"""The line that the user of se-chat types: keys, history and completion."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from se_server.cli.line_editor import MAX_HISTORY, LineEditor, history_file, load_history, save_line

UP, DOWN, LEFT, RIGHT, HOME, END = "\x1b[A", "\x1b[B", "\x1b[D", "\x1b[C", "\x1b[H", "\x1b[F"


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        (f"helo{LEFT}l", "hello"),
        (f"world{HOME}hello {END}!", "hello world!"),
        ("world\x01hello \x05!", "hello world!"),
        ("one two three\x17\x17", "one "),
        ("one two\x1bb\x0b", "one "),
        ("one two\x01\x1bf\x15", " two"),
        ("one two\x17\x01\x19", "twoone "),
        ("one two\x01\x1bd", " two"),
        (f"abc{LEFT}{LEFT}\x1b[3~", "ac"),
        (f"abc{LEFT}\x04", "ab"),
        ("one two\x1b[1;5D\x1b[1;5Dx", "xone two"),
        ("\x1bOP\x1b[5~\x1bxab", "ab"),
        (f"👍🏽a{LEFT}\x7fb", "ba"),
        (f"e\u0301x{LEFT}{LEFT}y", "ye\u0301x"),
    ],
)
def test_keys_edit_as_in_a_shell(keys: str, line: str) -> None:
    editor = LineEditor()
    assert list(editor.feed(keys + "\r")) == [line]
    assert (editor.text, editor.cursor) == ("", 0)


def test_keys_may_come_in_pieces() -> None:
    editor = LineEditor()
    assert [line for piece in ["ab\x1b", "[", "Dx\r"] for line in editor.feed(piece)] == ["axb"]


def test_the_history_is_recalled_and_the_line_kept() -> None:
    editor = LineEditor(["first", "second"])
    list(editor.feed(f"new{UP}"))
    assert editor.text == "second"
    list(editor.feed(f"{UP}{UP}{UP}"))
    assert editor.text == "first"
    list(editor.feed(f"{DOWN}{DOWN}{DOWN}"))
    assert editor.text == "new"
    assert list(editor.feed(f"\r{UP}\r")) == ["new", "new"]
    list(editor.feed(f"{UP}{UP}"))
    assert editor.text == "second"  # the same line twice is one of the history


def test_a_line_before_the_end_of_input_is_kept() -> None:
    lines = []
    with pytest.raises(EOFError):  # noqa: PT012
        for line in LineEditor().feed("bye\r\x04"):
            lines.append(line)
    assert lines == ["bye"]


def test_tab_completes_commands_and_is_a_blank_elsewhere() -> None:
    commands = ["/again", "/export", "/help"]
    assert list(LineEditor([], commands).feed("/a\t\r")) == ["/again"]
    assert list(LineEditor([], commands).feed("/x\t\r")) == ["/x"]
    assert list(LineEditor([], commands).feed("say\tit\r")) == ["say it"]


def test_the_history_is_private_and_bounded(tmp_path: Path) -> None:
    path = history_file({"XDG_STATE_HOME": str(tmp_path), "HOME": "/nowhere"})
    assert load_history(path) == []
    for number in range(3):
        save_line(path, f"line {number}")
    assert load_history(path) == ["line 0", "line 1", "line 2"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text("".join(f"{number}\n" for number in range(2 * MAX_HISTORY)) + "\x1b[2Jx\n")
    assert load_history(path)[-2:] == [str(2 * MAX_HISTORY - 1), "[2Jx"]
    assert len(load_history(path)) == MAX_HISTORY
    save_line(Path("/proc/nowhere/history"), "a line that cannot be kept is no failure")
