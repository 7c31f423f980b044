"""A `se-server` of several workers with its log, and conversations that notice every lost chunk."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import se_server
from bench.kernel import BenchError
from bench.load.targets import API_KEY
from se_server.simulator.caller import Caller

__all__ = ["Counted", "Service", "serving"]

COUNTING_HANDLER = Path(__file__).parent / "targets" / "counting_handler.py"
START_TIMEOUT_S, STOP_TIMEOUT_S, POLL_S = 30.0, 10.0, 0.02
CHUNKS = 8
READY = re.compile(r"se-server ready: (ws://\S+)")


class Service:
    """A running server.

    Attributes:
        process: the first supervisor; an upgrade starts another one.
        log_path: the output of the server and its workers.
        control_socket: the path of its control socket.
        url: the WebSocket URL.
    """

    def __init__(self, process: subprocess.Popen[bytes], log_path: Path, control_socket: str) -> None:
        self.process = process
        self.log_path = log_path
        self.control_socket = control_socket
        self.url = ""

    @property
    def pid(self) -> int:
        """The process id of the first supervisor."""
        return self.process.pid

    def log(self) -> str:
        """Return the output of the server and its workers so far."""
        return self.log_path.read_text(errors="replace")

    def find(self, pattern: str | re.Pattern[str], times: int = 1) -> list[str]:
        """Block until the output has this many matches of a pattern, and return them.

        Raises:
            BenchError: that took too long, or the server has ended.
        """
        deadline = time.monotonic() + START_TIMEOUT_S
        while len(found := re.findall(pattern, self.log())) < times:
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise BenchError(f"waited for {pattern!r} in vain; the server said: {self.log()[-1000:].strip()}")
            time.sleep(POLL_S)
        return found


@contextmanager
def serving(*options: str, workers: int, agent: Path = COUNTING_HANDLER) -> Iterator[Service]:
    """Run a server until the end of the block, without options from the environment.

    Args:
        options: further options.
        workers: how many there are.
        agent: the APP.

    Raises:
        BenchError: it does not start.
    """
    paths = os.pathsep.join([str(Path(se_server.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SE_SERVER_")}
    with tempfile.TemporaryDirectory() as folder:
        log_path, control_socket = Path(folder, "log"), str(Path(folder, "ctl"))
        command = [
            *(sys.executable, "-m", "se_server.cli.server", str(agent), "--workers", str(workers)),
            *("--host", "127.0.0.1", "--port", "0", "--control-socket", control_socket, *options),
        ]
        with log_path.open("wb") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**environment, "ELEVENLABS_API_KEY": API_KEY, "PYTHONPATH": paths, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )
        service = Service(process, log_path, control_socket)
        try:
            service.url = service.find(READY)[0]
            yield service
        finally:
            # Its group: an upgrade leaves another supervisor behind.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_TIMEOUT_S)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(STOP_TIMEOUT_S)


class Counted:
    """One conversation with the counting handler.

    Attributes:
        first_words_s: each turn's time to its first word, and its start, on the loop's clock.
        lost: incomplete answers.
    """

    def __init__(self, caller: Caller, name: str) -> None:
        self._caller = caller
        self._name = name
        self._turns = 0
        self.first_words_s: list[tuple[float, float]] = []
        self.lost = 0

    async def turn(self, chunks: int = CHUNKS) -> None:
        """Ask once, and read the answer.

        Raises:
            CallerError: the conversation was cut.
        """
        self._turns += 1
        tag = f"{self._name}-{self._turns}"
        asked_at = asyncio.get_running_loop().time()
        reply = await self._caller.say(f"{tag} {chunks}")
        if reply.text != "".join(f" {tag}.{number}" for number in range(chunks)):
            self.lost += 1
        if reply.first_word_s is not None:
            self.first_words_s.append((asked_at, reply.first_word_s))
