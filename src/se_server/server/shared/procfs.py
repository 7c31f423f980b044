"""What Linux tells of a process in /proc. Elsewhere, and of a process that is gone, nothing is known."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Threads:
    """The threads of a process at one moment.

    Attributes:
        states: the letters of proc(5), the main thread's first.
        run_s: the CPU time that they have had together, in seconds.
    """

    states: str
    run_s: float


def threads_of(pid: int, *, without: int = 0) -> Threads | None:
    """Look at the threads of a process.

    Args:
        without: a thread that does not count.
    """
    states, run_ns = "", 0
    try:
        for thread in sorted(os.listdir(f"/proc/{pid}/task"), key=int):
            if int(thread) == without:
                continue
            place = Path("/proc", str(pid), "task", thread)
            # The name in parentheses may hold anything.
            states += place.joinpath("stat").read_text(errors="replace").rpartition(") ")[2][0]
            run_ns += int(place.joinpath("schedstat").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return None
    return Threads(states, run_ns / 1e9) if states else None


def rss_bytes_of(pid: int) -> int | None:
    """Return the resident memory of a process."""
    try:
        return int(Path("/proc", str(pid), "statm").read_text().split()[1]) * PAGE_BYTES
    except (OSError, ValueError, IndexError):
        return None
