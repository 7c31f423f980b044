"""The server under attack: its process, its log, its memory and its workers."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.attacks.wire import Address
from bench.kernel import BenchError
from bench.load.targets import API_KEY

AGENT = Path(__file__).with_name("agent.py")
READY = re.compile(rb"ready: wss?://[^:]+:(\d+)/")
START_TIMEOUT_S, STOP_TIMEOUT_S = 30.0, 30.0
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Victim:
    """A running server.

    Attributes:
        address: where it listens.
        reads_log: cleared while nobody reads its stderr.
    """

    def __init__(self, process: subprocess.Popen[bytes], control: str, tls: bool) -> None:
        self._process = process
        self._log = bytearray()
        self.reads_log = threading.Event()
        self.reads_log.set()
        threading.Thread(target=self._read, daemon=True).start()
        deadline = time.monotonic() + START_TIMEOUT_S
        while (ready := READY.search(self._log)) is None:
            if process.poll() is not None or time.monotonic() > deadline:
                raise BenchError(f"se-server was not ready: {self._log[-500:].decode(errors='replace')}")
            time.sleep(0.02)
        self.address = Address(int(ready[1]), tls, control)
        self.workers = self.children()

    def _read(self) -> None:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        while data := os.read(descriptor, 1 << 16):
            self._log += data
            if len(self._log) > 1 << 24:
                del self._log[: 1 << 23]
            self.reads_log.wait()

    def children(self) -> list[int]:
        """Return the process ids of the supervisor's children."""
        pid = self._process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def rss_mib(self) -> float:
        """Return the memory of all processes; pages that they share count in each."""
        pages = 0
        for pid in (self._process.pid, *self.children()):
            try:
                pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            except (OSError, IndexError):
                continue
        return pages * PAGE_BYTES / 2**20

    def faults(self) -> list[str]:
        """Return the workers that were replaced, and the log lines of bugs."""
        found = [f"worker {pid} was replaced" for pid in self.workers if pid not in self.children()]
        lines = self._log.decode(errors="replace").splitlines()
        return found + [line[:200] for line in lines if re.search(r" CRITICAL |Traceback|hangs, its event loop", line)]

    def log(self) -> str:
        """Return the end of the log."""
        return self._log.decode(errors="replace")


@contextmanager
def victim(*, tls: bool = False, descriptors: int | None = None, options: Sequence[str] = ()) -> Iterator[Victim]:
    """Run a server with two workers.

    Args:
        tls: with the throwaway certificate.
        descriptors: the most that each of its processes may have.

    Raises:
        BenchError: it does not start.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SE_SERVER_")}
    command = [sys.executable, "-m", "se_server.cli.server", str(AGENT), "--workers", "2", "--host", "127.0.0.1"]
    with tempfile.TemporaryDirectory() as directory:
        control = f"{directory}/ctl"
        command += ["--port", "0", "--control-socket", control, "--drain-timeout-s", "0", *options]
        command += ["--trusted-proxies", "127.0.0.2"]
        if tls:
            from bench.load.targets import certificate

            certificate.make_certificate()
            command += ["--certfile", str(certificate.CHAIN), "--keyfile", str(certificate.KEY)]

        process = subprocess.Popen(
            command,
            env={**environment, "ELEVENLABS_API_KEY": API_KEY},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        if descriptors is not None:
            resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (descriptors, descriptors))
        try:
            yield (running := Victim(process, control, tls))
            running.reads_log.set()
        finally:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
