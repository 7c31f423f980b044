"""Pass listen sockets to a process that was forked before they were opened."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence

from se_server.errors import AppError

MAX_SOCKETS = 200  # the kernel passes 253 at once


def send_sockets(to: socket.socket, sockets: Sequence[socket.socket]) -> None:
    """Send sockets through a Unix socket; the sender keeps its own."""
    socket.send_fds(to, [b"."], [sock.fileno() for sock in sockets])


def receive_sockets(through: socket.socket) -> tuple[socket.socket, ...]:
    """Wait for listen sockets, which are the caller's from now on.

    Raises:
        AppError: the sender has none, or is gone.
    """
    _, descriptors, _, _ = socket.recv_fds(through, 1, MAX_SOCKETS)
    if not descriptors:
        raise AppError("the supervisor has opened no listen sockets")
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)
    sockets = tuple(socket.socket(fileno=descriptor) for descriptor in descriptors)
    for sock in sockets:
        sock.setblocking(False)
    return sockets
