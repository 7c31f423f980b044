"""The scoreboard: the state and counters of every worker, in memory that all processes of the server share.

It is made before the first fork. Each worker has a slot in cache lines of its own and is its only writer; the
supervisor clears the slot before the fork and frees it after the worker was reaped. Every value is one aligned 8-byte
integer, read and written in one piece: there is no lock, and a reader never sees half a number. Two values read one
after the other may belong to different moments.

The counters of a dead worker are added to the supervisor's own slot, so that totals never go backwards. The `version`
of that slot tells a reader in another process to read again if it has read during the addition.
"""

from __future__ import annotations

import enum
import heapq
import mmap
import os
import time
from collections.abc import Iterator, Sequence

from se_server.server.shared._board import ACCEPTING, HEARTBEAT, IN_USE, LINE_BYTES, LOAD, STATE, Board
from se_server.server.shared.former_rings import FormerRings
from se_server.server.shared.meter_rows import MeterRows
from se_server.server.shared.recording import NO_RECORDING, Recording
from se_server.server.shared.rings import Rings
from se_server.server.shared.route_rows import RouteFigures, RouteRows, RouteSeats
from se_server.server.shared.seats import MAX_SLOTS, SeatTable
from se_server.telemetry.counters import COUNTERS, Counters

CELL_BYTES = 8
_FIRST_COUNTER = 16  # a new cache line
SLOT_BYTES = -(-(_FIRST_COUNTER + len(COUNTERS)) * CELL_BYTES // LINE_BYTES) * LINE_BYTES  # up to a whole line
_VERSION_READS = 1000  # a supervisor that was killed during the addition leaves an odd version
_READS_AT_ONCE = 8  # before a pause, since the supervisor may have lost its core during the addition
_PAUSE_S = 0.002


class State(enum.IntEnum):
    """The state of a worker."""

    FREE = 0
    STARTING = 1
    READY = 2
    DRAINING = 3
    STOPPED = 4


class _Cell:
    """One integer of a slot."""

    def __init__(self, place: int) -> None:
        self._place = place

    def __get__(self, slot: Slot, owner: type[Slot]) -> int:
        return slot.cells[self._place]

    def __set__(self, slot: Slot, value: int) -> None:
        slot.cells[self._place] = value


class Slot:
    """A worker's part of the scoreboard.

    Attributes:
        pid: that of the worker; 0 until the worker runs.
        generation: the number of the worker's generation.
        state: a `State`.
        sessions: live conversations, exact at every moment.
        heartbeat_ns: the time of the worker's last heartbeat, on the monotonic clock; 0 before the first.
        loop_lag_ns: the delay of that heartbeat.
        started_ns: the time of the worker's fork, on the monotonic clock.
        accepting: 1 while the worker accepts connections.
        load: its conversations and pending handshakes; placement compares it.
        place: the worker's number within its generation.
        cells: all integers, for fast reads of many slots; the counters start at `FIRST_COUNTER`.
    """

    pid = _Cell(0)
    generation = _Cell(1)
    state = _Cell(STATE)
    sessions = _Cell(3)
    heartbeat_ns = _Cell(HEARTBEAT)
    loop_lag_ns = _Cell(5)
    started_ns = _Cell(6)
    version = _Cell(7)  # supervisor's slot only: odd while counters are added to it
    in_use = _Cell(IN_USE)  # supervisor's slot only: slots from this index on are unused
    FIRST_COUNTER = _FIRST_COUNTER
    accepting = _Cell(ACCEPTING)
    load = _Cell(LOAD)
    place = _Cell(10)
    capacity = _Cell(11)  # supervisor's slot only: the conversations that the server carries; 0 if that is unknown
    observer_beat_ns = _Cell(12)  # supervisor's slot only: the heartbeat of the observer

    __slots__ = ("_board", "_scoreboard", "_seats", "cells", "index")

    def __init__(self, cells: memoryview, index: int, board: Board, scoreboard: Scoreboard) -> None:
        self.cells = cells
        self.index = index
        self._board = board
        self._seats = scoreboard.seats
        self._scoreboard = scoreboard

    def occupy(self) -> None:
        """Owner: enter the worker's pid, and keep the seats of its supervisor while this process lives."""
        self.pid = os.getpid()
        self._seats.join()

    def counters(self) -> Counters:
        """Owner: return counters that count in shared memory, with the ring if there is an observer."""
        rings = self._scoreboard.rings
        ring = None if rings is None else rings.writer(self.index)
        return Counters(self._scoreboard.meters.of(self.index), ring, self.cells[self.FIRST_COUNTER :])

    def route(self, name: str, limit: int | None, counters: Counters) -> tuple[Counters, RouteSeats] | None:
        """Owner: return the counters and the seats of a route; None if there are too many routes or workers.

        Args:
            limit: the conversations of the route at once, over all workers; None for no limit.
            counters: this worker's own, with which the route's share everything but the figures of metrics.
        """
        found = self._scoreboard.routes.of(self.index, name, limit)
        if found is None:
            return None
        meters, seats = found
        return Counters(meters, counters.ring, self.cells[self.FIRST_COUNTER :]), seats

    def claim(self, limit: int) -> bool:
        """Owner: claim one of the seats that all workers share; False if `limit` are taken."""
        return self._seats.claim(self.index, limit)

    def hold(self, sessions: int) -> None:
        """Owner: write the number of live conversations, and give back seats that were claimed beyond it."""
        self.sessions = sessions
        self._seats.hold(self.index, sessions)

    def claimed(self) -> int:
        """Return the number of seats that all workers hold."""
        return self._seats.taken()

    def workers_in(self, state: State) -> int:
        """Return the number of workers in a state."""
        return self._board.count(STATE, state)

    def workers_accepting(self) -> int:
        """Return the number of workers that accept connections; at least 1, for the caller."""
        return max(1, self._board.count(ACCEPTING, 1))

    def least(self, fresh_ns: int) -> tuple[int, int]:
        """Owner: return the smallest load among its own and those of accepting workers, and the index of its slot.

        Args:
            fresh_ns: ignore workers whose heartbeat is older, on the monotonic clock.
        """
        return self._board.least(self.index, fresh_ns)

    def count(self, name: str) -> int:
        """Return a counter by its name in `Stats`."""
        return self.cells[self.FIRST_COUNTER + COUNTERS.index(name)]

    def counts(self) -> list[int]:
        """Return the counters, in the order of `COUNTERS`."""
        return self.cells[self.FIRST_COUNTER : self.FIRST_COUNTER + len(COUNTERS)].tolist()

    @property
    def turns(self) -> int:
        """The number of turns whose handlers run."""
        return self.count("turns_started") - self.count("turns_ended")

    def clear(self) -> None:
        """Make every value 0."""
        for place in range(len(self.cells)):
            self.cells[place] = 0


class Scoreboard:
    """The slots of all workers, in shared memory that the processes forked from now on inherit.

    Args:
        slots: the maximum number of workers at once.
        seats: the seats of their conversations, shared with other supervisors.
    """

    def __init__(self, slots: int = MAX_SLOTS, seats: SeatTable | None = None) -> None:
        # Anonymous shared memory has no name and no file, and ends with its last process.
        self._memory = mmap.mmap(-1, (slots + 1) * SLOT_BYTES)
        cells = memoryview(self._memory).cast("q")
        width = SLOT_BYTES // CELL_BYTES
        board = Board(self._memory, width)
        self.seats = seats or SeatTable()
        self.meters = MeterRows(slots)
        self.routes = RouteRows()
        self.rings: Rings | None = None
        self.started_at_s = time.time()  # the counts begin
        self._retired, *self.slots = [
            Slot(cells[place * width : (place + 1) * width], place - 1, board, self) for place in range(slots + 1)
        ]
        self._free = list(range(slots))  # a heap: low slots first, so that readers look at few slots

    def make_rings(self, recording: Recording = NO_RECORDING, former: Sequence[FormerRings] = ()) -> None:
        """Supervisor: have the workers that are forked from now on write their events to rings.

        Args:
            recording: what they hand over beside their events.
            former: the rings of earlier supervisors, owned from now on.
        """
        self.rings = Rings(len(self.slots), recording, former)

    def close_former_rings(self) -> None:
        """Zygote: close the rings of earlier supervisors, which would stay in memory as long as this process lives."""
        for rings in () if self.rings is None else self.rings.former:
            rings.close()

    def sweep(self) -> None:
        """Supervisor: free what other supervisors have left that are gone."""
        self.seats.sweep()
        if self.rings is not None:
            self.rings.sweep()

    def take(self, generation: int, now_ns: int) -> Slot | None:
        """Supervisor: return a slot for a worker to be forked; None if there are too many workers."""
        if not self._free:
            return None
        slot = self.slots[heapq.heappop(self._free)]
        slot.clear()
        self.seats.use(slot.index)
        slot.generation = generation
        slot.started_ns = now_ns
        slot.state = State.STARTING
        self._retired.in_use = max(self._retired.in_use, slot.index + 1)
        return slot

    def give_back(self, slot: Slot) -> None:
        """Supervisor: keep the counters of a worker that was reaped, and free its slot."""
        retired = self._retired
        counts = slot.counts()
        lost = slot.count("sessions_opened") - slot.count("sessions_closed")
        counts[COUNTERS.index("sessions_closed")] += max(0, lost)  # its conversations ended with the worker
        running = slot.turns
        counts[COUNTERS.index("turns_ended")] += max(0, running)
        retired.version += 1
        for place, count in enumerate(counts, Slot.FIRST_COUNTER):
            retired.cells[place] += count
        self.meters.retire(slot.index)
        self.routes.retire(slot.index)
        if self.rings is not None:
            self.rings.clear(slot.index)
        slot.clear()
        self.seats.vacate(slot.index)
        retired.version += 1
        heapq.heappush(self._free, slot.index)

    @property
    def slots_in_use(self) -> int:
        """Slots from this index on were never used."""
        return self._retired.in_use

    @property
    def capacity(self) -> int | None:
        """The conversations that the server carries, which the supervisor writes; None if that is unknown."""
        return self._retired.capacity or None

    @capacity.setter
    def capacity(self, conversations: int | None) -> None:
        self._retired.capacity = conversations or 0

    @property
    def observer_beat_ns(self) -> int:
        """The time of the observer's last heartbeat, which the observer writes; 0 before the first."""
        return self._retired.observer_beat_ns

    @observer_beat_ns.setter
    def observer_beat_ns(self, now_ns: int) -> None:
        self._retired.observer_beat_ns = now_ns

    def live(self) -> Iterator[Slot]:
        """Return the slots of workers that were forked and not reaped."""
        return (slot for slot in self.slots[: self._retired.in_use] if slot.state != State.FREE)

    def totals(self) -> dict[str, int]:
        """Return the counters of all workers, past and present."""
        return self._read(with_cells=False)[0]

    def figures(self) -> tuple[dict[str, int], list[int]]:
        """Return the counters and the cells of metrics, of all workers, past and present."""
        return self._read(with_cells=True)

    def route_figures(self) -> list[RouteFigures]:
        """Return the figures of all routes, of all workers, past and present."""
        return self.routes.read([slot.index for slot in self.live()])

    def cells_of(self, slot: Slot) -> list[int]:
        """Return the cells of metrics of one worker."""
        own = self.meters.of(slot.index).cells()
        return [one + other for one, other in zip(own, self.routes.worker(slot.index), strict=True)]

    def _read(self, with_cells: bool) -> tuple[dict[str, int], list[int]]:
        for attempt in range(1, _VERSION_READS + 1):
            version = self._retired.version
            sums = self._retired.counts()
            live = list(self.live())
            for slot in live:
                sums = [total + count for total, count in zip(sums, slot.counts(), strict=True)]
            cells = self.meters.sums(slot.index for slot in live) if with_cells else []
            for route in self.routes.read([slot.index for slot in live]) if with_cells else ():
                cells = [total + value for total, value in zip(cells, route.cells, strict=True)]
            if version % 2 == 0 and self._retired.version == version:
                break
            if attempt % _READS_AT_ONCE == 0:
                time.sleep(_PAUSE_S)
        return dict(zip(COUNTERS, sums, strict=True)), cells
