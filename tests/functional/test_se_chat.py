"""se-chat in a pseudo-terminal and in a pipe, against a real server of two workers with the demo agent."""

from __future__ import annotations

import errno
import fcntl
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

import pytest

from tests.helpers import ServerProcess, running_server

TIMEOUT_S = 20.0
ESCAPE = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")

# What `se-chat` runs, in a session of its own whose terminal is standard input: so that Ctrl-C reaches it.
IN_TERMINAL = """
import fcntl, runpy, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
runpy.run_module("se_server.cli.chat", run_name="__main__", alter_sys=True)
"""


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("ELEVENLABS_API_KEY", "NO_COLOR")}
    return {**kept, "TERM": "xterm-256color", **(extra or {})}


class Terminal:
    """A se-chat in a pseudo-terminal."""

    def __init__(self, master: int, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.raw = ""
        self._master = master
        self._seen = 0

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait until what came after the last match holds `pattern`, and go on after it."""
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            found = re.compile(pattern).search(self.text(), self._seen)
            if found:
                self._seen = found.end()
                return found
            assert self._read(deadline), f"waited for {pattern!r}, but the terminal shows:\n{self.text()}"

    def wait_exit(self) -> int:
        deadline = time.monotonic() + TIMEOUT_S
        while self._read(deadline):
            pass
        return self.process.wait(TIMEOUT_S)

    def text(self) -> str:
        """What was written, without colours and cursor movements."""
        return ESCAPE.sub("", self.raw).replace("\r\n", "\n")

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
            if error.errno != errno.EIO:  # the way Linux says that the other side has ended
                raise
            return False
        self.raw += data.decode("utf-8", "replace")
        return bool(data)


@contextmanager
def terminal(*args: str, env: Mapping[str, str] | None = None) -> Iterator[Terminal]:
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
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


def test_a_conversation_of_three_turns_one_of_them_interrupted(server: ServerProcess) -> None:
    with terminal(server.url) as chat:
        chat.wait_for(rf"Connected to {server.url} .*demo key")
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
def test_control_keys_end_the_chat_and_give_the_terminal_back(server: ServerProcess, keys: str) -> None:
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


def test_piped_lines_wait_for_their_answers_and_give_a_plain_transcript(server: ServerProcess) -> None:
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


def test_letters_that_the_output_cannot_show_do_not_end_the_chat(server: ServerProcess) -> None:
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


def test_a_wrong_key_is_one_sentence_that_names_it(server: ServerProcess) -> None:
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


def test_of_several_keys_in_the_environment_the_first_signs() -> None:
    with running_server(workers=1, api_key="sk_one") as server:
        ended = piped(server.url, said="bye\n", env={"ELEVENLABS_API_KEY": " sk_one,sk_two"})
    assert "agent> It was a pleasure" in ended.stdout


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_as_good_as_an_empty_one(server: ServerProcess, closed: str) -> None:
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


def test_the_end_that_the_server_makes_is_one_line() -> None:
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
