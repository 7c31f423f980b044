"""Helpers of all tests: a real server process, the API's messages, and a plain WebSocket client."""

from __future__ import annotations

import json
import os
import random
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as websockets_connect

from se_server.auth import AUTHORIZATION_HEADER, sign_token

TEST_API_KEY = "sk_test_key_of_the_test_suite"
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 15.0
ANSWER_TIMEOUT_S = 10.0
POLL_S = 0.02
# Linux begins its own range at 32768.
FIRST_FREE_PORT, PORTS_OF_A_PART, PARTS_OF_PORTS = 16384, 1000, 16
_given_ports: set[int] = set()

READY_LINE = re.compile(r"se-server ready: (wss?://\S+:(\d+)/\S*)")


# --- a server process -----------------------------------------------------------------------------------------------


class ServerProcess:
    """A running `se-server`. Made by `running_server`.

    Attributes:
        pid: the supervisor's.
        port, url: its address, from its ready line.
        api_key: the key that verifies tokens; None for its own demo key.
    """

    def __init__(
        self,
        command: Sequence[str],
        env: Mapping[str, str],
        api_key: str | None,
        pass_fds: Sequence[int] = (),
        stdin: int = subprocess.DEVNULL,
    ) -> None:
        self.api_key = api_key
        self._lines: list[str] = []
        self._news = threading.Condition()
        self._ended = False
        self._process = subprocess.Popen(
            command,
            env=env,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            pass_fds=pass_fds,
        )
        self.pid = self._process.pid
        # A full pipe would block the server, so a thread reads all the time.
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.url = ""
        self.port = 0

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._news:
                self._lines.append(line)
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def output(self) -> str:
        """Return the output of the process and its workers so far."""
        with self._news:
            return "".join(self._lines)

    def wait_for_output(self, pattern: str | re.Pattern[str], timeout_s: float = START_TIMEOUT_S) -> re.Match[str]:
        """Wait until the output matches `pattern`; fail with the output if it ends or the time is over."""
        found: re.Match[str] | None = None

        def is_there() -> bool:
            nonlocal found
            found = re.search(pattern, "".join(self._lines))
            return found is not None or self._ended

        with self._news:
            self._news.wait_for(is_there, timeout_s)
            output, state = "".join(self._lines), "it ended" if self._ended else f"it took over {timeout_s:g} s"
        assert found is not None, f"waited for {pattern!r} in the output of se-server, but {state}:\n{output}"
        return found

    def worker_pids(self) -> list[int]:
        """Return the process ids of the children of the supervisor."""
        return sorted(pid for pid, parent in _processes() if parent == self.pid)

    def is_running(self) -> bool:
        """Whether the supervisor has not ended."""
        return self._process.poll() is None

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the supervisor only."""
        self._process.send_signal(number)

    def wait(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Wait until the supervisor has ended, and return its exit code.

        Raises:
            AssertionError: it did not end in time, and was killed.
        """
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            workers = self.worker_pids()
            self._process.kill()
            self._process.wait()
            for pid in workers:  # orphans now
                _kill(pid)
            raise AssertionError(f"se-server did not end within {timeout_s:g} s:\n{self.output()}") from None
        finally:
            # The reader ends at the end of the pipe, which a stray worker could hold open: hence the timeout.
            self._reader.join(STOP_TIMEOUT_S)
            if not self._reader.is_alive():
                assert self._process.stdout is not None
                self._process.stdout.close()
        return code

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Ask the server to end (SIGTERM) and return its exit code; may be called again."""
        if self.is_running():
            self._process.terminate()
        return self.wait(timeout_s)


def _processes() -> Iterator[tuple[int, int]]:
    """Yield (process id, parent's) of all running processes: from /proc, as small images have no ps, else from ps."""
    if not Path("/proc/self/stat").exists():
        command = ["ps", "-A", "-o", "pid=,ppid=,stat="]
        for line in subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines():
            pid, parent, state = line.split()
            if state[0] != "Z":
                yield int(pid), int(parent)
        return
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = Path("/proc", entry, "stat").read_text(encoding="utf-8", errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue  # it has ended
            state, parent = stat.rpartition(") ")[2].split()[:2]
            if state != "Z":
                yield int(entry), int(parent)


def wait_for_text(path: Path, pattern: str, timeout_s: float = START_TIMEOUT_S) -> re.Match[str]:
    """Wait until a file that another process writes matches `pattern`."""
    deadline = time.monotonic() + timeout_s
    text = ""
    while time.monotonic() < deadline:
        text = path.read_text() if path.exists() else ""
        if found := re.search(pattern, text):
            return found
        time.sleep(POLL_S)
    raise AssertionError(f"waited for {pattern!r} in {path.name} for {timeout_s:g} s:\n{text}")


def wait_for_end(pids: Sequence[int], timeout_s: float = STOP_TIMEOUT_S) -> None:
    """Wait until these processes, children of others, have ended, reaped or not."""
    deadline = time.monotonic() + timeout_s
    while running := {pid for pid, _ in _processes()}.intersection(pids):
        assert time.monotonic() < deadline, f"still running after {timeout_s:g} s: {running}"
        time.sleep(POLL_S)


def free_port() -> int:
    """Return a port of the loopback for a server that cannot take port 0.

    Nobody takes it meanwhile: it is below the range from which the kernel gives ports to clients and to port 0, and
    each process of pytest-xdist has a part of those below for itself.
    """
    process = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = FIRST_FREE_PORT + process % PARTS_OF_PORTS * PORTS_OF_A_PART
    while True:
        port = random.randrange(first, first + PORTS_OF_A_PART)
        if port in _given_ports:
            continue  # the server of this one may not listen yet
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            _given_ports.add(port)
            return port


@contextmanager
def stopped_at_the_end(pid: int) -> Iterator[None]:
    """Stop a supervisor that is not our child at the end of the block."""
    try:
        yield
    finally:
        _kill(pid, signal.SIGTERM)
        wait_for_end([pid])


def peak_memory_kib() -> int:
    """Return this process's peak memory."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // 1024 if sys.platform == "darwin" else peak  # bytes there, KiB elsewhere


def _kill(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return  # it has ended


def environment(api_key: str | None = TEST_API_KEY, **more: str) -> dict[str, str]:
    """Return the variables for a server process; tests/conftest.py has removed those that would configure it."""
    key = {} if api_key is None else {"ELEVENLABS_API_KEY": api_key}
    return {**os.environ, **key, "PYTHONUNBUFFERED": "1", **more}


@contextmanager
def running_server(
    *args: str,
    workers: int = 2,
    app: str | Path | None = None,
    env: Mapping[str, str] | None = None,
    api_key: str | None = TEST_API_KEY,
    timeout_s: float = START_TIMEOUT_S,
) -> Iterator[ServerProcess]:
    """Run `se-server` on a free port of the loopback until the end of the block.

    Args:
        args: further command line options.
        workers: the number of workers.
        app: the APP argument; None runs the demo agent.
        env: further environment variables.
        api_key: the key that verifies tokens, passed in the environment; None: the demo key.
        timeout_s: limit for the start, in seconds.
    """
    command = [sys.executable, "-m", "se_server.cli.server"]
    command += [] if app is None else [str(app)]
    command += ["--host", "127.0.0.1", "--port", "0", "--workers", str(workers), *args]
    server = ServerProcess(command, environment(api_key, **(env or {})), api_key)
    try:
        ready = server.wait_for_output(READY_LINE, timeout_s)
        server.url, server.port = ready[1], int(ready[2])
        yield server
    except BaseException:
        with suppress(AssertionError):  # the test's own failure is the one to be read
            server.stop()
        raise
    server.stop()


# --- the API's messages ---------------------------------------------------------------------------------------------


def init_message(conversation_id: str = "conv_test") -> str:
    """Return an `init`, with blanks as the live API sends them."""
    return json.dumps({"type": "init", "conversation_id": conversation_id})


def transcript_message(*said: str | tuple[str, str], event_id: int | None = 1) -> str:
    """Return a `user_transcript`.

    Args:
        said: the history; plain strings alternate between user and agent, beginning with the user; pairs are
            (role, content).
        event_id: its id; None omits the field.
    """
    entries = [
        {"role": entry[0], "content": entry[1]}
        if isinstance(entry, tuple)
        else {"role": ("user", "agent")[place % 2], "content": entry}
        for place, entry in enumerate(said)
    ]
    message: dict[str, Any] = {"type": "user_transcript", "user_transcript": entries}
    if event_id is not None:
        message["event_id"] = event_id
    return json.dumps(message)


def ping_message() -> str:
    """Return a `ping` of the protocol."""
    return json.dumps({"type": "ping"})


def close_message() -> str:
    """Return a `close` of the protocol."""
    return json.dumps({"type": "close"})


# --- a plain WebSocket client ---------------------------------------------------------------------------------------


class _Client(ClientConnection):
    """A connection that closes its transport when its peer does; without it asyncio warns of TLS transports on 3.10."""

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.transport.close()


@asynccontextmanager
async def connect(
    url: str, api_key: str | None = TEST_API_KEY, *, headers: Mapping[str, str] | None = None, **options: Any
) -> AsyncIterator[ClientConnection]:
    """Open a WebSocket with a signed token, using the `websockets` package, which shares no code with the server.

    Args:
        url: the server's URL.
        api_key: the key that signs the token; None sends no token.
        headers: further headers of the upgrade.
        options: for `websockets.connect`.
    """
    token = {} if api_key is None else {AUTHORIZATION_HEADER: sign_token(api_key)}
    options = {"compression": None, "proxy": None, "create_connection": _Client, **options}
    async with websockets_connect(url, additional_headers={**token, **(headers or {})}, **options) as websocket:
        yield websocket


async def read_message(websocket: ClientConnection) -> dict[str, Any]:
    """Receive one message and decode it."""
    message = json.loads(await websocket.recv())
    assert isinstance(message, dict)
    return message


async def read_answer(websocket: ClientConnection) -> list[dict[str, Any]]:
    """Receive messages up to and including the first final one."""
    messages = []
    while not messages or not messages[-1].get("is_final"):
        messages.append(await read_message(websocket))
    return messages


def spoken(messages: Sequence[Mapping[str, Any]]) -> str:
    """Return the text of an answer's messages."""
    return "".join(message["content"] for message in messages if message["type"] == "agent_response")
