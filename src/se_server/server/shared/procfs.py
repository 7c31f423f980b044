"""Facts about a process from Linux's /proc. On other systems, and for a process that is gone, they are unknown."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TRIES = 10


@dataclass(frozen=True)
class Threads:
    """The threads of a process at one moment.

    Attributes:
        states: one letter of proc(5) for each thread, the main thread first.
        run_s: the CPU time of all threads together, in seconds.
    """

    states: str
    run_s: float


def threads_of(pid: int, *, without: int = 0) -> Threads | None:
    """Return the threads of a process, None if they are unknown.

    Args:
        without: the native id of a thread to leave out.
    """
    states, run_ns = "", 0
    try:
        for thread in sorted(os.listdir(f"/proc/{pid}/task"), key=int):
            if int(thread) == without:
                continue
            place = Path("/proc", str(pid), "task", thread)
            # The name in parentheses may contain any character.
            states += place.joinpath("stat").read_text(errors="replace").rpartition(") ")[2][0]
            run_ns += int(place.joinpath("schedstat").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None
    return Threads(states, run_ns / 1e9) if states else None


def rss_bytes_of(pid: int) -> int | None:
    """Return the resident memory of a process, None if it is unknown."""
    try:
        return int(Path("/proc", str(pid), "statm").read_text().split()[1]) * PAGE_BYTES
    except (OSError, ValueError, IndexError):
        return None


def children_of(pid: int) -> list[tuple[int, str]]:
    """Return the pid and the command of each running child of a process; none if they are unknown."""
    found = []
    try:
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []
    for child in pids:
        place = Path("/proc", str(child))
        try:
            name, _, rest = place.joinpath("stat").read_text(errors="replace").rpartition(") ")
            fields = rest.split()
            state, parent, memory_bytes = fields[0], int(fields[1]), int(fields[20])
            if parent == pid and state not in "ZX" and memory_bytes:  # one without memory is about to end
                found.append((child, _command_of(place) or name.partition("(")[2]))
        except (OSError, ValueError, IndexError):  # it has ended
            continue
    return found


def _command_of(place: Path) -> str:
    """Return the command of a process; it is empty for a moment while the process begins to execute its program."""
    command = ""
    for _ in range(_TRIES):
        command = place.joinpath("cmdline").read_text(errors="replace").replace("\0", " ").strip()
        if command:
            break
        time.sleep(0.001)
    return command
