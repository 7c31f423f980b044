"""Reads the figures of a server from the scoreboard and the seat table."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from se_server.server.shared.procfs import rss_bytes_of
from se_server.server.shared.scoreboard import Scoreboard, Slot, State
from se_server.telemetry._meters import COUNT_NAMES
from se_server.telemetry.families import Exemplar, Reading, WorkerFigures

_STRAYS_ENDED = COUNT_NAMES.index("strays_ended")


class Figures:
    """Reads the figures of all workers.

    Args:
        board: the scoreboard of the workers.
        version: that of se-server.
        overflows: returns how many events were lost; None without rings.
        exemplars: returns the exemplars of histograms.
    """

    def __init__(
        self,
        board: Scoreboard,
        *,
        version: str,
        overflows: Callable[[], int] | None = None,
        exemplars: Callable[[], Mapping[str, Sequence[Exemplar | None]]] = dict,
    ) -> None:
        self._board = board
        self._version = version
        self._overflows = overflows
        self._exemplars = exemplars

    def read(self) -> Reading:
        """Return the figures of now."""
        counters, cells = self._board.figures()
        workers = [_worker_of(slot, self._board) for slot in self._board.live()]
        states = {worker.state for worker in workers}
        return Reading(
            version=self._version,
            started_at_s=self._board.started_at_s,
            counters=counters,
            cells=cells,
            conversations=self._board.seats.sessions(),
            capacity=self._board.capacity,
            draining=bool(states) and states <= {"draining", "stopped"},
            workers=workers,
            ring_overflows=None if self._overflows is None else self._overflows(),
            exemplars=self._exemplars(),
            routes={
                route.name: Reading(self._version, self._board.started_at_s, counters, route.cells, route.conversations)
                for route in self._board.route_figures()
            },
        )


def _worker_of(slot: Slot, board: Scoreboard) -> WorkerFigures:
    now_ns = time.monotonic_ns()
    heartbeat_ns = slot.heartbeat_ns
    pid = slot.pid
    strays = slot.count("stray_handlers") - board.cells_of(slot)[_STRAYS_ENDED]
    return WorkerFigures(
        worker=slot.index,
        place=slot.place,
        pid=pid,
        generation=slot.generation,
        state=State(slot.state).name.lower(),
        age_s=(now_ns - slot.started_ns) / 1e9,
        sessions=slot.sessions,
        load=slot.load,
        turns=slot.turns,
        loop_lag_s=slot.loop_lag_ns / 1e9,
        silent_s=(now_ns - heartbeat_ns) / 1e9 if heartbeat_ns else None,
        rss_bytes=rss_bytes_of(pid) if pid else None,
        stray_handlers=max(0, strays),
    )
