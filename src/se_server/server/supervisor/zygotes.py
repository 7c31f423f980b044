"""The zygotes of all generations that preload.

A generation begins when its zygote is ready: a failed import refuses a reload before any worker has changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from se_server.server.shared.scoreboard import Scoreboard
from se_server.server.supervisor.forking import Closable
from se_server.server.supervisor.zygote_process import Zygote
from se_server.server.worker.spec import WorkerSpec


class Zygotes:
    """The zygotes of all generations that start workers.

    Args:
        scoreboard: has the slots of their workers.
        not_inherited: returns what is closed in each, besides the descriptors of zygotes.
    """

    def __init__(self, scoreboard: Scoreboard, not_inherited: Callable[[], Sequence[Closable]]) -> None:
        self._scoreboard = scoreboard
        self._not_inherited = not_inherited
        self._zygotes: list[Zygote] = []

    def __iter__(self) -> Iterator[Zygote]:
        return iter(list(self._zygotes))

    def make(self, number: int, spec: WorkerSpec) -> Zygote:
        """Make the zygote of a generation."""
        self._scoreboard.routes.add(route.name for route in spec.config.routes)
        zygote = Zygote(number, spec, self._scoreboard, lambda: [*self._not_inherited(), *self])
        self._zygotes.append(zygote)
        return zygote

    def keep(self, wanted: Sequence[Zygote | None]) -> None:
        """End the zygotes of all other generations."""
        for zygote in self:
            if zygote not in wanted:
                self._zygotes.remove(zygote)
                zygote.end()

    def take_ended(self) -> list[tuple[int, int]]:
        """Return pid and exit code of the workers whose ends were reported since the last call."""
        found: list[tuple[int, int]] = []
        for zygote in self:
            zygote.receive()
            found += zygote.ended
            zygote.ended.clear()
        return found

    def reaped(self, pid: int, how: str) -> bool:
        """Take note that a child has ended; return whether it was a zygote."""
        return any(zygote.reaped(pid, how) for zygote in self)
