"""The benchmark kernel: pinned processes, CPU time from the scheduler, interleaved repetitions, ratios.

A target runs on one core, the load generator on another. The cost of a turn is the CPU time that the target's whole
process tree used between two idle instants, divided by the turns answered in between. This figure does not depend on
the speed of the generator, and hardly on other load of the machine.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TypeVar

from se_server.errors import LoadError
from se_server.load import Connected, Histogram, LoadProcess

__all__ = [
    "STOP_TIMEOUT_S",
    "BenchError",
    "Cores",
    "Sample",
    "Server",
    "Spread",
    "Target",
    "connect",
    "in_turn",
    "interleave",
    "measure",
    "memory_of",
    "pick_cores",
    "pinned",
    "running",
    "settle",
]

READY_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 5.0
SETTLE_S = 0.02
"""Wait for the last turns: a final message is on the wire some microseconds before its task ends."""
POLL_S = 0.02

T = TypeVar("T")


def nothing() -> None:
    """Prepare a target that needs no preparation."""


class BenchError(Exception):
    """The benchmark cannot be run here, or a target misbehaved: one sentence for the user."""


# ------------------------------------------------------------------------------------------------ cores


@dataclass(frozen=True, slots=True)
class Cores:
    """The core reserved for the target, and the one for everything else."""

    server: int
    load: int


def pick_cores() -> Cores:
    """Return two cores this process may use, and move this process to the one for the load.

    Raises:
        BenchError: not on Linux, with fewer than two cores, or on a kernel without scheduler accounting.
    """
    if sys.platform != "linux":
        raise BenchError("the benchmark needs Linux: it pins processes to cores and reads the scheduler's accounting")
    available = sorted(os.sched_getaffinity(0))
    if len(available) < 2:
        raise BenchError("the benchmark needs two cores, one for the server and one for the load; this process has one")
    if not Path("/proc/self/schedstat").exists():
        raise BenchError("the benchmark needs a kernel with /proc/PID/schedstat (CONFIG_SCHED_INFO); this one has none")
    # Core 0 serves most interrupts, so the server gets the last one.
    cores = Cores(server=available[-1], load=available[0])
    os.sched_setaffinity(0, {cores.load})
    return cores


@contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """Pin processes started inside the block to a core, from their first instruction and without a preexec hook."""
    before = os.sched_getaffinity(0)
    if core is not None:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


# ------------------------------------------------------------------------------------------------ accounting


@dataclass(frozen=True, slots=True)
class CpuAccount:
    """CPU time charged by the scheduler to every thread of a process tree, in nanoseconds."""

    ran_ns: Mapping[tuple[int, int], int]

    @classmethod
    def of(cls, root_pid: int) -> CpuAccount:
        """Read the accounts of `root_pid`'s tree.

        The first field is the time on the CPU (the kernel's Documentation/scheduler/sched-stats.rst).
        """
        ran_ns: dict[tuple[int, int], int] = {}
        for pid in process_tree(root_pid):
            for task in Path(f"/proc/{pid}/task").iterdir():
                ran_ns[pid, int(task.name)] = int((task / "schedstat").read_text().split()[0])
        return cls(ran_ns)

    def since(self, before: CpuAccount) -> int:
        """Return the nanoseconds run since `before`.

        Raises:
            BenchError: a thread has ended in between, and its time is lost.
        """
        ended = before.ran_ns.keys() - self.ran_ns.keys()
        if ended:
            raise BenchError(f"threads of the target ended during the measurement, so it counts too little: {ended}")
        return sum(self.ran_ns.values()) - sum(before.ran_ns.values())


def core_busy_s(core: int) -> float:
    """Return the busy seconds of a core since the machine started, stolen time included.

    The resolution is a clock tick, which suffices for shares of some percent.
    """
    for line in Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name == f"cpu{core}":
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, ticks[:8])
            return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    raise BenchError(f"/proc/stat knows no core {core}")


def memory_of(root_pid: int) -> int:
    """Return the private memory of a process tree in bytes: anonymous pages, shared ones by their share.

    Files do not count: the share of a library's pages depends on the other processes that map it.
    """
    kilobytes = 0
    for pid in process_tree(root_pid):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith(("Pss_Anon:", "Pss_Shmem:")):
                kilobytes += int(line.split()[1])
    return kilobytes * 1024


def process_tree(root_pid: int) -> list[int]:
    """Return `root_pid` and the processes that descend from it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                # The name, in parentheses, may hold anything; the parent is the second field after it.
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue  # ended since the listing, so not of the target, whose processes stay during a measurement
            children.setdefault(parent, []).append(int(entry.name))
    tree, found = [root_pid], [root_pid]
    while found:
        found = [child for pid in found for child in children.get(pid, ())]
        tree += found
    return tree


# ------------------------------------------------------------------------------------------------ targets


@dataclass(frozen=True, slots=True)
class Target:
    """A server under test.

    `ready` is a regular expression, searched line by line in what the process prints; its group `port` is the port.
    `environment` is added to ours. `tls` means that the target speaks TLS. `prepare` builds or installs the target's
    requirements once, or raises `BenchError` with the missing one.
    """

    name: str
    command: tuple[str, ...]
    ready: str = r"^ready (?P<port>\d+)$"
    path: str = "/ws"
    environment: Mapping[str, str] = field(default_factory=dict)
    tls: bool = False
    prepare: Callable[[], None] = nothing

    def unavailable(self) -> str | None:
        """Return the reason why the target cannot run here, or None; the first call may take a minute."""
        try:
            self.prepare()
        except BenchError as error:
            return f"{self.name} is left out: {error}"
        return None


def settle(future: asyncio.Future[None], error: Exception | None) -> None:
    """End a future, unless it is over: with the exception, or without one."""
    if not future.done():
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)


@dataclass(frozen=True, slots=True)
class Server:
    """A running target."""

    target: Target
    pid: int
    port: int

    @property
    def url(self) -> str:
        return f"{'wss' if self.target.tls else 'ws'}://127.0.0.1:{self.port}{self.target.path}"

    def cpu(self) -> CpuAccount:
        """Read the CPU time used so far by the target and its children."""
        return CpuAccount.of(self.pid)


@contextmanager
def running(target: Target, core: int | None) -> Iterator[Server]:
    """Start a target, on one core or on all, and wait until it is ready; stop it and its children at the end.

    Raises:
        BenchError: it cannot be prepared, or it ended or said nothing within 30 s; the error quotes the end of its
            output.
    """
    target.prepare()
    # A file, not a pipe: nothing reads a pipe during the measurement.
    with _sigterm_unwinds(), tempfile.TemporaryFile() as output:
        with pinned(core):
            process = subprocess.Popen(
                target.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **target.environment, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )
        try:
            yield Server(target, process.pid, _wait_ready(target, process, output.fileno()))
        finally:
            _end(process)


@contextmanager
def _sigterm_unwinds() -> Iterator[None]:
    """Turn SIGTERM into an exception, so that the target, in a session of its own, is stopped too."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _wait_ready(target: Target, process: subprocess.Popen[bytes], output: int) -> int:
    deadline = time.monotonic() + READY_TIMEOUT_S
    printed = ""
    while time.monotonic() < deadline:
        ended = process.poll() is not None
        printed = os.pread(output, 1 << 20, 0).decode(errors="replace")
        match = re.search(target.ready, printed, re.MULTILINE)
        if match:
            return int(match["port"])
        if ended:
            break
        time.sleep(POLL_S)
    what = "was not ready in time" if process.returncode is None else f"ended with status {process.returncode}"
    raise BenchError(f"{target.name} {what}; it said: {printed[-2000:].strip() or 'nothing'}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Stop a process that was started in a session of its own, and the rest of that session."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):  # killed with its children in the next line
        process.wait(STOP_TIMEOUT_S)
    with suppress(ProcessLookupError):  # nothing is left of it
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(STOP_TIMEOUT_S)


# ------------------------------------------------------------------------------------------------ measuring


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement of one target.

    `server_busy` and `load_busy` are the shares of time that each side ran; `others` is the share that other processes
    ran on the server's core. `first_chunk` and `final` are the latencies of answers.
    """

    cpu_us_per_turn: float
    turns: int
    turns_per_s: float
    first_chunk: Histogram
    final: Histogram
    server_busy: float
    load_busy: float
    others: float


def connect(load: LoadProcess, timeout_s: float = 30.0, per_s: float | None = None) -> Connected:
    """Open all conversations of a generator.

    Raises:
        BenchError: the server does not take them, or the generator died.
    """
    try:
        connected = load.connect(timeout_s, per_s)
    except LoadError as error:
        raise BenchError(str(error)) from None
    if connected.errors:
        raise BenchError(f"some conversations cannot connect: {'; '.join(connected.failures)}")
    return connected


def measure(server: Server, load: LoadProcess, *, core: int, seconds: float, turns: int | None = None) -> Sample:
    """Take one sample of a server on `core`, which is idle before and after.

    Raises:
        BenchError: an answer was wrong or missing, or the generator died.
    """
    busy_s, before, started_s = core_busy_s(core), server.cpu(), time.monotonic()
    try:
        run = load.run(seconds, turns)
    except LoadError as error:
        raise BenchError(str(error)) from None
    time.sleep(SETTLE_S)
    busy_s, ran_ns, elapsed_s = core_busy_s(core) - busy_s, server.cpu().since(before), time.monotonic() - started_s
    if run.errors or not run.turns:
        raise BenchError(f"the load found faults: {'; '.join(run.failures) or 'no turn was answered'}")
    return Sample(
        cpu_us_per_turn=ran_ns / 1e3 / run.turns,
        turns=run.turns,
        turns_per_s=run.turns / run.wall_s,
        first_chunk=run.first_chunk,
        final=run.final,
        server_busy=ran_ns / 1e9 / run.wall_s,
        load_busy=run.cpu_s / run.wall_s,
        others=max(0.0, busy_s - ran_ns / 1e9) / elapsed_s,
    )


def in_turn(visits: Sequence[T], repetition: int) -> Sequence[T]:
    """Return the order of targets in a repetition: every other one is reversed, so that no target has a fixed place."""
    return visits if repetition % 2 == 0 else visits[::-1]


def interleave(
    targets: Sequence[Target], repetitions: int, visit: Callable[[Target, int], T]
) -> Iterator[tuple[Target, T]]:
    """Visit the targets in turn, `repetitions` times, so that a drift of the machine affects all of them alike."""
    for repetition in range(repetitions):
        for target in in_turn(targets, repetition):
            yield target, visit(target, repetition)


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some figures, with the smallest and the largest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, figures: Sequence[float]) -> Spread:
        return cls(median(figures), min(figures), max(figures))

    def scaled(self, factor: float) -> Spread:
        """Return the same in another unit."""
        return Spread(self.median * factor, self.low * factor, self.high * factor)

    def __str__(self) -> str:
        return f"{self.median:.1f} ({self.low:.1f}-{self.high:.1f})"
