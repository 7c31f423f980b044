"""A reader of stderr that stalls holds up no conversation, no worker and no supervisor; lost lines are counted."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.functional.processes import write_agent
from tests.helpers import (
    ANSWER_TIMEOUT_S,
    START_TIMEOUT_S,
    STOP_TIMEOUT_S,
    connect,
    environment,
    init_message,
    read_answer,
    spoken,
    transcript_message,
)

# Logs 200 lines of 1 KB in each turn.
AGENT = """
    import logging, os
    logger = logging.getLogger("agent")
    async def on_transcript(transcript, session):
        for number in range(200):
            logger.info("%s %d %s", transcript[-1].content, number, "x" * 1000)
        await session.send_response(str(os.getpid()))
"""
LINES_PER_TURN = 200
TURNS = 20
TAIL_BYTES = 1 << 17
CONVERSATIONS = 6
LOST = re.compile(r"(\d+) log lines were lost")


class StalledServer:
    """A server whose stderr is not read until `read_all`."""

    def __init__(self, process: subprocess.Popen[bytes], reader: int, port: int) -> None:
        self.process = process
        self.reader = reader
        self.url = f"ws://127.0.0.1:{port}/"

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(STOP_TIMEOUT_S)


@contextlib.contextmanager
def stalled_server(
    app: Path, kind: str, *args: str, stdout: str = os.devnull, env: Mapping[str, str] | None = None
) -> Iterator[StalledServer]:
    """Start a server with two workers, whose stderr is a pipe, a socket or a terminal that nobody reads.

    Args:
        stdout: a file, or `closed`.
    """
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    if kind == "pipe":
        reader, writer = os.pipe()
    elif kind == "socket":
        ours, theirs = socket.socketpair()
        reader, writer = ours.detach(), theirs.detach()
    else:
        reader, writer = pty.openpty()
    command = [sys.executable, "-m", "se_server.cli.server", str(app), "--fd", str(listening.fileno())]
    if stdout == "closed":
        command = ["sh", "-c", 'exec "$@" >&-', "sh", *command]
    with open(os.devnull if stdout == "closed" else stdout, "wb") as output:
        process = subprocess.Popen(
            [*command, "--workers", "2", *args],
            env=environment(**(env or {})),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=writer,
            pass_fds=[listening.fileno()],
        )
    listening.close()
    os.close(writer)
    try:
        wait_ready(port)
        yield StalledServer(process, reader, port)
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        finally:
            os.close(reader)


def wait_ready(port: int) -> None:
    """Wait until the server accepts conversations; its ready line may have no reader."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        with socket.create_connection(("127.0.0.1", port), ANSWER_TIMEOUT_S) as connection:
            connection.sendall(b"GET /readyz HTTP/1.0\r\n\r\n")
            if b" 200 " in connection.recv(1024):
                return
    raise AssertionError("the server is not ready")


def read_until(reader: int, pattern: str, timeout_s: float = ANSWER_TIMEOUT_S) -> str:
    """Read until the text matches; return it."""
    deadline, text = time.monotonic() + timeout_s, bytearray()
    while time.monotonic() < deadline:
        if select.select([reader], [], [], 0.1)[0]:
            try:
                data = os.read(reader, 1 << 16)
            except OSError:  # a terminal whose other side is closed
                data = b""
            if not data:
                break
            text += data
        if re.search(pattern, text[-TAIL_BYTES:].decode(errors="replace")):
            return text.decode()
    raise AssertionError(f"waited for {pattern!r}:\n{text[-3000:].decode(errors='replace')}")


async def talk(url: str, name: str, turns: int = TURNS) -> tuple[str, float]:
    """Hold a conversation; return the worker that answers and the longest wait for an answer."""
    worst_s, worker = 0.0, ""
    async with connect(url) as websocket:
        await websocket.send(init_message(name))
        for turn in range(1, turns + 1):
            began = time.monotonic()
            await websocket.send(transcript_message(name, event_id=turn))
            worker = spoken(await asyncio.wait_for(read_answer(websocket), ANSWER_TIMEOUT_S))
            worst_s = max(worst_s, time.monotonic() - began)
    return worker, worst_s


async def healthy(url: str) -> bool:
    port = int(url.rsplit(":", 1)[1].split("/")[0])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /healthz HTTP/1.0\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), ANSWER_TIMEOUT_S)
    writer.close()
    return b" 200 " in answer


@pytest.fixture
def app(tmp_path: Path) -> Path:
    return write_agent(tmp_path / "agent.py", AGENT)


@pytest.mark.parametrize("kind", ["pipe", "socket", "terminal"])
async def test_a_stalled_reader_stops_no_conversation(app: Path, kind: str) -> None:
    """Lines that find no room are counted, and the count is logged when the reader goes on."""
    with stalled_server(app, kind) as server:
        # 24 MB of lines: pipe, queue and all else are full long before the end.
        found = await asyncio.gather(*(talk(server.url, f"conv_{number}") for number in range(CONVERSATIONS)))
        assert {worker for worker, _ in found} <= set(children_of(server.process.pid))
        assert max(worst_s for _, worst_s in found) < 5
        assert await healthy(server.url)
        text = read_until(server.reader, LOST.pattern)
        await talk(server.url, "afterwards", 1)
        text += read_until(server.reader, rf"afterwards {LINES_PER_TURN - 1} ")
    if kind == "terminal":  # it takes parts of lines while it is full, and those of two processes may mix
        return
    numbers: dict[str, tuple[int, int]] = {}
    for line in text.splitlines()[:-1]:
        assert re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z [A-Z]+ \[\d+\] \S+: ", line), line
        if found_line := re.search(r"agent: (conv_\d) (\d+) x{1000} .*event_id=(\d+)$", line):
            place = (int(found_line[3]), int(found_line[2]))
            assert numbers.get(found_line[1], (0, 0)) <= place  # the order of one process is kept
            numbers[found_line[1]] = place


PRINTS = """
    import os, sys
    async def on_transcript(transcript, session):
        for number in range(200):
            print(transcript[-1].content, number, "x" * 1000, file=sys.{stream})
        await session.send_response(str(os.getpid()))
"""


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
async def test_prints_wait_for_no_reader(tmp_path: Path, stream: str) -> None:
    app = write_agent(tmp_path / "agent.py", PRINTS.replace("{stream}", stream))
    reader, writer = os.pipe()
    with stalled_server(app, "pipe", stdout=f"/proc/self/fd/{writer}") as server:
        os.close(writer)
        found = await asyncio.gather(*(talk(server.url, f"conv_{number}", 10) for number in range(4)))
        assert {worker for worker, _ in found} <= set(children_of(server.process.pid))
        assert max(worst_s for _, worst_s in found) < 5
        assert await healthy(server.url)
        output = reader if stream == "stdout" else server.reader
        read_until(output, rf"\d+ writes to {stream} were lost")
        await talk(server.url, "afterwards", 1)
        read_until(output, rf"afterwards {LINES_PER_TURN - 1} ")
    os.close(reader)


def children_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def fill(descriptor: int) -> None:
    """Fill a pipe through an open file of its own, so that its other writers keep their mode."""
    writer = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"#" * 4095 + b"\n")
    os.close(writer)


async def test_a_stalled_reader_does_not_stop_the_supervisor(app: Path) -> None:
    """It replaces a worker, reloads, and ends in time; the lines follow when the reader goes on."""
    with stalled_server(app, "pipe") as server:
        read_until(server.reader, "started: ")  # a worker that is killed before that ends the start
        fill(server.reader)
        pid = server.process.pid
        before = set(children_of(pid))
        os.kill(int(min(before)), signal.SIGKILL)
        await until(lambda: len(set(children_of(pid)) - before) == 1)
        for _ in range(50):
            server.process.send_signal(signal.SIGTTIN)
            server.process.send_signal(signal.SIGTTOU)
        both = set(children_of(pid))
        server.process.send_signal(signal.SIGHUP)
        await until(lambda: len(set(children_of(pid)) - both) >= 2)
        assert await healthy(server.url)
        text = read_until(server.reader, "generation 2 serves")
        assert "was killed by SIGKILL; another one takes its place" in text
        fill(server.reader)
        assert server.stop() == 0


# While the file `hangs` exists, writes to a regular file wait, as those to a disk that hangs.
HANGING_DISK = """
    import os, stat, time
    here, write = os.path.dirname(__file__), os.write
    def hang(descriptor, data):
        while stat.S_ISREG(os.fstat(descriptor).st_mode) and os.path.exists(here + "/hangs"):
            time.sleep(0.01)
        return write(descriptor, data)
    os.write = hang
"""


async def test_a_disk_that_hangs_stops_nothing(app: Path, tmp_path: Path) -> None:
    """Conversations go on, a killed worker is replaced, and a reload is done; the lines follow."""
    log, hangs = tmp_path / "log", tmp_path / "site" / "hangs"
    hangs.parent.mkdir()
    (hangs.parent / "sitecustomize.py").write_text(textwrap.dedent(HANGING_DISK))
    with stalled_server(app, "pipe", "--log-file", str(log), env={"PYTHONPATH": str(hangs.parent)}) as server:
        await until(lambda: "started: " in log.read_text())
        hangs.touch()
        await talk(server.url, "conv_1", 3)
        pid = server.process.pid
        before = set(children_of(pid))
        os.kill(int(min(before)), signal.SIGKILL)
        await until(lambda: len(set(children_of(pid)) - before) == 1)
        both = set(children_of(pid))
        server.process.send_signal(signal.SIGHUP)
        await until(lambda: len(set(children_of(pid)) - both) >= 2)
        assert "was killed" not in log.read_text()
        hangs.unlink()
        await until(lambda: "generation 2 serves" in log.read_text())
        assert "was killed by SIGKILL; another one takes its place" in log.read_text()
        assert server.stop() == 0


async def test_the_last_lines_are_written_at_the_end(app: Path) -> None:
    """Lines wait in a worker whose reader stalls; they are flushed when the reader goes on and the worker exits."""
    with stalled_server(app, "pipe") as server:
        fill(server.reader)
        await talk(server.url, "conv_1", 1)
        server.process.terminate()
        text = await asyncio.to_thread(read_until, server.reader, "se_server.server: stopped")
        assert server.process.wait(STOP_TIMEOUT_S) == 0
        assert f"conv_1 {LINES_PER_TURN - 1} " in text
        assert "conversation ended: conversation_id=conv_1" in text


async def test_lost_lines_are_json_with_json(app: Path) -> None:
    with stalled_server(app, "pipe", "--log-format", "json") as server:
        fill(server.reader)
        await talk(server.url, "conv_1", 10)
        text = read_until(server.reader, LOST.pattern + r"[^\n]*\n")
    found = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    lost = next(record for record in found if LOST.match(record["message"]))
    assert (lost["level"], lost["logger"]) == ("warning", "se_server.log")
    assert lost["lost"] > 100


async def test_a_descriptor_without_proc_is_asked_first(app: Path, tmp_path: Path) -> None:
    """As on macOS, or where the pipe belongs to another user: /proc does not open the pipe again."""
    hook = tmp_path / "site"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(
        "import os\nreal = os.open\n"
        "def closed(path, *args, **options):\n"
        "    if str(path).startswith('/proc/self/fd/'): raise PermissionError(13, 'denied')\n"
        "    return real(path, *args, **options)\n"
        "os.open = closed\n"
    )
    with stalled_server(app, "pipe", env={"PYTHONPATH": str(hook)}) as server:
        fill(server.reader)
        await asyncio.gather(*(talk(server.url, f"conv_{number}", 5) for number in range(2)))
        assert await healthy(server.url)
        read_until(server.reader, LOST.pattern)


async def test_a_full_disk_stops_no_conversation(app: Path) -> None:
    """Writes to /dev/full fail as those to a full disk do."""
    with stalled_server(app, "pipe", "--log-file", "/dev/full") as server:
        await asyncio.gather(*(talk(server.url, f"conv_{number}", 3) for number in range(2)))
        assert server.stop() == 0


async def test_debug_output_needs_no_stdout(app: Path) -> None:
    """With --debug, conversations go on when stdout is full, closed or has no reader."""
    for stdout in ("/dev/full", "closed"):
        with stalled_server(app, "pipe", "--debug", stdout=stdout) as server:
            fill(server.reader)
            worker, _ = await talk(server.url, "conv_1", 3)
            assert worker in children_of(server.process.pid)
            assert "[SpeechEngine] turn ended" in read_until(server.reader, "turn ended: event_id=1")


FORKS = """
    import logging, os, threading
    logger = logging.getLogger("agent")
    async def on_transcript(transcript, session):
        for _ in range(2000):
            logger.info("parent %s", "x" * 1000)
        pid = os.fork()
        if pid == 0:
            for _ in range(2000):
                logger.info("child %s", "x" * 1000)
            os._exit(7)
        import asyncio
        code = await asyncio.to_thread(os.waitpid, pid, 0)
        await session.send_response(str(os.waitstatus_to_exitcode(code[1])))
"""


async def test_a_forked_child_of_user_code_can_log(tmp_path: Path) -> None:
    """Lines wait in its parent, whose thread is about to write them."""
    with stalled_server(write_agent(tmp_path / "agent.py", FORKS), "pipe") as server:
        fill(server.reader)
        for number in range(3):
            assert (await talk(server.url, f"conv_{number}", 1))[0] == "7"


async def until(is_so: object) -> None:
    """Wait until a condition holds."""
    assert callable(is_so)
    deadline = time.monotonic() + START_TIMEOUT_S
    while not is_so():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
