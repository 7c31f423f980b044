"""TLS handshakes of accepted sockets, each flight in its turn.

A `TlsGate` stands between the socket and the event loop's own TLS until the handshake is done, because a loop would do
all handshakes whose bytes have come in one step. The gate also counts the time of the handshake, without the time in
which the peer's bytes wait for their turn.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Any

from se_server.conversation.deadlines import LAST_LOOK_S
from se_server.server.door.pacer import MAX_WAITING_BYTES, Pacer
from se_server.server.door.tls_tap import RecordWatch, tap_of

CEILING_S = 600.0  # of a handshake with the waiting for its turns; the gate has the time limit
MIN_LEFT_S = 0.05  # after bytes have waited for their turn


class FirstBytes(asyncio.Protocol):
    """Keeps what comes through TLS between the end of the handshake and the moment when the transport is known."""

    def __init__(self) -> None:
        self._received = b""
        self._lost: list[Exception | None] = []
        self._successor: asyncio.BaseProtocol | None = None

    def data_received(self, data: bytes) -> None:
        self._received += data

    def connection_lost(self, exc: Exception | None) -> None:
        if self._successor is None:
            self._lost.append(exc)
        else:
            self._successor.connection_lost(exc)

    def hand_over(self, successor: asyncio.BaseProtocol, data_received: Callable[[bytes], None]) -> None:
        """Pass everything on to the transport's next protocol."""
        self._successor = successor
        received, self._received = self._received, b""
        if received:
            data_received(received)
        for exc in self._lost:
            successor.connection_lost(exc)


class TlsGate(asyncio.Protocol):
    """Passes a peer's bytes on to TLS when it is their turn.

    Args:
        timeout_s: seconds for the peer's part of the handshake.
        watch: the records of the connection.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, pacer: Pacer, timeout_s: float, watch: RecordWatch) -> None:
        self.inner: Any = None  # the loop's protocol of TLS
        self.is_late = False
        self._loop = loop
        self._pacer = pacer
        self._watch = watch
        self._left_s = timeout_s
        self._due_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[Any] | None = None
        self._is_waiting = False
        self._is_done = False
        self._early = b""  # came before TLS was there

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def open(self, inner: Any, task: asyncio.Task[Any]) -> None:
        """Start to pass bytes on to TLS, and to count the time; the task is cancelled when it is up."""
        self.inner = inner
        self._task = task
        self._transport.set_protocol(self)
        self._start_timer()
        if self._early:
            self._loop.call_soon(self._take_early)  # TLS is connected by an earlier callback

    def close(self) -> None:
        """End the gate's part: TLS gets the bytes when they come, after those that wait for their turn."""
        self._stop_timer()
        self._is_done = True
        if not self._is_waiting and not self._transport.is_closing():
            self._transport.set_protocol(tap_of(self.inner, self._transport, self._watch))

    def data_received(self, data: bytes) -> None:
        if self.inner is None:
            self._early += data
            self._transport.pause_reading()  # TLS resumes it
            return
        if self._pacer.do(self._take, data):
            return
        if self._pacer.waiting_bytes > MAX_WAITING_BYTES:
            self._cancel()
            return
        self._transport.pause_reading()
        self._is_waiting = True
        self._stop_timer()
        self._pacer.defer(self._take_in_turn, data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._is_waiting = False
        lost = exc or ConnectionResetError()
        # Thousands that leave in one step are work, too.
        if self.inner is not None and not self._pacer.do(lambda _: self.inner.connection_lost(lost), b""):
            self._pacer.defer(lambda _: self.inner.connection_lost(lost), b"")

    def pause_writing(self) -> None:
        self.inner.pause_writing()

    def resume_writing(self) -> None:
        self.inner.resume_writing()

    def _take_early(self) -> None:
        if not self._transport.is_closing():
            self.data_received(self._early)
        self._early = b""

    def _take(self, data: bytes) -> None:
        inner = self.inner
        if not self._watch.admit(self._transport, data, len(data)):
            return
        if not hasattr(inner, "get_buffer"):  # asyncio before Python 3.11
            inner.data_received(data)
            return
        left = memoryview(data)
        while left:
            buffer = inner.get_buffer(len(left))
            count = min(len(buffer), len(left))
            buffer[:count] = left[:count]
            inner.buffer_updated(count)
            left = left[count:]

    def _take_in_turn(self, data: bytes) -> None:
        if not self._is_waiting or self._transport.is_closing():
            return
        self._is_waiting = False
        if self._is_done:
            self._transport.set_protocol(tap_of(self.inner, self._transport, self._watch))
        else:
            self._start_timer()
        self._transport.resume_reading()
        self._take(data)

    def _start_timer(self) -> None:
        self._due_s = self._loop.time() + self._left_s
        self._timer = self._loop.call_later(self._left_s, self._late)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._left_s = max(MIN_LEFT_S, self._due_s - self._loop.time())

    def _late(self) -> None:
        # Time in which code blocked the loop is not the peer's: its bytes may wait in the socket.
        late_s = self._loop.time() - self._due_s
        self._timer = self._loop.call_later(max(late_s, LAST_LOOK_S), self._expire)

    def _expire(self) -> None:
        self._timer = None
        self.is_late = True
        self._cancel()

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()


async def establish_tls(
    loop: asyncio.AbstractEventLoop,
    accepted: socket.socket,
    pacer: Pacer,
    timeout_s: float,
    options: dict[str, Any],
    watch: RecordWatch,
) -> tuple[Any, FirstBytes]:
    """Do the TLS handshake of an accepted socket.

    Args:
        accepted: non-blocking; its transport owns it from now on.
        timeout_s: seconds for the peer's part of the handshake.
        options: of `loop.start_tls`, with the context as `sslcontext`.
        watch: the records of the connection, also after the handshake.

    Returns:
        The transport, and what has come already; give the transport its protocol before anything is awaited.

    Raises:
        OSError: the handshake failed, or the peer is gone or late.
    """
    gate = TlsGate(loop, pacer, timeout_s, watch)
    raw, _ = await loop.connect_accepted_socket(lambda: gate, accepted)
    first = FirstBytes()
    task = loop.create_task(loop.start_tls(raw, first, server_side=True, ssl_handshake_timeout=CEILING_S, **options))
    try:
        while raw.get_protocol() is gate and not task.done():  # noqa: ASYNC110  nothing reports that it has begun
            await asyncio.sleep(0)
        if not task.done():
            gate.open(raw.get_protocol(), task)
        transport = await task
    except asyncio.CancelledError:
        task.cancel()
        raw.abort()
        if gate.is_late:
            raise ConnectionAbortedError(f"no TLS handshake within {timeout_s:g} s") from None
        raise
    except RuntimeError:  # the transport was closed before TLS was there
        raise ConnectionResetError from None
    except (OSError, ssl.CertificateError):
        raw.abort()
        raise
    gate.close()
    return transport, first
