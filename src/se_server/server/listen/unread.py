"""Limits of the bytes that the kernel keeps for a peer that does not read. Accepted sockets inherit them.

Without them, the send buffer of a connection grows to 4 MB on Linux, and after a close the kernel tries for minutes to
deliver the rest.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from contextlib import suppress

SEND_BUFFER_BYTES = 128 * 1024  # Linux doubles it, for its own records
UNSENT_BYTES = 64 * 1024
"""Bytes not sent yet, above which the socket takes no more: the rest waits in the process, which counts it."""
MARGIN_S = 10.0


def limit_unread(listen_sockets: Iterable[socket.socket], timeouts_s: Iterable[float]) -> None:
    """Set the limits on listen sockets, as far as the system has them. Unix sockets have small buffers in any case.

    Args:
        listen_sockets: bound sockets.
        timeouts_s: the times after which the server itself drops a peer; `MARGIN_S` after the longest of them the
            kernel gives up.
    """
    user_timeout_ms = int(min((max(timeouts_s, default=0.0) + MARGIN_S) * 1000, 2**31 - 1))
    options = (
        (socket.SOL_SOCKET, "SO_SNDBUF", SEND_BUFFER_BYTES),
        (socket.IPPROTO_TCP, "TCP_NOTSENT_LOWAT", UNSENT_BYTES),
        (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", user_timeout_ms),
    )
    for sock in listen_sockets:
        if sock.family == getattr(socket, "AF_UNIX", None):
            continue
        for level, name, value in options:
            with suppress(AttributeError, OSError):
                sock.setsockopt(level, getattr(socket, name), value)
