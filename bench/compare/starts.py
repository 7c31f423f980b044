"""The time of a start: of the supervisor, of a worker that takes the place of a killed one, and of the imports."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterable
from datetime import datetime
from threading import Timer

from bench.kernel import STOP_TIMEOUT_S, BenchError, Target, pinned, process_tree

__all__ = ["STARTS_S", "take_starts"]

STARTS_S = 3.5
"""Estimate of all."""
TIMED = (
    "import time; began_s = time.perf_counter(); from se_server import SpeechEngineServer, SpeechEngineSession;"
    " print(time.perf_counter() - began_s)"
)
KILLED = re.compile(r"^(?P<at>\S+)Z ERROR .* was killed by SIGKILL; another one takes its place")
STARTED = re.compile(r"^(?P<at>\S+)Z DEBUG .* worker \d+ \(pid \d+\) is ready\b")
TIMEOUT_S = 20.0
"""After this the server is killed, which ends its output."""


def take_starts(target: Target, core: int) -> dict[str, float]:
    """Measure the starts of se-server on a core, and its imports in a fresh interpreter.

    Raises:
        BenchError: it did not start, or no worker took the place of the killed one.
    """
    with pinned(core):
        ran = subprocess.run([target.command[0], "-c", TIMED], stdout=subprocess.PIPE, text=True, check=True)
    supervisor_s, worker_s = _start(target, core)
    _, preloaded_s = _start(target, core, "--preload-app")
    return {
        "supervisor_ready_s": supervisor_s,
        "worker_ready_s": worker_s,
        "worker_preloaded_s": preloaded_s,
        "import_s": float(ran.stdout),
    }


def _start(target: Target, core: int, *options: str) -> tuple[float, float]:
    """Return the seconds until the server is ready, and from the death of its worker until there is another."""
    with pinned(core):
        began_s = time.monotonic()
        server = subprocess.Popen(
            [*target.command, *options, "--log-level", "debug"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **target.environment, "PYTHONUNBUFFERED": "1"},
            text=True,
        )
    assert server.stdout is not None
    limit = Timer(TIMEOUT_S, server.kill)
    with server.stdout as lines:
        try:
            limit.start()
            _line(lines, re.compile(target.ready))
            supervisor_s = time.monotonic() - began_s
            worker = process_tree(server.pid)[-1]  # the youngest: one that preloads may be before it
            os.kill(worker, signal.SIGKILL)
            killed_at, ready_at = (datetime.fromisoformat(_line(lines, line)["at"]) for line in (KILLED, STARTED))
        finally:
            server.terminate()
            lines.read()
            server.wait(STOP_TIMEOUT_S)
            limit.cancel()
    return supervisor_s, (ready_at - killed_at).total_seconds()


def _line(lines: Iterable[str], wanted: re.Pattern[str]) -> re.Match[str]:
    """Read up to a line, and return what was found in it."""
    for line in lines:
        if found := wanted.search(line.rstrip()):
            return found
    raise BenchError(f"se-server ended, and had not printed {wanted.pattern!r}")
