"""A load generator in a process of its own, as its parent sees it."""

from __future__ import annotations

import contextlib
import dataclasses
import mmap
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from types import TracebackType
from typing import IO, Any

import orjson

from se_server.errors import LoadError
from se_server.load._engine import COUNTERS, HISTOGRAMS_AT, SLOT_BYTES
from se_server.load.plan import LoadPlan
from se_server.telemetry._histogram import HISTOGRAM_BYTES, Histogram

__all__ = ["Connected", "Figures", "LoadProcess", "Run"]

START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 5.0
GRACE_S = 90.0
"""A run that exceeds its duration by this much counts as hung; the generator's own limit is one minute."""


@dataclasses.dataclass(slots=True)
class Figures:
    """The figures of a generator process so far. Those from `asked` on, and two histograms, belong to the current run.

    Attributes:
        up, opened, closed: conversations that are open now, were ever opened, and have ended.
        asked, turns: turns begun, and turns answered in full or interrupted by their user.
        chunks: texts of answers.
        interrupted: answered turns that the user interrupted.
        resends: transcripts repeated for lack of an answer.
        late_texts: texts under the id of an older turn, which the live API discards.
        pings: pings of the server, each answered.
        errors: errors of all kinds.
        sent_bytes, received_bytes: bytes on the wire, before TLS.
        cpu_ns, wall_ns: CPU time of the process, and elapsed time.
        behind_ns: open loop: the largest delay of a turn behind its schedule.
        first_chunk, final: the time to the first text, and to the final of turns answered in full.
        handshake: the time of the handshakes since the last `connect`.
    """

    up: int = 0
    opened: int = 0
    closed: int = 0
    asked: int = 0
    turns: int = 0
    chunks: int = 0
    interrupted: int = 0
    resends: int = 0
    late_texts: int = 0
    pings: int = 0
    errors: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    cpu_ns: int = 0
    wall_ns: int = 0
    behind_ns: int = 0
    first_chunk: Histogram = dataclasses.field(default_factory=Histogram)
    final: Histogram = dataclasses.field(default_factory=Histogram)
    handshake: Histogram = dataclasses.field(default_factory=Histogram)

    @classmethod
    def read(cls, memory: mmap.mmap) -> Figures:
        """Copy the figures from a slot."""
        with memoryview(memory) as view:
            numbers = view[: len(COUNTERS) * 8].cast("q").tolist()
            histograms = [Histogram(view[HISTOGRAMS_AT + place * HISTOGRAM_BYTES :]).copy() for place in range(3)]
        return cls(
            **dict(zip(COUNTERS, numbers, strict=True)),
            first_chunk=histograms[0],
            final=histograms[1],
            handshake=histograms[2],
        )


@dataclasses.dataclass(slots=True)
class Connected:
    """The result of `connect`.

    Attributes:
        count: conversations that are open.
        seconds: the time until the last one was open.
        cpu_s: CPU time of the generator.
        handshake: the time from the start of each connection, or from its scheduled start, to the end of the answer.
        errors: the number of errors of each kind.
        failures: the first few of each kind in words.
    """

    count: int
    seconds: float
    cpu_s: float
    handshake: Histogram
    errors: dict[str, int]
    failures: list[str]


@dataclasses.dataclass(slots=True)
class Run:
    """The result of `run`; names as in `Figures`.

    Attributes:
        wall_s: the time until the last open turn had ended.
        cpu_s: CPU time of the generator; if it is close to `wall_s`, the generator was the limit.
        behind_s: open loop: the largest delay of a turn behind its schedule.
        errors: the number of errors of each kind.
        failures: the first few of each kind in words.
    """

    turns: int
    chunks: int
    wall_s: float
    cpu_s: float
    first_chunk: Histogram
    final: Histogram
    handshake: Histogram
    asked: int
    interrupted: int
    resends: int
    late_texts: int
    pings: int
    sent_bytes: int
    received_bytes: int
    behind_s: float
    errors: dict[str, int]
    failures: list[str]


_SHARED = {field.name for field in dataclasses.fields(Run)} & {field.name for field in dataclasses.fields(Figures)} - {
    "errors"
}


class LoadProcess:
    """One generator process: started on creation, idle between commands, ended by `close`. A context manager.

    Args:
        plan: the process's plan.
        core: the core to bind it to; None leaves the choice to the system.

    Attributes:
        plan: the process's plan.

    Raises:
        LoadError: the process could not start; the message gives the reason.
    """

    def __init__(self, plan: LoadPlan, *, core: int | None = None) -> None:
        self.plan = plan
        self._unread = b""
        # Memory is shared by an unnamed file rather than by a fork: the parent may have threads.
        with tempfile.TemporaryFile() as file:
            file.truncate(SLOT_BYTES)
            self._memory = mmap.mmap(file.fileno(), SLOT_BYTES)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "se_server.load.worker", str(file.fileno()), "" if core is None else str(core)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=[file.fileno()],
                start_new_session=True,  # Ctrl+C at a terminal goes to the parent only
            )
        try:
            self._order(dataclasses.asdict(plan))
            self._reply(START_TIMEOUT_S)
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def figures(self) -> Figures:
        """Return the figures so far; callable at any time."""
        return Figures.read(self._memory)

    def connect(self, timeout_s: float = 30.0, per_s: float | None = None) -> Connected:
        """Open all conversations that are not open, at once or at a rate.

        Raises:
            LoadError: the process died or hangs. A server's refusal does not raise: see `errors`.
        """
        self.start_connect(timeout_s, per_s)
        return self.connected(timeout_s)

    def run(self, seconds: float, turns: int | None = None) -> Run:
        """Hold the conversations for this time or this many turns, then let every open turn end.

        Raises:
            LoadError: the process died or hangs.
        """
        self.start_run(seconds, turns)
        return self.ran(seconds)

    def hang_up(self) -> None:
        """End all conversations as the API does; `connect` may follow.

        Raises:
            LoadError: the process died or hangs.
        """
        self._order({"do": "hang_up"})
        self._reply(START_TIMEOUT_S)

    def start_connect(self, timeout_s: float = 30.0, per_s: float | None = None, count: int | None = None) -> None:
        """Begin to connect all conversations or the first `count`. Call `connected` next."""
        self._order({"do": "connect", "timeout_s": timeout_s, "per_s": per_s, "count": count})

    def connected(self, timeout_s: float = 30.0) -> Connected:
        """Wait until all conversations are open or have failed."""
        reply = self._reply(timeout_s + GRACE_S)
        figures = self.figures()
        return Connected(
            count=figures.up,
            seconds=reply["seconds"],
            cpu_s=figures.cpu_ns / 1e9,
            handshake=figures.handshake,
            errors=reply["errors"],
            failures=reply["failures"],
        )

    def start_run(self, seconds: float, turns: int | None = None) -> None:
        """Begin to run. Call `ran` next."""
        self._order({"do": "run", "seconds": seconds, "turns": turns})

    def ran(self, seconds: float) -> Run:
        """Wait until the run is over."""
        reply = self._reply(seconds + GRACE_S)
        figures = self.figures()
        # Fields of the same name; the others differ in unit, or are known only at the end.
        shared: dict[str, Any] = {name: getattr(figures, name) for name in _SHARED}
        return Run(
            **shared,
            wall_s=reply["seconds"],
            cpu_s=figures.cpu_ns / 1e9,
            behind_s=figures.behind_ns / 1e9,
            errors=reply["errors"],
            failures=reply["failures"],
        )

    def is_done(self, timeout_s: float) -> bool:
        """Wait up to `timeout_s` for the current step to end, and return whether it has."""
        return b"\n" in self._unread or self._read(timeout_s)

    def stop(self) -> None:
        """End the current step early; its result still has to be fetched."""
        self._order({"do": "stop"})

    def begin_close(self) -> None:
        """Let the process end its conversations and exit. Call `close` next."""
        with contextlib.suppress(BrokenPipeError):  # it has already ended
            _pipe(self._process.stdin).close()

    def close(self) -> None:
        """End the process's conversations and the process."""
        self.begin_close()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        _pipe(self._process.stdout).close()
        self._memory.close()

    def __enter__(self) -> LoadProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _order(self, order: Mapping[str, Any]) -> None:
        stdin = _pipe(self._process.stdin)
        try:
            stdin.write(orjson.dumps(order) + b"\n")
            stdin.flush()
        except BrokenPipeError:
            raise LoadError(self._how_it_ended()) from None

    def _reply(self, timeout_s: float) -> dict[str, Any]:
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._unread:
            if not self._read(max(0.0, deadline - time.monotonic())) and time.monotonic() >= deadline:
                raise LoadError(f"the load generator did not reply for {timeout_s:.0f} s")
        line, self._unread = self._unread.split(b"\n", 1)
        reply: dict[str, Any] = orjson.loads(line)
        if "failed" in reply:
            raise LoadError(reply["failed"])
        return reply

    def _read(self, timeout_s: float) -> bool:
        stdout = _pipe(self._process.stdout).fileno()
        if not select.select([stdout], [], [], timeout_s)[0]:
            return False
        data = os.read(stdout, 1 << 16)
        if not data:
            raise LoadError(self._how_it_ended())
        self._unread += data
        return b"\n" in self._unread

    def _how_it_ended(self) -> str:
        self._process.wait()
        return f"the load generator ended with status {self._process.returncode}; its error is shown above"


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream
