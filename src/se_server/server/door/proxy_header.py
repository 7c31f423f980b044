"""Read the PROXY header from an accepted socket before it gets a transport, because TLS begins after the header."""

from __future__ import annotations

import asyncio
import socket

from se_server.conversation.deadlines import LAST_LOOK_S
from se_server.errors import SpeechEngineError
from se_server.server.door.access import Access
from se_server.server.door.pacer import Pacer
from se_server.server.listen.proxy import LOCAL, MAX_V2_BYTES, ProxyHeader, ProxyHeaderError


class ProxyRefused(SpeechEngineError):
    """A connection without the PROXY header of a trusted proxy; the text gives the reason."""


async def read_proxy_header(
    loop: asyncio.AbstractEventLoop,
    pacer: Pacer,
    accepted: socket.socket,
    peer: str,
    access: Access,
    timeout_s: float,
) -> str:
    """Read the header, and no byte after it.

    Args:
        pacer: gives the turns in which to read.
        accepted: non-blocking; stays open in every case.
        peer: the address of the socket's peer.
        timeout_s: the time limit for the whole header.

    Returns:
        The client's address as `host:port`; the peer's if the proxy connects for itself; or a word that is not an
        address.

    Raises:
        ProxyRefused: the peer is not a trusted proxy, sent something else, or sent no header in time.
        OSError: the peer is gone.
    """
    if not access.trusts(peer):
        raise ProxyRefused("it is none of the trusted proxies")
    header = ProxyHeader()
    ended: asyncio.Future[None] = loop.create_future()

    def read(_: bytes) -> None:
        try:
            _take(accepted, header)
        except (BlockingIOError, InterruptedError):
            return
        except (OSError, ProxyRefused) as error:
            loop.remove_reader(accepted.fileno())
            if not ended.done():
                ended.set_exception(error)
            return
        if header.client is not None:
            loop.remove_reader(accepted.fileno())
            if not ended.done():
                ended.set_result(None)

    def read_in_turn(_: bytes) -> None:
        if not ended.done():
            loop.add_reader(accepted.fileno(), readable)
            read(b"")

    def readable() -> None:
        if not pacer.do(read, b""):
            loop.remove_reader(accepted.fileno())  # it stays readable, and would be reported in every step
            pacer.defer(read_in_turn, b"")

    loop.add_reader(accepted.fileno(), readable)
    try:
        await asyncio.wait((ended,), timeout=timeout_s)
        if not ended.done():  # code may have blocked the loop, and the header waits in the socket
            await asyncio.wait((ended,), timeout=LAST_LOOK_S)
        if not ended.done():
            raise ProxyRefused("its time is up")
        ended.result()
    finally:
        loop.remove_reader(accepted.fileno())
    client = header.client
    assert client is not None
    return peer if client == LOCAL else client


def _take(accepted: socket.socket, header: ProxyHeader) -> None:
    """Remove the received part of the header from the socket: peeking alone would leave the socket readable."""
    peeked = accepted.recv(MAX_V2_BYTES, socket.MSG_PEEK)
    if not peeked:
        raise ConnectionResetError("the peer is gone")
    try:
        taken = header.feed(peeked)
    except ProxyHeaderError as error:
        raise ProxyRefused(str(error)) from None
    accepted.recv(taken)
