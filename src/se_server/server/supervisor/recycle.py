"""Recycling: replacing a healthy worker that is old, large or much used, before it causes problems.

One worker is recycled at a time: its replacement is ready before it drains, and the next worker's turn comes after it
has ended. Recycling does not limit the time of conversations that still run.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable
from dataclasses import dataclass, field

from se_server.server.shared.lifecycle import Lifecycle
from se_server.server.shared.procfs import rss_bytes_of
from se_server.server.shared.scoreboard import Slot

logger = logging.getLogger("se_server.server.recycle")

JITTER = 0.1  # keeps workers that started together, with the same load, from becoming due together
RETRY_S = 60.0


@dataclass(frozen=True)
class RecycleLimits:
    """The limits at which a worker is recycled; None for no limit.

    Attributes:
        age_s: seconds since its fork.
        rss_bytes: resident memory; Linux only.
        sessions: conversations that it has taken since its start.
    """

    age_s: float | None = None
    rss_bytes: int | None = None
    sessions: int | None = None

    @classmethod
    def of(cls, lifecycle: Lifecycle) -> RecycleLimits:
        """Return the limits that the options set."""
        return cls(lifecycle.max_worker_age_s, lifecycle.max_worker_rss, lifecycle.max_worker_sessions)

    def __bool__(self) -> bool:
        return self != RecycleLimits()


@dataclass
class Wear:
    """The wear of one worker. Jitter lowers its limits by a random share of up to `JITTER`.

    Args:
        slot: the worker's slot on the scoreboard.
        started_at: the time of its fork, in monotonic seconds.
    """

    slot: Slot
    started_at: float
    _share: float = field(default_factory=lambda: random.uniform(1 - JITTER, 1))
    _big_from_the_start: bool = False

    def reason(self, limits: RecycleLimits, now: float) -> str:
        """Return why the worker has to be recycled; empty if it does not."""
        age_s = now - self.started_at
        if limits.age_s is not None and age_s >= limits.age_s * self._share:
            return f"it is {age_s:.0f} s old"
        taken = self.slot.count("sessions_opened")
        if limits.sessions is not None and taken >= limits.sessions * self._share:
            return f"it has had {taken} conversations"
        if limits.rss_bytes is not None and not self._big_from_the_start:
            rss_bytes = rss_bytes_of(self.slot.pid) or 0
            if rss_bytes >= limits.rss_bytes * self._share:
                return f"it uses {rss_bytes >> 20} MiB"
        return ""

    def became_ready(self, limits: RecycleLimits) -> None:
        """Ignore the memory limit if the worker exceeds it from the start: otherwise it would be recycled for ever."""
        rss_bytes = rss_bytes_of(self.slot.pid) or 0
        if limits.rss_bytes is not None and rss_bytes >= limits.rss_bytes * (1 - JITTER):
            self._big_from_the_start = True
            logger.warning(
                "worker process %d uses %d MiB before its first conversation: --max-worker-rss is too small for this"
                " APP, and is not applied to it",
                self.slot.pid,
                rss_bytes >> 20,
            )


class Recycler:
    """Picks the worker to be recycled next."""

    def __init__(self) -> None:
        self._leaving: Wear | None = None
        self._not_before = 0.0

    def pick(self, alive: Iterable[Wear], ready: Iterable[Wear], limits: RecycleLimits, now: float) -> Wear | None:
        """Return the worker that has to be replaced now, if any, and log the reason.

        Args:
            alive: the wear of all workers that have not ended.
            ready: that of the workers to choose from.
            limits: the limits in force.
            now: monotonic seconds.
        """
        if not limits or now < self._not_before or any(wear is self._leaving for wear in alive):
            return None
        for wear in ready:
            if reason := wear.reason(limits, now):
                logger.info("recycling worker process %d: %s", wear.slot.pid, reason)
                self._leaving = wear
                return wear
        return None

    def give_up(self, now: float) -> None:
        """Handle that the replacement could not start: wait `RETRY_S` before the next try."""
        self._leaving = None
        self._not_before = now + RETRY_S
