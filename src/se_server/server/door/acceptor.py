"""Accept connections from the listen sockets, one per wake-up, also when descriptors run out.

Several workers share the queue. Each accepts one connection and returns to its conversations, so that a burst spreads
over all of them. `Placement` may make a worker leave the queue to others.
"""

from __future__ import annotations

import _socket
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

# Errors of accept(2) that concern the connection and not this process.
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


class _Accepted(socket.socket):
    """An accepted socket. Its family and type are plain numbers: `socket.socket` makes enumerations of them each time,
    and the event loop asks for them three times."""

    __slots__ = ()

    family = _socket.socket.family  # type: ignore[assignment]
    type = _socket.socket.type  # type: ignore[assignment]


class Acceptor:
    """Accepts connections while it is open.

    Args:
        loop: the running event loop.
        listen_sockets: bound, listening and non-blocking; owned by the caller, who closes them after `close`.
        on_accepted: called with each accepted socket, non-blocking and owned by the callee, its peer's address, and
            the listen socket.
        refusals: the log of failures.
        slot: the worker's slot, which shows whether it accepts; None in a process that serves alone.
        placement: decides whether this worker accepts or leaves the queue to others; None always accepts.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listen_sockets: Sequence[socket.socket],
        on_accepted: Callable[[socket.socket, Any, socket.socket], None],
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
        """Start to accept, and reserve a descriptor for the time when the process has no others."""
        self._take_spare()
        self._start()

    def stop(self) -> None:
        """Leave new connections in the queue. May be called repeatedly."""
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
        """Stop for good. May be called repeatedly."""
        self.stop()
        self._drop_spare()

    def _show(self, *, accepting: bool) -> None:
        if self._slot is not None:
            self._slot.accepting = accepting

    def _start(self) -> None:
        self._resume = None
        self._show(accepting=True)
        for sock in self._listen_sockets:
            self._loop.add_reader(sock.fileno(), self._accept, sock, int(sock.family))

    def _accept(self, listen_socket: socket.socket, family: int) -> None:
        pause_s = 0.0 if self._placement is None else self._placement.pause_s(listen_socket)
        if pause_s:
            self._leave_queue()
            self._resume = self._loop.call_later(pause_s, self._start)
            return
        try:
            fd, address = listen_socket._accept()  # type: ignore[attr-defined]
        except (BlockingIOError, InterruptedError):
            return  # another worker accepted it
        except OSError as error:
            if error.errno not in _PEER_GONE:
                self._failed(error)
            return
        self._pause_s = 0.0
        accepted = _Accepted(family, socket.SOCK_STREAM, 0, fd)  # as `accept` does, without enumerations
        accepted.setblocking(False)
        self._on_accepted(accepted, address, listen_socket)

    def _failed(self, error: OSError) -> None:
        """Pause: the connection stays in the queue and keeps the socket readable, so the loop would spin otherwise.

        The first pause leaves the queue to other workers, which may have descriptors left. If that did not help, the
        waiting peers are refused by means of the reserved descriptor.
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
            # Ends when the queue is empty, or when other code took the reserved descriptor.
            with suppress(OSError):
                while refused < MAX_REFUSED_AT_ONCE:
                    with sock.accept()[0] as accepted:
                        refused += 1
                        _refuse(accepted)
        self._take_spare()
        return refused

    def _take_spare(self) -> None:
        if self._spare_fd >= 0:
            return  # kept while the acceptor was stopped
        # Without a reserve, waiting peers wait until descriptors are free again.
        with suppress(OSError):
            self._spare_fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def _drop_spare(self) -> None:
        if self._spare_fd >= 0:
            os.close(self._spare_fd)
            self._spare_fd = -1


def _refuse(accepted: socket.socket) -> None:
    accepted.setblocking(False)
    with suppress(OSError):  # nothing has arrived yet
        accepted.recv(65536)  # unread bytes would turn the close into a reset that overtakes the response
    with suppress(OSError):  # the peer is gone
        accepted.send(UNAVAILABLE.data)


def address_text(address: Any) -> str:
    """Format the address of a socket as `host:port`; return the empty text for a Unix socket."""
    if not isinstance(address, tuple):
        return ""
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
