"""Writes `docs/screens.md`: the main screens of each command on terminals of 80 and 120 columns.

`python -m tests.screens`. The commands run in pseudo-terminals against real servers, and a terminal emulator
reads what they write.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import shutil
import signal
import socket
import struct
import sys
import tempfile
import termios
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyte

PAGE = Path(__file__).parents[1] / "docs" / "screens.md"
WIDTHS = (80, 120)
ROWS = 400
KEY = "sk_example"
AGENT = """import asyncio

SHOP = "On Saturday we are open from ten to two, and the rest of the week from nine to six."


async def on_transcript(transcript, session):
    said = transcript[-1].content
    if "refund" in said:
        raise ConnectionError("the order system does not answer")
    await asyncio.sleep(0.12)
    for word in SHOP.split():
        await session.send_response(word + " ", final=False)
        await asyncio.sleep(0.01)
"""
HEAD = """# Screens

The main screens of each command, at 80 and at 120 columns, as a terminal shows them. `python -m tests.screens` makes
this page with real servers; names, times and process ids differ each time. Colours are left out: they mark levels,
states and who speaks, and are off with `NO_COLOR` and on terminals without any.
"""


@dataclass(frozen=True)
class Shot:
    """One screen.

    Attributes:
        title: the heading.
        command: the words of the command; `{url}`, `{socket}` and the like are replaced.
        keys: what is typed, each after so many seconds.
        wait_s: the time until the screen is read, at most.
        until: what the screen shows then.
    """

    title: str
    command: Sequence[str]
    keys: Sequence[tuple[float, str]] = ()
    wait_s: float = 15.0
    until: str = ""


class Terminal:
    """A command in a pseudo-terminal.

    Args:
        command: its words.
        columns: the width.
        env: further variables of its environment.
    """

    def __init__(self, command: Sequence[str], columns: int, env: dict[str, str], folder: Path) -> None:
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            # The width is set before the command starts.
            fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
            os.chdir(folder)
            os.execvpe(command[0], list(command), env)
        self._screen = pyte.HistoryScreen(columns, 50, history=ROWS)
        self._stream = pyte.ByteStream(self._screen)
        self._columns = columns

    def type(self, keys: str) -> None:
        os.write(self._fd, keys.encode())

    def read(self, wait_s: float, until: str = "") -> bool:
        """Read until the screen shows a text, the command ends, or the time is over; return whether it goes on."""
        end = time.monotonic() + wait_s
        while time.monotonic() < end:
            if until and re.search(until, self.text()):
                return True
            ready, _, _ = select.select([self._fd], [], [], 0.05)
            if not ready:
                continue
            try:
                data = os.read(self._fd, 65536)
            except OSError:
                return False
            if not data:
                return False
            self._stream.feed(data)
        return True

    def text(self) -> str:
        """What the terminal has shown, scrolled lines included."""
        top = ["".join(row[column].data for column in range(self._columns)) for row in self._screen.history.top]
        return "\n".join(line.rstrip() for line in [*top, *self._screen.display]).rstrip()

    def close(self) -> None:
        with suppress(OSError):
            os.kill(self.pid, signal.SIGTERM)
        self.read(5.0)
        with suppress(OSError):
            os.kill(self.pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)
        os.close(self._fd)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


def shots() -> list[Shot]:
    talk = ("se-chat", "{url}")
    return [
        Shot("se-server: the log on a terminal", ("se-server", "agent.py", "--port", "{other}"), until="stopped"),
        Shot("se-server --check", ("se-server", "--check", "agent.py", "--port", "{other}")),
        Shot("se-server --print-config", ("se-server", "--print-config", "agent.py", "--workers", "2")),
        Shot("se-chat", talk, (
            (0.1, "/help\r"), (0.5, "Are you open on Saturday?\r"), (1.5, "And on Sunday?\r"), (0.25, "Wait.\r"),
            (1.5, "I want a refund.\r"), (1.5, "/quit\r"),
        )),
        Shot("se-ctl", ("se-ctl",)),
        Shot("se-ctl status", ("se-ctl", "--socket", "{socket}", "status")),
        Shot("se-ctl conversations", ("se-ctl", "--socket", "{socket}", "conversations")),
        Shot("se-ctl turns", ("se-ctl", "--socket", "{socket}", "turns", "--slow", "4")),
        Shot("se-doctor", ("se-doctor", "{url}", "--quick", "--at-once", "14"), wait_s=60),
        Shot("se-bench load, while it runs", ("se-bench", "load", "{url}", "-n", "20", "--duration-s", "30"),
             wait_s=12, until="4 of 30 s"),
        Shot("se-bench load, the report", ("se-bench", "load", "{url}", "-n", "3", "--turns-per-s", "20",
                                           "--duration-s", "2"), wait_s=20),
        Shot("se-bench capacity", ("se-bench", "capacity", "{url}", "--step-s", "1", "--most", "8", "--first", "4",
                                   "--think-s", "0.3"), wait_s=40),
        Shot("Mistakes", ("sh", "-c", "{mistakes}"), wait_s=30),
    ]  # fmt: skip


MISTAKES = (
    "se-server --bind 0.0.0.0", "se-server --allow-ips 10.0.0", "se-ctl drain", "se-chat localhost:3001",
    "se-bench load --clients 3", "se-doctor --only nothing",
)  # fmt: skip


def page() -> str:
    """Take all screens, and return the page."""
    programs = str(Path(sys.executable).parent)
    parts = [HEAD]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "agent.py").write_text(AGENT)
        env = {
            **{key: value for key, value in os.environ.items() if not key.startswith("SE_SERVER_")},
            "PATH": programs + os.pathsep + os.environ["PATH"], "TERM": "xterm-256color", "NO_COLOR": "1",
            "ELEVENLABS_API_KEY": KEY, "XDG_STATE_HOME": name, "XDG_RUNTIME_DIR": name, "LANG": "C.UTF-8",
        }  # fmt: skip
        port, other = free_port(), free_port()
        places = {
            "url": f"ws://127.0.0.1:{port}/", "socket": "agent.ctl", "other": str(other),
            "mistakes": "; ".join(f"echo '$ {line}'; {line}" for line in MISTAKES),
        }  # fmt: skip
        serve = ("se-server", "agent.py", "--port", str(port), "--host", "127.0.0.1", "--workers", "2",
                 "--control-socket", "agent.ctl", "--admin", "127.0.0.1:0")  # fmt: skip
        server = Terminal(serve, 120, env, folder)
        server.read(20.0, "ready")
        caller = Terminal(("se-chat", places["url"]), 80, env, folder)
        caller.read(10.0, "you>")
        caller.type("Are you open?\r")
        caller.read(5.0, "six")
        try:
            for shot in shots():
                parts.append(f"## {shot.title}\n")
                for columns in WIDTHS:
                    parts.append(f"At {columns} columns:\n\n```text\n{take(shot, columns, places, env, folder)}\n```\n")
        finally:
            caller.close()
            server.close()
    return "\n".join(parts)


def take(shot: Shot, columns: int, places: dict[str, str], env: dict[str, str], folder: Path) -> str:
    """Run a command, and return its screen."""
    command = [word.format(**places) for word in shot.command]
    terminal = Terminal(command, columns, env, folder)
    try:
        if "log on a terminal" in shot.title:
            terminal.read(20.0, "started")
            caller = Terminal(("se-chat", f"ws://127.0.0.1:{places['other']}/"), 80, env, folder)
            caller.read(10.0, "you>")
            for said in ("Are you open?\r", "I want a refund.\r", "/quit\r"):
                caller.type(said)
                caller.read(1.2)
            caller.close()
            os.kill(terminal.pid, signal.SIGTERM)
        if shot.keys:
            terminal.read(10.0, "you>")
        for wait_s, keys in shot.keys:
            terminal.read(wait_s)
            terminal.type(keys)
        terminal.read(shot.wait_s, shot.until)
        text = terminal.text()
    finally:
        terminal.close()
    shown = "$ " + " ".join(command) + "\n" if shot.command[0] != "sh" else ""
    return "\n".join(line for line in (shown + text).splitlines() if "could not read a CPU" not in line)


def main() -> None:
    """Write the page."""
    if shutil.which("se-server", path=str(Path(sys.executable).parent)) is None:
        sys.exit("install the package first: pip install -e .")
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"written: {PAGE}\n")


if __name__ == "__main__":
    main()
