"""Answers HAProxy's agent checks: one line for each connection, from the scoreboard.

The line gives the server's weight, or takes it out of service: `ready 75%`, `drain`, or `maint` before the first worker
is ready. Nothing is read, nothing waits, and no worker is asked.
"""

from __future__ import annotations

import select
import socket
import time
from contextlib import suppress

from se_server.server.shared.heartbeat import BEAT_S
from se_server.server.shared.scoreboard import Scoreboard, State

LAG_OF_HALF_S = 0.1
"""A lag of the event loops by which the weight is halved; callers hear a delay of that size."""
_ACCEPTS = 64
"""Connections answered in one round of the supervisor's loop, so that its other work goes on."""
PAUSE_S = 1.0
_BEAT_NS = int(BEAT_S * 1e9)


def line_of(board: Scoreboard, *, ending: bool) -> str:
    """Return the answer to a check, without its line end.

    `ready` is said each time, because HAProxy keeps an earlier `drain` until then. The weight is at least 1%: 0% would
    mean that no server may be used when all of them are full.

    Args:
        board: the scoreboard of the workers.
        ending: whether the server is about to end.
    """
    ready = [slot for slot in board.live() if slot.state == State.READY]
    if ending:
        return "drain"
    if not ready:
        return "drain" if any(slot.state == State.DRAINING for slot in board.live()) else "maint"
    capacity = board.capacity
    free = 1.0 if capacity is None else max(0.0, 1 - board.seats.taken() / capacity)
    now_ns = time.monotonic_ns()
    lag_s = sum(max(slot.loop_lag_ns, now_ns - slot.heartbeat_ns - _BEAT_NS, 0) for slot in ready) / len(ready) / 1e9
    return f"ready {max(1, round(100 * free / (1 + lag_s / LAG_OF_HALF_S)))}%"


class AgentCheck:
    """Answers the checks on its sockets.

    Args:
        given: the address as it was given.
        sockets: bound and listening, owned by this object.
    """

    def __init__(self, given: str, sockets: list[socket.socket]) -> None:
        self.given = given
        self.sockets = sockets
        self._paused_until = 0.0

    def register(self, poll: select.poll) -> None:
        """Register the descriptors that `serve` answers on."""
        if self._paused_until <= time.monotonic():
            for sock in self.sockets:
                poll.register(sock, select.POLLIN)

    def next_due(self) -> list[float]:
        """Return the time at which accepting resumes, in monotonic seconds, if it is paused."""
        return [self._paused_until] if self._paused_until > time.monotonic() else []

    def serve(self, board: Scoreboard, *, ending: bool) -> None:
        """Answer the checks that have come, without waiting.

        Args:
            board: the scoreboard of the workers.
            ending: whether the server is about to end.
        """
        if self._paused_until > time.monotonic():
            return
        for sock in self.sockets:
            for _ in range(_ACCEPTS):
                try:
                    connection, _ = sock.accept()
                except (BlockingIOError, ConnectionAbortedError):
                    break
                except OSError:  # there are no free descriptors; without a pause, poll would return at once every time
                    self._paused_until = time.monotonic() + PAUSE_S
                    return
                with connection, suppress(OSError):  # the peer may be gone
                    connection.setblocking(False)
                    connection.send(line_of(board, ending=ending).encode() + b"\n")
                    with suppress(BlockingIOError):
                        connection.recv(4096)  # a close with unread bytes would reset the connection

    def close(self) -> None:
        """Close the sockets; in a child, its copies of them."""
        for sock in self.sockets:
            sock.close()
        self.sockets = []
