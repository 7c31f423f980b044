"""A connection that is no session yet: it asks and is answered in HTTP, until an upgrade is admitted."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from se_server.conversation.host import Host
from se_server.server.door.access import Access
from se_server.server.door.handshake import Handshake, Limits, Upgrade
from se_server.server.door.responses import HEAD_LATE, Answer
from se_server.server.door.routes import RouteTable

MAX_LOGGED_PATH = 100


class ConnectionOwner(Protocol):
    """The door, as far as its connections see it."""

    loop: asyncio.AbstractEventLoop
    host: Host
    routes: RouteTable
    limits: Limits
    access: Access

    @property
    def draining(self) -> bool:
        """Whether the door accepts no more connections."""

    def obstacle(self) -> str:
        """Return the key of `READINESS` for a readiness check."""

    def connected(self, connection: HttpConnection) -> bool:
        """Add a connection that has its transport; False tells it to close at once."""

    def settled(self) -> None:
        """Count one pending handshake less."""

    def disconnected(self, connection: HttpConnection) -> None:
        """Remove a connection that is closed or has become a conversation."""

    def admit(self, upgrade: Upgrade, *, within_limit: bool) -> tuple[Upgrade, tuple[Answer, str] | None]:
        """Return the upgrade with its client's address and, if it is refused, the response and the reason to log."""

    def hand_over(self, connection: HttpConnection, upgrade: Upgrade) -> None:
        """Turn an admitted connection into a conversation."""

    def log_refusal(self, remote: str, answer: Answer, detail: str) -> None:
        """Log a refused request."""


class HttpConnection(asyncio.Protocol):
    """A connection that is no session yet.

    Args:
        door: what admits its upgrade, and takes it over.
        remote: the peer's address, as `host:port`; empty for a Unix socket's.
        fd: of its socket; -1 with TLS, where a conversation must not write to it.
        within_limit: whether it was not one too many; else its upgrade will be refused.

    Attributes:
        protocol: the one to make a transport with, also for the conversation that this may become.
        transport: once it is made.
    """

    __slots__ = (
        "_door",
        "_handshake",
        "_head_timeout_s",
        "_lingered",
        "_pending",
        "_remote",
        "_resting",
        "_timer",
        "_within_limit",
        "fd",
        "protocol",
        "transport",
    )

    def __init__(self, door: ConnectionOwner, remote: str, fd: int, within_limit: bool = True) -> None:
        self._door = door
        self.fd = fd
        self.protocol = door.host.protocol(self)
        self._head_timeout_s = door.limits.head_timeout_s
        self._remote = remote
        self._within_limit = within_limit
        self._pending = True  # its first request has not come
        self._handshake: Handshake | None = None  # None as well once the last answer went out
        self._resting = False  # between two requests
        self._lingered = 0

    def expect(self, remote: str, head_timeout_s: float) -> None:
        """Take note of whom a PROXY header named, and of the time that is left for the first request's head."""
        self._remote = remote
        self._head_timeout_s = head_timeout_s

    def settle(self) -> None:
        """Count it as a pending handshake no longer. Any number of times."""
        if self._pending:
            self._pending = False
            self._door.settled()

    def connection_made(self, transport: Any) -> None:
        self.transport: asyncio.Transport = transport
        door = self._door
        self._handshake = Handshake(door.routes, door.limits, self._remote, door.obstacle)
        self._timer = door.loop.call_later(self._head_timeout_s, self._timed_out)
        if not door.connected(self):
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        self._handshake = None
        self.settle()
        self._door.disconnected(self)

    def abort(self) -> None:
        """Drop the connection."""
        self.transport.abort()

    def drain(self) -> None:
        """Close the connection if it only waits for another request; a first one may still come."""
        if self._resting:
            self.transport.close()

    def pause_writing(self) -> None:
        # Who asks and asks without reading the answers is no health check.
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        handshake = self._handshake
        if handshake is None:
            self._lingered += len(data)
            if self._lingered > self._door.limits.max_linger_bytes:
                self.transport.abort()
            return
        outcome = handshake.feed(data)
        if outcome is None:
            if self._resting and not handshake.idle:
                self._rest(resting=False)
            return
        while outcome is not None:
            if isinstance(outcome, Upgrade):
                self._upgrade(outcome)
                return
            if outcome.reason:
                client = self._door.access.client_of(self._remote, handshake.headers)
                self._door.log_refusal(client.text, outcome, f"path {handshake.path[:MAX_LOGGED_PATH]!r}")
            if not outcome.keep_alive:
                self._finish(outcome)
                return
            self.transport.write(outcome.data)
            if self.transport.is_closing():
                return
            outcome = handshake.feed(b"")
        if self._door.draining and handshake.idle:
            self.transport.close()
        else:
            self._rest(resting=handshake.idle)

    def _upgrade(self, upgrade: Upgrade) -> None:
        door = self._door
        upgrade, refusal = door.admit(upgrade, within_limit=self._within_limit)
        if refusal is not None:
            answer, detail = refusal
            door.log_refusal(upgrade.request.remote, answer, detail)
            self._finish(answer)
            return
        self._timer.cancel()
        self._handshake = None
        door.hand_over(self, upgrade)
        self.settle()
        door.disconnected(self)

    def _rest(self, *, resting: bool) -> None:
        """Start the time for the next request, or for the rest of its head."""
        self._resting = resting
        if resting:
            self.settle()
            self._within_limit = True
        self._timer.cancel()
        limits = self._door.limits
        self._timer = self._door.loop.call_later(
            limits.keep_alive_s if resting else limits.head_timeout_s, self._timed_out
        )

    def _timed_out(self) -> None:
        if self._resting:
            self.transport.close()
        else:
            self._door.log_refusal(self._remote, HEAD_LATE, "its time is up")
            self._finish(HEAD_LATE)

    def _finish(self, answer: Answer) -> None:
        """Send the last answer, and let the peer read it: a close with unread bytes resets the connection instead."""
        self._handshake = None
        self.settle()
        self._timer.cancel()
        transport = self.transport
        if transport.is_closing():
            return
        transport.write(answer.data)
        if not transport.can_write_eof():
            transport.close()  # TLS: waits for the peer to say goodbye, too.
        else:
            try:
                transport.write_eof()
            except OSError:  # The peer has reset the connection.
                transport.abort()
                return
        self._timer = self._door.loop.call_later(self._door.limits.linger_s, transport.abort)
