"""The figures of metrics of every worker, in memory that all processes of the server share.

A worker counts in its own row, so a worker that is killed loses nothing. The supervisor adds the row of a dead worker
to its own, in which it also counts the replaced workers and the upgrades.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable

from se_server.telemetry._meters import (
    CAUSES,
    CELLS,
    CLOSES_AT,
    CODES,
    COUNT_NAMES,
    METERS_BYTES,
    REFUSALS_AT,
    RESTARTS,
    RESTARTS_AT,
    UPGRADES,
    UPGRADES_AT,
    Meters,
)

_OPENED, _BEGUN = COUNT_NAMES.index("conversations"), COUNT_NAMES.index("turns")
_OUTCOMES = slice(COUNT_NAMES.index("answered"), COUNT_NAMES.index("silent") + 1)
_CUT = COUNT_NAMES.index("closed")
_DIED = CLOSES_AT + CAUSES.index("worker_died") * (len(CODES) + 1) + CODES.index(1006)


def move_row(row: memoryview, retired: memoryview) -> None:
    """Add the cells of a worker that was reaped to others. Its conversations and turns ended with it."""
    cells = row.tolist()
    cells[_CUT] += max(0, cells[_BEGUN] - sum(cells[_OUTCOMES]))
    cells[_DIED] += max(0, cells[_OPENED] - sum(cells[CLOSES_AT:REFUSALS_AT]))
    for place, value in enumerate(cells):
        if value:
            retired[place] += value
            row[place] = 0


class MeterRows:
    """A row of cells for each worker, and one for the supervisor.

    Args:
        slots: the maximum number of workers at once.
    """

    def __init__(self, slots: int) -> None:
        self._memory = mmap.mmap(-1, (slots + 1) * METERS_BYTES)  # a page takes memory once it is written to
        cells = memoryview(self._memory).cast("q")
        self._retired, *self._rows = [cells[place * CELLS : (place + 1) * CELLS] for place in range(slots + 1)]

    def of(self, index: int) -> Meters:
        """Return the figures of a worker by the index of its slot, for the worker to count."""
        return Meters(self._rows[index])

    def retire(self, index: int) -> None:
        """Supervisor: keep the figures of a worker that was reaped. Its conversations and turns ended with it."""
        move_row(self._rows[index], self._retired)

    def restarted(self, cause: str) -> None:
        """Supervisor: count a worker that was replaced, for a cause of `RESTARTS`."""
        self._retired[RESTARTS_AT + RESTARTS.index(cause)] += 1

    def upgraded(self, result: str) -> None:
        """Supervisor: count an upgrade with a result of `UPGRADES`."""
        self._retired[UPGRADES_AT + UPGRADES.index(result)] += 1

    def sums(self, live: Iterable[int]) -> list[int]:
        """Return the sum of each cell, over the workers with these indices and all that were retired."""
        sums: list[int] = self._retired.tolist()
        for index in live:
            sums = [total + value for total, value in zip(sums, self._rows[index].tolist(), strict=True)]
        return sums
