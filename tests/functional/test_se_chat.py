"""se-chat in a pseudo-terminal and in a pipe, against a real server of two workers with the demo agent."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import select
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pyte
import pytest

from tests.helpers import TEST_API_KEY, ServerProcess, running_server

TIMEOUT_S = 20.0
COLUMNS = 80

# Run `se-chat` in a session of its own, with standard input as the terminal, so that Ctrl-C reaches it.
IN_TERMINAL = """
import fcntl, runpy, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
runpy.run_module("se_server.cli.chat", run_name="__main__", alter_sys=True)
"""


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    # No history is kept of what tests type.
    return {**os.environ, "TERM": "xterm-256color", "XDG_STATE_HOME": "/proc/nowhere", **(extra or {})}


class Terminal:
    """A se-chat in a pseudo-terminal."""

    def __init__(self, master: int, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.raw = ""
        self._master = master
        self._seen = 0
        self._screen = pyte.HistoryScreen(COLUMNS, 24, history=2000)
        self._stream = pyte.ByteStream(self._screen)

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait until the output after the last match contains `pattern`, and continue after it."""
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            found = re.compile(pattern).search(self.text(), self._seen)
            if found:
                # The last row will show something else once there is more.
                self._seen = min(found.end(), self.text().rfind("\n") + 1)
                return found
            assert self._read(deadline), f"waited for {pattern!r}, but the terminal shows:\n{self.text()}"

    def wait_exit(self) -> int:
        deadline = time.monotonic() + TIMEOUT_S
        while self._read(deadline):
            pass
        return self.process.wait(TIMEOUT_S)

    def text(self) -> str:
        """The rows that the terminal has shown, with the one of the cursor up to the cursor."""
        screen = self._screen
        rows = ["".join(row[column].data for column in range(COLUMNS)).rstrip() for row in screen.history.top]
        rows += [row.rstrip() for row in screen.display]
        cursor = len(screen.history.top) + screen.cursor.y
        rows[cursor] = rows[cursor].ljust(screen.cursor.x)
        return "\n".join(rows[: cursor + 1])

    def modes(self) -> int:
        """The terminal's local modes."""
        flags = termios.tcgetattr(self._master)[3]
        assert isinstance(flags, int)
        return flags

    def _read(self, deadline: float) -> bool:
        ready, _, _ = select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError as error:
            if error.errno != errno.EIO:  # Linux reports the end of the other side as EIO
                raise
            return False
        self.raw += data.decode("utf-8", "replace")
        self._stream.feed(data)
        return bool(data)


@contextmanager
def terminal(*args: str, env: Mapping[str, str] | None = None) -> Iterator[Terminal]:
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-c", IN_TERMINAL, *args],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=environment(env),
        start_new_session=True,
    )
    os.close(slave)
    try:
        yield Terminal(master, process)
    finally:
        process.kill()
        process.wait()
        os.close(master)


def piped(*args: str, said: str = "", env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "se_server.cli.chat", *args],
        input=said,
        env=environment(env),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with running_server("--path", "/ws", workers=2, api_key=None) as running:
        yield running


def test_a_conversation_with_an_interruption(server: ServerProcess) -> None:
    with terminal(server.url) as chat:
        chat.wait_for(rf"Connected to {server.url} (?s:.*)demo\s+key")
        chat.wait_for("you> ")
        chat.type("hello\r")
        chat.wait_for("agent> Hello! I am the demo agent")
        chat.wait_for(r"\nyou> \Z")
        chat.type("tell me a story\r")
        chat.wait_for("agent> Gladly. Once upon a time")
        chat.type("bye\r")
        chat.wait_for("—\nyou> bye\nagent> It was a pleasure.")
        chat.wait_for(r"turn\s+3")
        chat.wait_for(r"\nyou> \Z")
        chat.type("/quit\r")
        assert chat.wait_exit() == 0
        assert "The end." not in chat.text()
        assert "Traceback" not in chat.text()


@pytest.mark.parametrize("keys", ["\x03", "\x04"], ids=["Ctrl-C", "Ctrl-D"])
def test_control_keys_end_the_chat_and_restore_terminal(server: ServerProcess, keys: str) -> None:
    with terminal(server.url) as chat:
        chat.wait_for("you> ")
        assert not chat.modes() & termios.ICANON
        chat.type("tell me a story\r")
        chat.wait_for("Once upon")
        chat.type(keys)
        assert chat.wait_exit() == 0
        assert chat.modes() & termios.ICANON
        assert chat.modes() & termios.ECHO
        assert "Traceback" not in chat.text()


def test_commands_are_typed_in_the_conversation(server: ServerProcess, tmp_path: Path) -> None:
    env = {"XDG_STATE_HOME": str(tmp_path)}
    script = tmp_path / "talk.toml"
    with terminal(server.url, env=env) as chat:
        chat.wait_for("you> ")
        chat.type("/help\r")
        chat.wait_for("/again +say the last words again")
        chat.type("/again\r")
        chat.wait_for("nothing was said yet")
        chat.type("bye\r")
        chat.wait_for(r"It was a pleasure(?s:.*)  \d+ ms\nyou> ")
        chat.type("/again\r")
        chat.wait_for(r"you> bye\nagent> It was a pleasure(?s:.*)you> ")
        chat.type(f"/export {script}\r")
        chat.wait_for("written: ")
        chat.type("/silence\r")
        chat.wait_for(r"you> \.\.\.\nagent> Are you still there")
        chat.type("/frob\r")
        chat.wait_for("there is no command /frob")
        chat.type("/reset\r")
        chat.wait_for(r"\[a new conversation: conv_\w+\]\nyou> ")
        chat.type("\x1b[A")
        chat.wait_for("you> /reset")  # the lines are loaded once the prompt is there
        chat.type("\x1b[A\x1b[A\x1b[A\x1b[A\x1b[A")
        chat.wait_for("you> bye")
        chat.type("\r")
        chat.wait_for(r"you> bye\nagent> It was a pleasure. We got as far as turn 1")
        chat.type("/quit\r")
        assert chat.wait_exit() == 0
        assert "Traceback" not in chat.text()
    again = piped(server.url, "--script", str(script))
    assert (again.returncode, "A conversation of se-chat: passed" in again.stderr) == (0, True)


def test_reconnect_follows_a_reload(tmp_path: Path) -> None:
    app = tmp_path / "agent.py"
    code = "async def on_transcript(transcript, session):\n    await session.send_response('one')\n"
    app.write_text(code)
    options = ("--reload", "--reload-drain-timeout-s", "0")
    with running_server(*options, app=app, workers=1) as running:
        running.wait_for_output("watching .* for changes")
        with terminal(running.url, "--reconnect", "--api-key", TEST_API_KEY) as chat:
            chat.wait_for("you> ")
            chat.type("hello\r")
            chat.wait_for("agent> one")
            app.write_text(code.replace("one", "two"))
            chat.wait_for(r"\[the server closed the conversation \(1001 going away\)\]")
            chat.wait_for(r"\[a new conversation: conv_")
            chat.type("hello\r")
            chat.wait_for("agent> two")
            chat.type("\x04")
            assert chat.wait_exit() == 0
        running.wait_for_output("1 old worker drains; 1 conversation stays on the old code, for at most 0 s")


def test_a_terminal_has_colours_unless_told_otherwise(server: ServerProcess) -> None:
    for env, is_coloured in [({}, True), ({"NO_COLOR": "1"}, False)]:
        with terminal(server.url, env=env) as chat:
            chat.wait_for("you> ")
            chat.type("hello\r")
            chat.wait_for("agent> Hello")
            assert ("\x1b[1m" in chat.raw) is is_coloured


def test_a_dumb_terminal_gets_plain_lines(server: ServerProcess) -> None:
    with terminal(server.url, env={"TERM": "dumb"}) as chat:
        chat.wait_for("you> ")
        assert chat.modes() & termios.ICANON
        chat.type("bye\r")
        chat.wait_for("agent> It was a pleasure")
        chat.wait_for("\nyou> ")
        chat.type("\x04")
        assert chat.wait_exit() == 0
        assert "\x1b" not in chat.raw


def test_piped_lines_give_a_plain_transcript(server: ServerProcess) -> None:
    """Each piped line waits for the previous answer."""
    ended = piped(server.url, said="hi\n\nbye")
    assert ended.returncode == 0
    lines = [line.rstrip() for line in ended.stdout.splitlines()]
    assert lines[0] == "you> hi"
    assert lines[1].startswith("agent> Hello! I am the demo agent")
    assert lines[2] == "you> bye"
    assert lines[3].startswith("agent> It was a pleasure. We got as far as turn 2")
    assert len(lines) == 4
    assert "\x1b" not in ended.stdout + ended.stderr
    assert "with the demo key" in ended.stderr


def test_letters_outside_the_output_encoding_are_replaced(server: ServerProcess) -> None:
    ended = piped(server.url, said="größer 你好\nbye\n", env={"PYTHONIOENCODING": "ascii"})
    assert ended.returncode == 0
    assert "agent> It was a pleasure" in ended.stdout


def test_a_file_as_input_and_quit_in_it(server: ServerProcess, tmp_path: os.PathLike[str]) -> None:
    script = os.path.join(tmp_path, "script")
    with open(script, "w", encoding="utf-8") as file:
        file.write("bye\n/quit\nhello\n")
    with open(script, encoding="utf-8") as file:
        ended = subprocess.run(
            [sys.executable, "-m", "se_server.cli.chat", server.url],
            stdin=file, env=environment(), capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
        )  # fmt: skip
    assert ended.returncode == 0
    assert "agent> It was a pleasure" in ended.stdout
    assert "hello" not in ended.stdout


def one_sentence(ended: subprocess.CompletedProcess[str]) -> str:
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr.startswith("se-chat: ")
    assert ended.stderr.count("\n") == 1
    return ended.stderr


def test_an_error_names_the_wrong_key(server: ServerProcess) -> None:
    sentence = one_sentence(piped(server.url, "--api-key", "sk_wrong_key", said="hi\n"))
    assert "401" in sentence
    assert "the key of --api-key" in sentence
    assert "sk_wrong_key" not in sentence
    sentence = one_sentence(piped(server.url, said="hi\n", env={"ELEVENLABS_API_KEY": "sk_wrong_key"}))
    assert "the key of ELEVENLABS_API_KEY" in sentence


def test_a_wrong_path_is_one_sentence(server: ServerProcess) -> None:
    assert "404" in one_sentence(piped(server.url.replace("/ws", "/other"), said="hi\n"))


def test_no_server_is_one_sentence() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        sentence = one_sentence(piped(f"ws://127.0.0.1:{free.getsockname()[1]}/ws", said="hi\n"))
    assert "start se-server" in sentence


def test_the_first_key_of_the_environment_signs() -> None:
    with running_server(workers=1, api_key="sk_one") as server:
        ended = piped(server.url, said="bye\n", env={"ELEVENLABS_API_KEY": " sk_one,sk_two"})
    assert "agent> It was a pleasure" in ended.stdout


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_counts_as_empty(server: ServerProcess, closed: str) -> None:
    ended = subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-m", "se_server.cli.chat", server.url],
        input="bye\n", env=environment(), capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
    assert ended.returncode == 0
    assert "Traceback" not in ended.stderr
    assert ("agent> It was a pleasure" in ended.stdout) == (closed == "2>&-")


def test_a_header_without_a_colon_is_refused() -> None:
    ended = piped("-H", "nonsense")
    assert ended.returncode == 2
    assert "Name: value" in ended.stderr


def test_a_close_by_the_server_is_one_line() -> None:
    with (
        running_server("--drain-timeout-s", "0.1", workers=1, api_key=None) as going,
        terminal(going.url) as chat,
    ):
        chat.wait_for("you> ")
        chat.type("hello\r")
        chat.wait_for("agent> Hello")
        assert going.stop() == 0
        chat.wait_for(r"\[the server closed the conversation \(1001")
        assert chat.wait_exit() == 1
        assert "Traceback" not in chat.text()


# --- scripts, recordings, habits, JSON ------------------------------------------------------------------------------

SMALL_TALK = """
name = "Small talk"
[[steps]]
say = "hello"
expect = { contains = "demo agent", within_s = 10 }
[[steps]]
say = "tell me a story"
[[steps]]
interrupt = "bye"
after_chars = 40
expect = "pleasure"
"""


def script_file(tmp_path: Path, text: str) -> str:
    path = tmp_path / "talk.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_a_script_that_passes_exits_with_0(server: ServerProcess, tmp_path: Path) -> None:
    ended = piped(server.url, "--script", script_file(tmp_path, SMALL_TALK))
    assert ended.returncode == 0
    assert [line.partition("> ")[0] for line in ended.stdout.splitlines() if "> " in line] == ["you", "agent"] * 3
    assert "Once upon a time" in ended.stdout
    assert "—\nyou> bye" in ended.stdout
    assert "Small talk: passed. 3 turns: 2 heard, 1 interrupted." in ended.stderr


def test_a_script_that_fails_exits_with_1(server: ServerProcess, tmp_path: Path) -> None:
    """The output names the step and the words heard."""
    ended = piped(server.url, "--script", script_file(tmp_path, SMALL_TALK.replace("pleasure", "nightmare")))
    assert ended.returncode == 1
    assert "[not as expected: step 3: expected 'nightmare', heard 'It was a pleasure." in ended.stdout
    assert "Small talk: failed." in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_wrong_script_is_refused_before_connecting(tmp_path: Path) -> None:
    ended = piped("ws://127.0.0.1:1/", "--script", script_file(tmp_path, "[[steps]]\nsya = 'hello'\n"))
    assert ended.returncode == 2
    assert "step 1: unknown key 'sya'; did you mean say?" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_recording_holds_the_conversation_and_replays_it(server: ServerProcess, tmp_path: Path) -> None:
    record = str(tmp_path / "call.jsonl")
    first = piped(server.url, "--record", record, "--conversation-id", "conv_recorded", said="hello\nbye\n")
    assert first.returncode == 0
    entries = [json.loads(line) for line in Path(record).read_text(encoding="utf-8").splitlines()]
    assert {entry["direction"] for entry in entries} == {"in", "out"}
    again = piped(server.url, "--script", record)
    assert again.returncode == 0
    assert again.stdout.replace("[the caller hung up]\n", "") == first.stdout
    assert "as conv_recorded" in again.stderr


def test_json_is_one_object_a_line(server: ServerProcess, tmp_path: Path) -> None:
    ended = piped(server.url, "--json", "--script", script_file(tmp_path, SMALL_TALK))
    assert ended.returncode == 0
    assert ended.stderr == ""
    events = [json.loads(line) for line in ended.stdout.splitlines()]
    said = [(event["text"], event["interrupts"]) for event in events if event["event"] == "said"]
    assert said == [("hello", False), ("tell me a story", False), ("bye", True)]
    heard = "".join(event["text"] for event in events if event["event"] == "heard")
    assert heard.startswith("Hello! I am the demo agent")
    summary = events[-1]
    assert summary["event"] == "summary"
    assert summary["exit_code"] == 0
    assert [turn["outcome"] for turn in summary["turns"]] == ["heard", "interrupted", "heard"]
    assert all(turn["is_ok"] for turn in summary["turns"])


def test_piped_lines_as_json(server: ServerProcess) -> None:
    ended = piped(server.url, "--json", said="bye\n")
    assert ended.returncode == 0
    kinds = [json.loads(line)["event"] for line in ended.stdout.splitlines()]
    assert kinds[0] == "said"
    assert kinds[-1] == "summary"
    assert "answered" in kinds


def test_hostile_habits_repeat_for_a_seed(server: ServerProcess) -> None:
    options = ("--hostile", "--seed", "3", "--conversation-id", "conv_h", "--json")
    for _ in range(2):
        ended = piped(server.url, *options, said="bye\nbye\n")
        assert ended.returncode == 0
        events = [json.loads(line) for line in ended.stdout.splitlines()]
        texts = [event["text"] for event in events if event["event"] == "habit"]
        assert [text for text in texts if "malformed" in text] == [
            "[API: malformed: no_json]",
            "[API: malformed: unknown_type]",
        ]


def test_hostile_in_a_pipe_ends_with_a_summary(server: ServerProcess) -> None:
    ended = piped(server.url, "--hostile", "--seed", "4", said="bye\n")
    assert ended.returncode == 0
    assert re.search(r"^\d+ turns?: ", ended.stderr, re.MULTILINE)
    assert "Traceback" not in ended.stderr


def test_a_seed_without_hostile_is_refused() -> None:
    ended = piped("--seed", "4")
    assert ended.returncode == 2
    assert "--seed requires --hostile" in ended.stderr


@pytest.mark.parametrize("header", ["X: a\r\nY: b", "X: a\nY: b", "X: \x00", "X y: a", "X: größer", "X\r\n: a"])
def test_a_header_that_breaks_the_request_is_refused(header: str) -> None:
    if "\x00" in header:
        header = header.replace("\x00", "\x7f")  # a program's argument cannot contain NUL
    ended = piped("-H", header)
    assert ended.returncode == 2
    assert "--header" in ended.stderr
    assert "Traceback" not in ended.stderr


def full_disk(command: str, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", "-c", command, "sh", sys.executable, "-m", "se_server.cli.chat", *args],
        input="bye\n", env=environment(), capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has a device that is always full")
@pytest.mark.parametrize(
    ("command", "options", "what"),
    [
        ('exec "$@" > /dev/full', (), "the output: No space left"),
        ('exec "$@" > /dev/full', ("--json",), "the output: No space left"),
        ('exec "$@"', ("--record", "/dev/full"), "the recording: No space left"),
    ],
)
def test_a_full_disk_is_one_sentence(server: ServerProcess, command: str, options: tuple[str, ...], what: str) -> None:
    ended = full_disk(command, server.url, *options)
    assert ended.returncode == 1
    assert what in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "Exception ignored" not in ended.stderr


def test_a_reader_that_goes_away_is_no_traceback(server: ServerProcess) -> None:
    ended = full_disk('"$@" | true', server.url)
    assert "Traceback" not in ended.stderr
    assert "Exception ignored" not in ended.stderr


def test_an_unwritable_recording_is_refused_before_connecting(tmp_path: Path) -> None:
    ended = piped("ws://127.0.0.1:1/", "--record", str(tmp_path / "no" / "such" / "folder"))
    assert ended.returncode == 2
    assert "No such file" in ended.stderr


def test_ctrl_c_ends_a_script_with_130(server: ServerProcess, tmp_path: Path) -> None:
    with terminal(server.url, "--script", script_file(tmp_path, "[[steps]]\nsay = 'tell me a story'\n")) as chat:
        chat.wait_for("Once upon")
        chat.type("\x03")
        assert chat.wait_exit() == 130
        assert "Traceback" not in chat.text()
