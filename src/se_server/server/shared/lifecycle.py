"""The options of the workers' lives: how many run, how they end, and when they are replaced."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from se_server.options import duration, integer, interval, memory, number, option, text
from se_server.server.shared.cpus import usable_cpus
from se_server.server.shared.seats import MAX_WORKERS

RUNNING = "Running"


def count(raw: object) -> int:
    """Read a number of workers."""
    return integer(raw, 1, MAX_WORKERS, f"a whole number from 1 to {MAX_WORKERS}")


@dataclass(frozen=True)
class Lifecycle:
    """Number, drain and replacement of workers.

    Attributes:
        workers: the number of worker processes.
        drain_timeout_s: seconds that conversations may go on after a stop.
        drain_notice_s: seconds before the drain in which new conversations are accepted, and `/readyz` and
            `/available` say 503.
        drain_turn_grace_s: seconds that a running answer may go on after the drain timeout.
        goodbye_text: the answer to a turn that comes in that grace; None for silence.
        exit_timeout_s: seconds that exit hooks may take when a worker ends; 0 runs none.
        reload_drain_timeout_s: seconds that conversations may go on in workers that a reload replaced.
        hang_timeout_s: seconds that a worker's event loop may stand still before the worker is killed.
        max_worker_age_s: a worker of this age in seconds is replaced; None for no limit. So for the next two.
        max_worker_rss: resident memory in bytes.
        max_worker_sessions: the number of conversations since the worker's start.
    """

    HEADING: ClassVar[str] = RUNNING

    workers: int = option(usable_cpus, count, "Worker processes.", "N", default_text="the CPUs this process may use")
    drain_timeout_s: float = option(30.0, duration, "Time that a stop gives to running conversations.", "SECONDS")
    drain_notice_s: float = option(
        0.0,
        duration,
        "Time in which a stop still accepts conversations while /readyz and /available say 503, so that"
        " load balancers notice first.",
        "SECONDS",
    )
    drain_turn_grace_s: float = option(
        10.0, duration, "Time that a running answer gets after the drain timeout.", "SECONDS"
    )
    goodbye_text: str | None = option(
        None,
        text,
        "The last answer to callers whose conversation is about to be closed.",
        "TEXT",
        default_text="nothing",
    )
    exit_timeout_s: float = option(
        5.0,
        duration,
        "Time that exit hooks (atexit, executors, telemetry exporters) get when a worker ends; 0 runs none.",
        "SECONDS",
    )
    reload_drain_timeout_s: float = option(
        3600.0,
        duration,
        "Time that a reload gives to conversations in the old workers, which go on in the background.",
        "SECONDS",
        default_text="3600",
    )
    hang_timeout_s: float = option(
        30.0, interval, "Kill a worker whose event loop stood still this long, and log its stacks first.", "SECONDS"
    )
    max_worker_age_s: float | None = option(
        None,
        interval,
        "Replace a worker at this age. This and the next two cut no conversation, and come up to a tenth early.",
        "SECONDS",
        default_text="never",
    )
    max_worker_rss: int | None = option(
        None, memory, "Replace a worker that uses this much memory (Linux).", "MEMORY", default_text="never"
    )
    max_worker_sessions: int | None = option(
        None, number, "Replace a worker that has had this many conversations.", "N", default_text="never"
    )
