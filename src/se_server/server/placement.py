"""Who takes the next connection: conversations last minutes, so what an uneven accept begins stays uneven.

All workers wait for the same queue. One that is ahead of the least loaded worker leaves the queue alone for some
milliseconds, takes its listen sockets out of its loop meanwhile, and looks again: it neither spins nor waits to be
woken, so that no wake-up can be lost when the least loaded worker dies at that very moment. Nobody waits for a worker
whose loop stands still or that does not accept, nor for one that shows life and yet leaves the queue alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from se_server.server.scoreboard import Slot

AHEAD = 1  # by so much may a worker be ahead and still take one more: loads differ by two at most
PAUSES_S = (0.001, 0.016)  # shortest and longest
STALE_NS = 500_000_000  # ten heartbeats
PATIENCE_NS = 1_000_000_000
LAPSE_NS = 100_000_000  # who was not asked for so long has seen an empty queue since


class Gate:
    """Lets a worker accept while it is not ahead of the others.

    Args:
        slot: the worker's; its `load` is what counts.
        show_load: brings it up to date.
        clock_ns: the clock of heartbeats.
    """

    def __init__(
        self, slot: Slot, show_load: Callable[[], None], clock_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._slot = slot
        self._show_load = show_load
        self._clock_ns = clock_ns
        self._pause_s = 0.0
        self._asked_ns = 0
        self._least: tuple[int, int] | None = None  # for whom this worker waits
        self._since_ns = 0

    def pause_s(self) -> float:
        """Return 0 if this worker may take the connection that waits, else how long to leave it to others."""
        now_ns = self._clock_ns()
        self._show_load()
        slot = self._slot
        least = slot.least(now_ns - STALE_NS)
        if slot.load <= least[0] + AHEAD:
            self._least = None
            return 0.0
        if least != self._least or now_ns - self._asked_ns > LAPSE_NS:
            self._least = least
            self._since_ns = now_ns
            self._pause_s = 0.0
        elif now_ns - self._since_ns > PATIENCE_NS:
            self._asked_ns = now_ns
            return 0.0  # until it takes one
        self._asked_ns = now_ns
        shortest_s, longest_s = PAUSES_S
        self._pause_s = min(max(shortest_s, 2 * self._pause_s), longest_s)
        return self._pause_s
