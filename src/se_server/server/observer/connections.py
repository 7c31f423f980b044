"""The connections of the observer and of the playground: bounded in number, in the size of a request and in time."""

from __future__ import annotations

import asyncio
import logging

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

logger = logging.getLogger("se_server.server.observer")

MAX_CONNECTIONS = 512
"""Connections at once. Beyond it the oldest one without a request is closed, or else the new one is refused."""
MAX_HEAD_BYTES = 16 * 1024
MAX_HEADERS = 100
MAX_PIPELINED = 16
"""Requests that wait for the answer to an earlier one."""
HEAD_S = 10.0
"""Time for a whole request head, from the connection or from the previous answer on."""
STALL_S = 30.0
"""A peer that does not read for this long is disconnected: a page in a laptop that sleeps."""
YOUNG_S = 1.0
FIRST_REQUEST_S = 0.5
"""Time for the first request of a connection that was made just before the server stops."""
REPORT_S = 60.0

_PIECE_BYTES = 4096  # httptools is fed this much at once, so that a head is little longer than its limit


def _refusal(status: bytes, text: bytes, *lines: bytes) -> bytes:
    head = (b"HTTP/1.1 " + status, *lines, b"connection: close", b"content-type: text/plain")
    return b"\r\n".join((*head, b"content-length: %d" % len(text), b"", text))


_FULL = _refusal(b"503 Service Unavailable", b"too many connections\n", b"retry-after: 1")
_TOO_LARGE = _refusal(b"431 Request Header Fields Too Large", b"the request head is too large\n")


class _TooMuchError(Exception):
    """A request is beyond a limit; raised in a callback of httptools, which ends the connection."""


class Connection(HttpToolsProtocol):
    """A connection of the web server, with the limits that uvicorn lacks."""

    _made_at = 0.0
    _head_bytes = 0
    _is_in_head = True
    _is_too_much = False
    _is_new = True
    _is_last = False
    _head_timer: asyncio.TimerHandle | None = None
    _stall: asyncio.TimerHandle | None = None
    _reported_at = float("-inf")

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or refuse it."""
        super().connection_made(transport)
        self._made_at = self.loop.time()
        self._wait_for_head()
        if len(self.connections) > MAX_CONNECTIONS and not self._make_room():
            transport.write(_FULL)
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        for timer in (self._head_timer, self._stall):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """Close once the request at work is answered, and the first one too.

        The next server of an upgrade takes the connections that come after this one's last. A connection that this
        one has taken is answered by nobody else, and its request may be on its way.
        """
        if self._is_new:
            self._is_last = True
            self.loop.call_later(FIRST_REQUEST_S, self._close_if_idle)
        else:
            super().shutdown()

    def pause_writing(self) -> None:
        """Disconnect a peer that does not read in time."""
        super().pause_writing()
        self._stall = self.loop.call_later(STALL_S, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on: the peer reads."""
        super().resume_writing()
        if self._stall is not None:
            self._stall.cancel()

    def data_received(self, data: bytes) -> None:
        """Read a part of a request. A head that is too long is refused before its end."""
        for start in range(0, len(data), _PIECE_BYTES):
            piece = data[start : start + _PIECE_BYTES]
            super().data_received(piece)
            if self.transport.is_closing():
                return
            if self._is_in_head:
                self._head_bytes += len(piece)
                if self._head_bytes > MAX_HEAD_BYTES:
                    self._is_too_much = True
                    self.send_400_response("")
                    return

    def on_message_begin(self) -> None:
        """Begin to read a head."""
        super().on_message_begin()
        self._is_in_head = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header line."""
        super().on_header(name, value)
        if len(self.headers) > MAX_HEADERS:
            self._is_too_much = True
            raise _TooMuchError

    def on_headers_complete(self) -> None:
        """Begin to answer, or have the request wait for the answers to earlier ones."""
        if len(self.pipeline) >= MAX_PIPELINED:
            raise _TooMuchError
        super().on_headers_complete()
        if self._is_last:
            self.cycle.keep_alive = False
        self._is_new = self._is_in_head = False
        self._head_bytes = 0
        if self._head_timer is not None:
            self._head_timer.cancel()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        if self._is_idle and not self.transport.is_closing():
            self._wait_for_head()

    def send_400_response(self, msg: str) -> None:
        """Refuse a request that is no HTTP, or whose head is beyond the limits, and close the connection."""
        if not self._is_idle:
            self.transport.abort()  # a refusal in the middle of an answer would be part of it
        elif not self._is_too_much:
            super().send_400_response(msg)
        else:
            self.transport.write(_TOO_LARGE)
            self.transport.close()

    def _wait_for_head(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
        self._head_timer = self.loop.call_later(HEAD_S, self.transport.close)

    def _close_if_idle(self) -> None:
        if self._is_idle:
            self.transport.close()

    @property
    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _make_room(self) -> bool:
        """Close the connection that has had no request for longest; return False if all of them are at work."""
        now = self.loop.time()
        if now - Connection._reported_at > REPORT_S:
            Connection._reported_at = now
            logger.warning(
                "more than %d connections to the page at once: those without a request are closed", MAX_CONNECTIONS
            )
        others = [other for other in self.connections if isinstance(other, Connection) and other is not self]
        idle = [other for other in others if other._is_idle and now - other._made_at > YOUNG_S]
        if not idle:
            return False
        oldest = min(idle, key=lambda other: other._made_at)
        self.connections.discard(oldest)  # closing takes a step of the loop
        oldest.transport.close()
        return True
