"""The connections of the observer: bounded in number, and closed when their peer neither asks nor reads."""

from __future__ import annotations

import asyncio
import logging

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

logger = logging.getLogger("se_server.server.observer")

MAX_CONNECTIONS = 512
"""Connections at once. Beyond it the oldest one without a request is closed, or else the new one is refused."""
HEAD_S = 10.0
"""A connection without a whole request for this long is closed within the same time again."""
STALL_S = 30.0
"""A peer that does not read for this long is disconnected: a page in a laptop that sleeps."""
YOUNG_S = 1.0
REPORT_S = 60.0

_REFUSAL = b"too many connections\n"
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-type: text/plain\r\n"
    b"content-length: %d\r\n\r\n%s" % (len(_REFUSAL), _REFUSAL)
)


class Connection(HttpToolsProtocol):
    """A connection of the web server, with limits of time that uvicorn lacks."""

    _made_at = 0.0
    _last_request: object = None
    _look: asyncio.TimerHandle | None = None
    _stall: asyncio.TimerHandle | None = None
    _reported_at = float("-inf")

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, or refuse it."""
        super().connection_made(transport)
        self._made_at = self.loop.time()
        self._look = self.loop.call_later(HEAD_S, self._look_at_requests)
        if len(self.connections) > MAX_CONNECTIONS and not self._make_room():
            transport.write(_FULL)
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        for timer in (self._look, self._stall):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Disconnect a peer that does not read in time."""
        super().pause_writing()
        self._stall = self.loop.call_later(STALL_S, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on: the peer reads."""
        super().resume_writing()
        if self._stall is not None:
            self._stall.cancel()

    @property
    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _look_at_requests(self) -> None:
        if self._is_idle and self.cycle is self._last_request:
            self.transport.close()
            return
        self._last_request = self.cycle
        self._look = self.loop.call_later(HEAD_S, self._look_at_requests)

    def _make_room(self) -> bool:
        """Close the connection that has had no request for longest; return False if all of them are at work."""
        now = self.loop.time()
        if now - Connection._reported_at > REPORT_S:
            Connection._reported_at = now
            logger.warning("more than %d connections to the observer at once", MAX_CONNECTIONS)
        others = [other for other in self.connections if isinstance(other, Connection) and other is not self]
        idle = [other for other in others if other._is_idle and now - other._made_at > YOUNG_S]
        if not idle:
            return False
        oldest = min(idle, key=lambda other: other._made_at)
        self.connections.discard(oldest)  # closing takes a step of the loop
        oldest.transport.close()
        return True
