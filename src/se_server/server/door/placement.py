"""Who takes the next connection: conversations last minutes, so what an uneven accept begins stays uneven.

All workers wait for the same queue. One that is ahead of the least loaded worker leaves the queue alone for some
milliseconds, takes its listen sockets out of its loop meanwhile, and looks again: it neither spins nor waits to be
woken, so that no wake-up can be lost when the least loaded worker dies at that very moment. Nobody waits for a worker
whose loop stands still or that does not accept, nor for one that shows life and yet leaves the queue alone.

While many wait, workers may differ by more: marching in step through a burst, on fewer cores than there are workers,
would keep callers waiting. The longer the queue, the further ahead, so that what still waits is enough to level it.
"""

from __future__ import annotations

import socket
import struct
import sys
import time
from collections.abc import Callable

from se_server.server.shared.scoreboard import Slot

AHEAD = 1  # by so much may a worker be ahead and still take one more: loads differ by two at most
MOST_MORE = 8  # ahead of that while many wait
PAUSES_S = (0.001, 0.004)  # shortest and longest
STALE_NS = 500_000_000  # ten heartbeats
PATIENCE_NS = 100_000_000
BUSY_PATIENCE_NS = 1_000_000_000  # of a worker that would refuse what it takes
BUSY = 1 << 32  # more than any load: a worker beyond its limits takes a connection only if all are
LAPSE_NS = 50_000_000  # who was not asked for so long has seen an empty queue since

# Linux alone tells of a listening socket's queue, in the field `tcpi_unacked`; others have something else there.
_TCP_INFO: int | None = getattr(socket, "TCP_INFO", None) if sys.platform == "linux" else None
_QUEUE_AT = 24


class Placement:
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

    def pause_s(self, listen_socket: socket.socket) -> float:
        """Return 0 if this worker may take a connection that waits, else how long to leave it to others."""
        now_ns = self._clock_ns()
        self._show_load()
        slot = self._slot
        least = slot.least(now_ns - STALE_NS)
        ahead = slot.load - least[0]
        if ahead <= AHEAD or ahead <= AHEAD + min(waiting(listen_socket) // (2 * slot.workers_accepting()), MOST_MORE):
            self._least = None
            return 0.0
        if least != self._least or now_ns - self._asked_ns > LAPSE_NS:
            self._least = least
            self._since_ns = now_ns
            self._pause_s = 0.0
        elif now_ns - self._since_ns > (PATIENCE_NS if slot.load < BUSY else BUSY_PATIENCE_NS):
            self._asked_ns = now_ns
            return 0.0  # until it takes one
        self._asked_ns = now_ns
        shortest_s, longest_s = PAUSES_S
        self._pause_s = min(max(shortest_s, 2 * self._pause_s), longest_s)
        return self._pause_s


def waiting(listen_socket: socket.socket) -> int:
    """Return how many connections wait in a queue; 0 where the kernel does not tell."""
    if listen_socket.family == socket.AF_UNIX or _TCP_INFO is None:
        return 0
    try:
        info = listen_socket.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _QUEUE_AT + 4)
    except OSError:
        return 0
    return int(struct.unpack_from("=I", info, _QUEUE_AT)[0]) if len(info) >= _QUEUE_AT + 4 else 0
