"""Taking connections out of the queue of the listen sockets, one per wake-up, also when descriptors run out.

One per wake-up, because several workers share the queue: each takes one and goes back to its conversations, so that a
burst spreads over all of them. `Placement` may make a worker leave the queue to others.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from se_server.server.door.placement import Placement
from se_server.server.door.refusals import RefusalLog
from se_server.server.door.responses import UNAVAILABLE
from se_server.server.shared.scoreboard import Slot

PAUSES_S = (0.1, 1.0)  # shortest and longest pause after a failed accept
MAX_REFUSED_AT_ONCE = 64

# What accept(2) reports of the connection and not of us.
_PEER_GONE = frozenset(
    (
        errno.ECONNABORTED,
        errno.EPROTO,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENOPROTOOPT,
        errno.EOPNOTSUPP,
    )
)


class Acceptor:
    """Accepts connections while it is open.

    Args:
        loop: the loop that waits for connections.
        listen_sockets: bound, listening and non-blocking; owned by the caller, who closes them after `close`.
        on_accepted: gets each accepted socket, non-blocking and owned by the callee, and its peer's address.
        refusals: where failures are logged.
        slot: the worker's place on the scoreboard, which says whether it accepts.
        placement: decides whether this worker accepts or leaves the queue to others; None always accepts.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listen_sockets: Sequence[socket.socket],
        on_accepted: Callable[[socket.socket, Any], None],
        refusals: RefusalLog,
        slot: Slot | None = None,
        placement: Placement | None = None,
    ) -> None:
        self._slot = slot
        self._placement = placement
        self._loop = loop
        self._listen_sockets = listen_sockets
        self._on_accepted = on_accepted
        self._refusals = refusals
        self._pause_s = 0.0  # the last one; 0 after a success
        self._resume: asyncio.TimerHandle | None = None
        self._spare_fd = -1

    def open(self) -> None:
        """Start to accept, and hold a descriptor back for the day when there are no others."""
        self._take_spare()
        self._start()

    def stop(self) -> None:
        """Leave new connections in the queue. Any number of times."""
        self._leave_queue()
        self._show(accepting=False)

    def _leave_queue(self) -> None:
        if self._resume is not None:
            self._resume.cancel()
            self._resume = None
        for sock in self._listen_sockets:
            if sock.fileno() >= 0:
                self._loop.remove_reader(sock.fileno())

    def close(self) -> None:
        """Stop for good. Any number of times."""
        self.stop()
        self._drop_spare()

    def _show(self, *, accepting: bool) -> None:
        if self._slot is not None:
            self._slot.accepting = accepting

    def _start(self) -> None:
        self._resume = None
        self._show(accepting=True)
        for sock in self._listen_sockets:
            self._loop.add_reader(sock.fileno(), self._accept, sock)

    def _accept(self, listen_socket: socket.socket) -> None:
        pause_s = 0.0 if self._placement is None else self._placement.pause_s(listen_socket)
        if pause_s:
            self._leave_queue()
            self._resume = self._loop.call_later(pause_s, self._start)
            return
        try:
            accepted, address = listen_socket.accept()
        except (BlockingIOError, InterruptedError):
            return  # Another worker was faster.
        except OSError as error:
            if error.errno not in _PEER_GONE:
                self._failed(error)
            return
        self._pause_s = 0.0
        accepted.setblocking(False)
        self._on_accepted(accepted, address)

    def _failed(self, error: OSError) -> None:
        """Pause: the connection stays in the queue and the socket readable, so that to go on would be to spin.

        The first pause leaves the queue to other workers, who may have descriptors left. If it did not help, those who
        wait are refused, by means of the descriptor held back.
        """
        refused = self._refuse_waiting() if self._pause_s else 0
        shortest_s, longest_s = PAUSES_S
        self._pause_s = min(max(shortest_s, 2 * self._pause_s), longest_s)
        self._refusals.add(
            "cannot accept connections",
            f"{error.strerror}; {refused} refused, the next try in {self._pause_s:.1f} s",
        )
        self.stop()
        self._resume = self._loop.call_later(self._pause_s, self._start)

    def _refuse_waiting(self) -> int:
        self._drop_spare()
        refused = 0
        for sock in self._listen_sockets:
            # Ends when nobody waits any more, or when the descriptor held back went elsewhere.
            with suppress(OSError):
                while refused < MAX_REFUSED_AT_ONCE:
                    with sock.accept()[0] as accepted:
                        refused += 1
                        _answer(accepted)
        self._take_spare()
        return refused

    def _take_spare(self) -> None:
        if self._spare_fd >= 0:
            return  # It was kept while the acceptor was stopped.
        # Without one, those who wait have to wait until descriptors are free again.
        with suppress(OSError):
            self._spare_fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def _drop_spare(self) -> None:
        if self._spare_fd >= 0:
            os.close(self._spare_fd)
            self._spare_fd = -1


def _answer(accepted: socket.socket) -> None:
    accepted.setblocking(False)
    with suppress(OSError):  # Nothing has come yet.
        accepted.recv(65536)  # Unread, it would turn the close into a reset that overtakes the answer.
    with suppress(OSError):  # Gone already.
        accepted.send(UNAVAILABLE.data)


def address_text(address: Any) -> str:
    """Write the address of a socket as `host:port`; empty for a Unix socket's."""
    if not isinstance(address, tuple):
        return ""
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
