"""Placement: decide which worker accepts the next connection, so that conversations spread evenly.

Conversations last minutes, so an uneven start stays uneven. All workers wait for the same queue. A worker that is ahead
of the least loaded one removes its listen sockets from its loop for some milliseconds and then checks again. It polls
because a wake-up could be lost if the least loaded worker died in that moment. A worker is not waited for if its loop
stands still, if it does not accept, or if it leaves the queue alone although it is alive.

A long queue allows a larger lead: on fewer cores than workers, an exact order would keep a burst of callers waiting.
The lead grows with the queue, so that the connections still in it suffice to level the loads.
"""

from __future__ import annotations

import socket
import struct
import sys
import time
from collections.abc import Callable

from se_server.server.shared.scoreboard import Slot

AHEAD = 1  # the lead with which a worker still accepts: loads differ by two at most
MOST_MORE = 8  # the largest additional lead while the queue is long
PAUSES_S = (0.001, 0.004)  # shortest and longest
STALE_NS = 500_000_000  # ten heartbeats
PATIENCE_NS = 100_000_000
BUSY_PATIENCE_NS = 1_000_000_000  # the patience of an overloaded worker, which would refuse the connection
BUSY = 1 << 32  # added to the load of an overloaded worker: it accepts only if all workers are overloaded
LAPSE_NS = 50_000_000  # a worker not asked for this long is assumed to have seen an empty queue

# Only Linux reports the queue length of a listen socket, in the field `tcpi_unacked`.
_TCP_INFO: int | None = getattr(socket, "TCP_INFO", None) if sys.platform == "linux" else None
_QUEUE_AT = 24


class Placement:
    """Decides whether a worker accepts now or leaves the queue to others.

    Args:
        slot: the worker's slot; its `load` is compared with the others'.
        show_load: updates the load.
        clock_ns: the clock of heartbeats, in nanoseconds.
    """

    def __init__(
        self, slot: Slot, show_load: Callable[[], None], clock_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._slot = slot
        self._show_load = show_load
        self._clock_ns = clock_ns
        self._pause_s = 0.0
        self._asked_ns = 0
        self._least: tuple[int, int] | None = None  # the least loaded worker, which this one waits for
        self._since_ns = 0

    def pause_s(self, listen_socket: socket.socket) -> float:
        """Return 0 if this worker may accept, else the seconds for which to leave the queue to others."""
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
            return 0.0  # until it accepts one
        self._asked_ns = now_ns
        shortest_s, longest_s = PAUSES_S
        self._pause_s = min(max(shortest_s, 2 * self._pause_s), longest_s)
        return self._pause_s


def waiting(listen_socket: socket.socket) -> int:
    """Return the length of a listen socket's queue; 0 if the kernel does not report it."""
    if listen_socket.family == socket.AF_UNIX or _TCP_INFO is None:
        return 0
    try:
        info = listen_socket.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _QUEUE_AT + 4)
    except OSError:
        return 0
    return int(struct.unpack_from("=I", info, _QUEUE_AT)[0]) if len(info) >= _QUEUE_AT + 4 else 0
