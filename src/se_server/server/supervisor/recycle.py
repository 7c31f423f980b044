"""Recycling: replacing a healthy worker that has become old, big or much used, before that hurts.

One worker at a time: its replacement is ready before it drains, and the next one's turn comes when it has ended. Its
conversations take the time they need: recycling cuts none.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterable
from dataclasses import dataclass, field

from se_server.server.shared.procfs import rss_bytes_of
from se_server.server.shared.scoreboard import Slot

logger = logging.getLogger("se_server.server.recycle")

JITTER = 0.1  # workers that started together, with the same load, shall not become due together
RETRY_S = 60.0


@dataclass(frozen=True)
class RecycleLimits:
    """When a worker is recycled; None for never.

    Attributes:
        age_s: seconds since its fork.
        rss_bytes: resident memory; Linux only.
        sessions: conversations that it has taken, ever.
    """

    age_s: float | None = None
    rss_bytes: int | None = None
    sessions: int | None = None

    def __bool__(self) -> bool:
        return self != RecycleLimits()


@dataclass
class Wear:
    """How worn one worker is. Its own part of the jitter brings each limit forward by up to a tenth.

    Args:
        slot: the worker's.
        started_at: when it was forked, in monotonic seconds.
    """

    slot: Slot
    started_at: float
    _share: float = field(default_factory=lambda: random.uniform(1 - JITTER, 1))
    _big_from_the_start: bool = False

    def reason(self, limits: RecycleLimits, now: float) -> str:
        """Say why the worker is due; empty if it is not."""
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
        """Look at a worker that has just started: a memory limit that it exceeds already would recycle for ever."""
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
    """Says whose turn it is."""

    def __init__(self) -> None:
        self._leaving: Wear | None = None
        self._not_before = 0.0

    def pick(self, alive: Iterable[Wear], ready: Iterable[Wear], limits: RecycleLimits, now: float) -> Wear | None:
        """Return the worker that is to be replaced now, if any, and log why.

        Args:
            alive: all workers that have not ended.
            ready: those that may be chosen.
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
        """Take note that the replacement could not start; the next try is a while away."""
        self._leaving = None
        self._not_before = now + RETRY_S
