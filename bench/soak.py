"""The soak: very many short sessions through one worker of a real `se-server`, without growth of its resources.

`python -m bench.soak [--sessions N]`. Exit code 0: nothing grew; 1: something did; 2: it could not be run.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import uvloop

from bench.kernel import BenchError, Server, Target, process_tree, running
from bench.load.passers import MIX, Passers
from bench.load.targets import API_KEY, TARGETS

SESSIONS = 200_000
JUDGED_SESSIONS = 100_000
"""The number of last sessions over which memory may grow by less than `MAX_GROWTH_KIB`."""
MAX_GROWTH_KIB = 1024
ROUNDS = 20
WARM_UP_SESSIONS = 200
"""Sessions before the first look, so that objects that are made once exist, such as libuv's spare descriptor."""
SETTLE_TIMEOUT_S = 15.0
"""Limit for closing the sockets of dropped sessions; above every time-out of the server."""
POLL_S = 0.02

HANDLER = Path(__file__).parent / "load" / "targets" / "soak_handler.py"

TARGET = Target(
    name="se-server",
    command=tuple(str(HANDLER) if part.endswith("handler.py") else part for part in TARGETS["se-server"].command),
    ready=TARGETS["se-server"].ready,
    environment=TARGETS["se-server"].environment,
)


@dataclass(frozen=True, slots=True)
class Look:
    """A worker's memory and descriptors when no session was open.

    `sessions` had run by then, in `elapsed_s`; memory is resident, and `anonymous_kib` is the part without a file.
    """

    sessions: int
    elapsed_s: float
    resident_kib: int
    anonymous_kib: int
    descriptors: int


def worker_of(server: Server) -> int:
    """Return the process id of the only worker."""
    workers = process_tree(server.pid)[1:]
    if len(workers) != 1:
        raise BenchError(f"the soak needs a server with one worker, not {len(workers)}")
    return workers[0]


def descriptors_of(pid: int) -> list[str]:
    """Return the targets of a process's open descriptors, as `/proc` names them."""
    found = []
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed meanwhile
                found.append(str(entry.readlink()))
    except FileNotFoundError:
        raise BenchError(f"the worker, process {pid}, has ended") from None
    return found


def sockets_of(pid: int) -> int:
    """Return the number of sockets among them."""
    return sum(name.startswith("socket:") for name in descriptors_of(pid))


def memory_of(pid: int) -> tuple[int, int]:
    """Return the resident and the anonymous memory of a process, in KiB."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = dict(re.findall(r"^(\w+): +(\d+) kB$", text, re.MULTILINE))
    return int(found["Rss"]), int(found["Anonymous"])


def settle(pid: int, idle_sockets: int) -> None:
    """Wait until the worker has closed the sockets of all sessions; give up if it has leaked some."""
    deadline = time.monotonic() + SETTLE_TIMEOUT_S
    while sockets_of(pid) > idle_sockets and time.monotonic() < deadline:
        time.sleep(POLL_S)


def soak(server: Server, sessions: int, *, rounds: int = ROUNDS, kinds: Sequence[str] = MIX) -> list[Look]:
    """Run sessions of these kinds in rounds; examine the worker before the first round and after each.

    Raises:
        BenchError: a session went wrong, or the worker ended.
    """
    pid = worker_of(server)
    idle_sockets = sockets_of(pid)
    passers = Passers(server.port, server.target.path, API_KEY, kinds)
    started_s = time.monotonic()
    done = 0

    def look() -> Look:
        settle(pid, idle_sockets)
        # A file that the worker just reads is none that it keeps.
        descriptors = min(len(descriptors_of(pid)) for _ in range(3))
        taken = Look(done, time.monotonic() - started_s, *memory_of(pid), descriptors)
        print(
            f"{taken.sessions:>9,} {taken.elapsed_s:>8.1f} {taken.resident_kib:>13,} {taken.anonymous_kib:>14,} "
            f"{taken.descriptors:>12}",
            flush=True,
        )
        return taken

    print(f"{'sessions':>9} {'seconds':>8} {'resident KiB':>13} {'anonymous KiB':>14} {'descriptors':>12}", flush=True)
    uvloop.run(passers.run(min(WARM_UP_SESSIONS, sessions)))
    looks = [look()]
    for number in range(rounds):
        size = sessions * (number + 1) // rounds - done
        uvloop.run(passers.run(size))
        done += size
        looks.append(look())
        if worker_of(server) != pid:
            raise BenchError("the worker was replaced")
    print(", ".join(f"{number:,} {kind}" for kind, number in passers.done.items()))
    return looks


def faults(looks: Sequence[Look]) -> list[str]:
    """Return one sentence for each figure that grew, and print the verdict on memory."""
    found = []
    counts = sorted({look.descriptors for look in looks})
    if len(counts) > 1:
        found.append(f"descriptors: from {looks[0].descriptors} to {looks[-1].descriptors}, at most {counts[-1]}")
    last = looks[-1]
    before = [look for look in looks if last.sessions - look.sessions >= JUDGED_SESSIONS]
    if not before:
        print(f"memory: not judged, which takes {JUDGED_SESSIONS:,} sessions")
        return found
    since = before[-1]
    growth_kib = last.resident_kib - since.resident_kib
    told = f"memory: {growth_kib:+,} KiB resident over the last {last.sessions - since.sessions:,} sessions"
    print(told)
    if growth_kib >= MAX_GROWTH_KIB:
        found.append(f"{told}, and less than {MAX_GROWTH_KIB:,} is allowed")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--sessions", type=int, default=SESSIONS, help=f"default: {SESSIONS:,}")
    sessions = parser.parse_args(arguments).sessions
    if sessions < ROUNDS:
        parser.error(f"--sessions must be at least {ROUNDS}")
    if sys.platform != "linux":
        print("No soak: it needs Linux, to look into a process from outside", file=sys.stderr)
        return 2
    try:
        with running(TARGET, max(os.sched_getaffinity(0))) as server:
            found = faults(soak(server, sessions))
    except BenchError as error:
        print(f"No soak: {error}", file=sys.stderr)
        return 2
    for fault in found:
        print(f"GREW: {fault}")
    if not found:
        print("neither memory nor descriptors grew")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
