"""Accepted sockets inherit the limits of unread bytes from their listen socket."""

from __future__ import annotations

import math
import socket
import sys

import pytest

from se_server.server.listen.unread import SEND_BUFFER_BYTES, UNSENT_BYTES, limit_unread

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems have only some of the options")


@pytest.mark.parametrize(
    ("timeouts_s", "user_timeout_ms"), [([30.0, 2.5], 40_000), ([], 10_000), ([math.inf], 2**31 - 1)]
)
def test_accepted_sockets_inherit_the_limits(timeouts_s: list[float], user_timeout_ms: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        limit_unread([listening], timeouts_s)
        with socket.create_connection(listening.getsockname()), listening.accept()[0] as accepted:
            assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 2 * SEND_BUFFER_BYTES
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == UNSENT_BYTES
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == user_timeout_ms


def test_unix_sockets_keep_their_options() -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        before = sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        limit_unread([sock], [30.0])
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == before
