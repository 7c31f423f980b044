"""What the supervisor is told: how many workers, what they do, and the times and limits of their lives."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from se_server.server.shared.control import ControlChannel
from se_server.server.shared.scoreboard import Slot
from se_server.server.supervisor.recycle import RecycleLimits

RunWorker = Callable[[Sequence[socket.socket], ControlChannel, Slot], int]
"""What a worker does after the fork; returns its exit code."""


@dataclass(frozen=True)
class Plan:
    """What a generation of workers is made from; a reload makes a new one.

    Attributes:
        workers: how many.
        run_worker: what each does.
        drain_timeout_s: how long conversations may go on after a stop.
        drain_notice_s: how long before that readiness is denied while conversations are still taken.
        drain_turn_grace_s: how long answers may go on after it, and after that of a reload.
        reload_drain_timeout_s: how long they may after a reload, on workers of the old generation.
        hang_timeout_s: how long a worker's loop may stand still before it is killed.
        recycling: when a worker is replaced although nothing is wrong with it.
        waits_for_repair: whether workers that cannot start leave the supervisor waiting for a reload, and not ending.
    """

    workers: int
    run_worker: RunWorker
    drain_timeout_s: float = 30.0
    drain_notice_s: float = 0.0
    drain_turn_grace_s: float = 0.0
    reload_drain_timeout_s: float = 3600.0
    hang_timeout_s: float = 30.0
    recycling: RecycleLimits = field(default_factory=RecycleLimits)
    waits_for_repair: bool = False


class Announcer(Protocol):
    """Who is told of the supervisor's life: the command line, and the service manager."""

    def ready(self, workers: int, path: str) -> None:
        """All workers are ready, for the first time; `path` is where conversations go, empty for anywhere."""

    def failed(self, reason: str, details: str) -> None:
        """The server cannot start: one sentence, and the traceback of user code or nothing."""

    def reloading(self) -> None:
        """A reload begins."""

    def reloaded(self) -> None:
        """The reload is over, successful or not."""

    def handed_over(self, pid: int) -> None:
        """Another supervisor serves now."""

    def stopping(self) -> None:
        """The server takes no new conversations any more."""

    def alive(self) -> None:
        """The supervisor's loop turns; called at least every `alive_s`."""

    @property
    def alive_s(self) -> float | None:
        """How often it wants to hear of that, in seconds; None for never."""
