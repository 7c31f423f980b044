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
"""How much longer than asked a run may take before the generator counts as hung; above its own limit of a minute."""


@dataclasses.dataclass(slots=True)
class Figures:
    """What a generator process has counted so far; those from `asked` on, and the two histograms, of this run.

    Attributes:
        up, opened, closed: conversations that are up; that ever were, and that are no more.
        asked, turns: turns begun, and those that were answered in full or interrupted by their user.
        chunks: texts of answers.
        interrupted: turns with an answer that the user cut short.
        resends: transcripts that were sent again for want of an answer.
        late_texts: texts under the id of an older turn, which the live API discards.
        pings: of the server, each answered.
        errors: whatever went wrong.
        sent_bytes, received_bytes: on the wire, before TLS.
        cpu_ns, wall_ns: CPU time of the process, and the time it took.
        behind_ns: open loop: how much later than scheduled a turn was begun, at worst.
        first_chunk, final: from asking to the first text, and to the final of turns answered in full.
        handshake: of the conversations since the last `connect`.
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
        """Copy what stands in a slot."""
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
    """What became of `connect`.

    Attributes:
        count: conversations that are up.
        seconds: how long it took until the last one was.
        cpu_s: CPU time of the generator.
        handshake: from the start of each connection, or from when it should have started, to the answer's end.
        errors: how often what went wrong.
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
    """What became of `run`; names as in `Figures`.

    Attributes:
        wall_s: until the last open turn had ended.
        cpu_s: CPU time of the generator: where it is near `wall_s`, the generator was the limit.
        behind_s: open loop: how much later than scheduled a turn was begun, at worst.
        errors: how often what went wrong.
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
    """One generator process: started on creation, idle between orders, ended by `close`. A context manager.

    Args:
        plan: what it does.
        core: the core it is bound to; None leaves that to the system.

    Attributes:
        plan: what it does.

    Raises:
        LoadError: it could not start; the text says why.
    """

    def __init__(self, plan: LoadPlan, *, core: int | None = None) -> None:
        self.plan = plan
        self._unread = b""
        # Shared by a file without a name, not by a fork: the parent may have threads.
        with tempfile.TemporaryFile() as file:
            file.truncate(SLOT_BYTES)
            self._memory = mmap.mmap(file.fileno(), SLOT_BYTES)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "se_server.load.worker", str(file.fileno()), "" if core is None else str(core)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=[file.fileno()],
                start_new_session=True,  # a terminal's Ctrl+C is the parent's to hear
            )
        try:
            self._order(dataclasses.asdict(plan))
            self._reply(START_TIMEOUT_S)
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def figures(self) -> Figures:
        """Return what it has counted so far; at any time."""
        return Figures.read(self._memory)

    def connect(self, timeout_s: float = 30.0, per_s: float | None = None) -> Connected:
        """Open all conversations that are not up, at once or so many a second.

        Raises:
            LoadError: the process died or hangs. A server that refuses is no exception: see `errors`.
        """
        self.start_connect(timeout_s, per_s)
        return self.connected(timeout_s)

    def run(self, seconds: float, turns: int | None = None) -> Run:
        """Hold the conversations for so long or for so many turns, and then let every open turn end.

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
        """Begin to connect, all or the first so many; `connected` has to follow."""
        self._order({"do": "connect", "timeout_s": timeout_s, "per_s": per_s, "count": count})

    def connected(self, timeout_s: float = 30.0) -> Connected:
        """Wait until all conversations are open, or as good as that gets."""
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
        """Begin to run; `ran` has to follow."""
        self._order({"do": "run", "seconds": seconds, "turns": turns})

    def ran(self, seconds: float) -> Run:
        """Wait until the run is over."""
        reply = self._reply(seconds + GRACE_S)
        figures = self.figures()
        # What both have by the same name; the rest is in other units, or known at the end only.
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
        """Wait at most so long until what was begun is over, and say whether it is."""
        return b"\n" in self._unread or self._read(timeout_s)

    def stop(self) -> None:
        """End what was begun early; its result has still to be fetched."""
        self._order({"do": "stop"})

    def begin_close(self) -> None:
        """Let it end its conversations and itself; `close` has to follow."""
        with contextlib.suppress(BrokenPipeError):  # it has ended already
            _pipe(self._process.stdin).close()

    def close(self) -> None:
        """Let it end its conversations, and end it."""
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
                raise LoadError(f"the load generator has said nothing for {timeout_s:.0f} s")
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
        return f"the load generator ended with status {self._process.returncode}; its error stands above"


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None
    return stream
