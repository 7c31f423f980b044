"""Several generator processes that share one plan, read as one."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import resource
import time
from collections import Counter
from collections.abc import Sequence
from types import TracebackType

from se_server.errors import LoadError
from se_server.load.plan import LoadPlan
from se_server.load.process import Connected, Figures, LoadProcess, Run
from se_server.telemetry._histogram import Histogram

__all__ = ["Fleet", "merged_figures", "processes_for", "split"]

MIN_CONVERSATIONS = 50
"""Conversations for each process by default; fewer need only one process."""
SPARE_DESCRIPTORS = 64
_WORST = ("wall_ns", "behind_ns")


def processes_for(conversations: int) -> int:
    """Return the number of processes for this many conversations: at most all cores but one, each within its limit."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores - 1, conversations // MIN_CONVERSATIONS), -(-conversations // _descriptors()))


def split(plan: LoadPlan, processes: int) -> list[LoadPlan]:
    """Return a plan for each process with its part of the conversations and of the rate.

    Raises:
        LoadError: a process may not open as many sockets as its part needs.
    """
    processes = min(processes, plan.conversations)
    per_process, more = divmod(plan.conversations, processes)
    if per_process + (more > 0) > _descriptors():
        raise LoadError(
            f"a process may open {_descriptors()} sockets here: {plan.conversations} conversations need"
            f" --processes {-(-plan.conversations // _descriptors())}, or a higher limit (ulimit -n)"
        )
    plans = []
    first = plan.first_number
    for place in range(processes):
        conversations = per_process + (place < more)
        rate = None if plan.turns_per_s is None else plan.turns_per_s * conversations / plan.conversations
        plans.append(
            dataclasses.replace(
                plan, conversations=conversations, turns_per_s=rate, first_number=first, seed=plan.seed + place
            )
        )
        first += conversations
    return plans


def merged_figures(figures: Sequence[Figures]) -> Figures:
    """Return the sum of the figures of several processes; of times the largest."""
    merged = Figures()
    for one in figures:
        for field in dataclasses.fields(Figures):
            mine, its = getattr(merged, field.name), getattr(one, field.name)
            if isinstance(mine, Histogram):
                mine.merge(its)
            else:
                setattr(merged, field.name, max(mine, its) if field.name in _WORST else mine + its)
    return merged


class Fleet:
    """Generator processes, started on creation. A context manager.

    Args:
        plan: the plan of all processes together.
        processes: the number of processes.

    Attributes:
        processes: the processes.

    Raises:
        LoadError: a process could not start; the message gives the reason.
    """

    def __init__(self, plan: LoadPlan, processes: int) -> None:
        self.processes: list[LoadProcess] = []
        try:
            for part in split(plan, processes):
                self.processes.append(LoadProcess(part))
        except BaseException:
            self.close()
            raise

    def figures(self) -> Figures:
        """Return the figures of all processes so far; callable at any time."""
        return merged_figures([process.figures() for process in self.processes])

    def start_connect(self, timeout_s: float, per_s: float | None, share: float = 1.0) -> None:
        """Begin to open this share of the conversations, at least one. Call `connected` next."""
        total = sum(process.plan.conversations for process in self.processes)
        wanted = max(1, round(total * share))
        for process in self.processes:
            part = process.plan.conversations
            # The first processes take the remainder of the rounding.
            count = min(part, -(-wanted * part // total)) if wanted else 0
            wanted, total = wanted - count, total - part
            process.start_connect(timeout_s, None if per_s is None else per_s * part / (total + part), count)

    def connected(self, timeout_s: float) -> Connected:
        """Wait until the conversations are open or have failed."""
        parts = [process.connected(timeout_s) for process in self.processes]
        return Connected(
            count=sum(part.count for part in parts),
            seconds=max(part.seconds for part in parts),
            cpu_s=sum(part.cpu_s for part in parts),
            handshake=self.figures().handshake,
            errors=_sum([part.errors for part in parts]),
            failures=[failure for part in parts for failure in part.failures],
        )

    def start_run(self, seconds: float) -> None:
        """Begin to run. Call `ran` next."""
        for process in self.processes:
            process.start_run(seconds)

    def ran(self, seconds: float) -> list[Run]:
        """Wait until the run is over, and return each process's `Run`."""
        return [process.ran(seconds) for process in self.processes]

    def is_done(self, timeout_s: float) -> bool:
        """Wait up to `timeout_s` for the current step to end, and return whether it has."""
        deadline = time.monotonic() + timeout_s
        # Check in order: if one process is not done, the later ones need not be asked.
        return all(process.is_done(max(0.0, deadline - time.monotonic())) for process in self.processes)

    def stop(self) -> None:
        """End the current step early; its result still has to be fetched."""
        for process in self.processes:
            process.stop()

    def close(self) -> None:
        """End all conversations and processes."""
        for process in self.processes:
            process.begin_close()
        for process in self.processes:
            process.close()

    def __enter__(self) -> Fleet:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _descriptors() -> int:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    limit = 1 << 20 if hard == resource.RLIM_INFINITY else hard
    with contextlib.suppress(OSError, ValueError):  # on macOS and other systems the hard limit is not the only one
        limit = min(limit, os.sysconf("SC_OPEN_MAX")) if hard == resource.RLIM_INFINITY else limit
    return max(1, limit - SPARE_DESCRIPTORS)


def _sum(errors: Sequence[dict[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for one in errors:
        total.update(one)
    return dict(total)
