"""Looks at what a peer sends before TLS does, after the handshake as well: a flood of records without a message ends.

A record that asks for new keys has 27 bytes and costs 8 us, and one read of the loop may bring ten thousand of them.
Large reads of many connections are spread over the steps of the loop: TLS would read on while a conversation does not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from se_server.server.door._tls_records import RecordLimit

LARGE_READ_BYTES = 4096  # no read of a conversation with short messages


class RecordWatch:
    """The records of one connection.

    Args:
        loop: the running loop.
        rate: the work of short records that is admitted a second.
        flooded: is called once, before the connection is dropped.
    """

    __slots__ = ("_flooded", "_limit", "_time")

    def __init__(self, loop: asyncio.AbstractEventLoop, rate: float, flooded: Callable[[], None]) -> None:
        self._time = loop.time
        self._limit = RecordLimit(rate, loop)
        self._flooded = flooded

    def admit(self, transport: Any, data: bytes | memoryview, size: int) -> bool:
        """Return whether TLS may have the next bytes; if not, the connection is dropped."""
        if transport.is_closing():
            return False
        if self._limit.admit(data, size, self._time()):
            return True
        self._flooded()
        transport.abort()
        return False

    def rest(self, transport: Any, size: int) -> None:
        """Read nothing until a later step of the loop, if TLS has read enough in this one."""

        def go_on() -> None:
            if not transport.is_closing():
                transport.resume_reading()

        # TLS may have stopped to read by itself, and goes on by itself then.
        if size >= LARGE_READ_BYTES and transport.is_reading() and self._limit.charge(size, go_on):
            transport.pause_reading()


def tap_of(inner: Any, transport: Any, watch: RecordWatch) -> asyncio.BaseProtocol:
    """Return the protocol that stands between a transport and the loop's protocol of TLS."""
    return BufferTap(inner, transport, watch) if hasattr(inner, "get_buffer") else DataTap(inner, transport, watch)


class _Tap:
    __slots__ = ("_inner", "_transport", "_watch")

    def __init__(self, inner: Any, transport: Any, watch: RecordWatch) -> None:
        self._inner = inner
        self._transport = transport
        self._watch = watch

    def connection_made(self, transport: Any) -> None:
        """Do nothing: it was made before."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._inner.connection_lost(exc)

    def eof_received(self) -> bool | None:
        is_kept: bool | None = self._inner.eof_received()
        return is_kept

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()


class BufferTap(_Tap, asyncio.BufferedProtocol):
    """The tap of a TLS that gives out its buffer."""

    __slots__ = ("_buffer",)

    def get_buffer(self, sizehint: int) -> Any:
        self._buffer = self._inner.get_buffer(sizehint)
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._watch.admit(self._transport, self._buffer, nbytes):
            self._inner.buffer_updated(nbytes)
            self._watch.rest(self._transport, nbytes)


class DataTap(_Tap, asyncio.Protocol):
    """The tap of asyncio's TLS before Python 3.11."""

    __slots__ = ()

    def data_received(self, data: bytes) -> None:
        if self._watch.admit(self._transport, data, len(data)):
            self._inner.data_received(data)
            self._watch.rest(self._transport, len(data))
