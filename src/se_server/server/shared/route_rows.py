"""The figures of each route in each worker, in memory that all processes of the server share.

A worker counts the turns of a route's conversations in a row of the route, in place of the worker's own, so that a turn
costs the same with and without routes. The names of the routes stand in the same memory, because an observer may have
been started before a reload adds a route. The first routes and workers have rows; others count in the worker's own.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from se_server.server.shared.memory import nameless_file
from se_server.server.shared.meter_rows import move_row
from se_server.telemetry._meters import CELLS, Meters

MAX_ROUTES = 1024
MAX_WORKERS = 256
_LINES = MAX_WORKERS + 1  # line 0 belongs to the workers that have ended
_NAME_BYTES = 512
_CELL_BYTES = 8
_NAMES_BYTES = MAX_ROUTES * _NAME_BYTES
_SEATS_BYTES = MAX_ROUTES * _LINES * _CELL_BYTES
_ROWS_BYTES = MAX_ROUTES * _LINES * CELLS * _CELL_BYTES


@dataclass(frozen=True)
class RouteFigures:
    """One route at one moment.

    Attributes:
        name: the name of the route.
        conversations: those that are open.
        cells: the cells of `Meters`.
    """

    name: str
    conversations: int
    cells: list[int]


class RouteSeats:
    """Counts a worker's conversations of a route, against the limit over all workers.

    Args:
        seats: the open conversations of the route, of each worker; this one's is at `line`.
        begun: 1 for each worker that has had one.
        limit: the limit; None for none.
    """

    def __init__(self, seats: memoryview, begun: memoryview, line: int, limit: int | None) -> None:
        self._seats = seats
        self._begun = begun
        self._line = line
        self._limit = limit

    def claim(self) -> bool:
        """Take a seat; False, and none is taken, if the limit is reached.

        Of two workers that claim the last seat in the same instant both may be refused, and never both are admitted.
        """
        seats = self._seats
        seats[self._line] += 1
        if self._limit is not None and sum(seats.tolist()) > self._limit:
            seats[self._line] -= 1
            return False
        self._begun[self._line] = 1
        return True

    def free(self) -> None:
        """Give a seat back."""
        self._seats[self._line] -= 1


class RouteRows:
    """A row of cells for each route in each worker."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _NAMES_BYTES + 2 * _SEATS_BYTES)
        cells = memoryview(self._memory)[_NAMES_BYTES:].cast("q")
        self._seats, self._begun = cells[: MAX_ROUTES * _LINES], cells[MAX_ROUTES * _LINES :]
        descriptor = nameless_file("routes", _ROWS_BYTES)
        self._rows = memoryview(mmap.mmap(descriptor, _ROWS_BYTES)).cast("q")
        os.close(descriptor)
        self._indexes: dict[str, int] = {}

    def add(self, names: Iterable[str]) -> None:
        """Supervisor: give rows to the routes that have none yet, before their workers are forked."""
        for name in names:
            index = len(self._indexes)
            if name not in self._indexes and index < MAX_ROUTES:
                encoded = name.encode()[: _NAME_BYTES - 1]
                self._memory[index * _NAME_BYTES : index * _NAME_BYTES + len(encoded)] = encoded
                self._indexes[name] = index

    def names(self) -> list[str]:
        """Return the names of all routes that have rows, in any process."""
        found: list[str] = []
        for index in range(MAX_ROUTES):
            name = self._memory[index * _NAME_BYTES : (index + 1) * _NAME_BYTES].rstrip(b"\0")
            if not name:
                break
            found.append(name.decode(errors="replace"))
        return found

    def of(self, slot: int, name: str, limit: int | None) -> tuple[Meters, RouteSeats] | None:
        """Worker: return the figures and the seats of a route; None if it has no row."""
        index = self._indexes.get(name)
        if index is None or slot >= MAX_WORKERS:
            return None
        lines = slice(index * _LINES, (index + 1) * _LINES)
        seats = RouteSeats(self._seats[lines], self._begun[lines], slot + 1, limit)
        return Meters(self._row(index, slot + 1)), seats

    def retire(self, slot: int) -> None:
        """Supervisor: keep the figures of a worker that was reaped, and free its seats."""
        if slot >= MAX_WORKERS:
            return
        for index in range(len(self._indexes)):
            place = index * _LINES + slot + 1
            if self._begun[place]:
                move_row(self._row(index, slot + 1), self._row(index, 0))
                self._begun[place], self._begun[index * _LINES] = 0, 1
                self._seats[place] = 0

    def read(self, slots: Iterable[int]) -> list[RouteFigures]:
        """Return the figures of all routes, of the workers with these slots and of those that have ended."""
        lines = [0, *(slot + 1 for slot in slots if slot < MAX_WORKERS)]
        return [
            RouteFigures(
                name,
                sum(self._seats[index * _LINES : (index + 1) * _LINES].tolist()),
                _sum(self._row(index, line) for line in lines if self._begun[index * _LINES + line]),
            )
            for index, name in enumerate(self.names())
        ]

    def worker(self, slot: int) -> list[int]:
        """Return the sums of the cells of all routes in one worker."""
        used = (index for index in range(len(self.names())) if slot < MAX_WORKERS)
        return _sum(self._row(index, slot + 1) for index in used if self._begun[index * _LINES + slot + 1])

    def _row(self, index: int, line: int) -> memoryview:
        start = (line * MAX_ROUTES + index) * CELLS
        return self._rows[start : start + CELLS]


def _sum(rows: Iterator[memoryview]) -> list[int]:
    sums = [0] * CELLS
    for row in rows:
        sums = [total + value for total, value in zip(sums, row.tolist(), strict=True)]
    return sums
