"""HTTP on an accepted connection: plain requests are answered until an upgrade is admitted."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Protocol

from se_server.conversation.deadlines import LAST_LOOK_S
from se_server.conversation.host import Host
from se_server.server.door.handshake import Handshake
from se_server.server.door.limits import Limits
from se_server.server.door.pacer import MAX_WAITING_BYTES, Pacer
from se_server.server.door.place import Place
from se_server.server.door.responses import HEAD_LATE, Response
from se_server.server.door.tls_handshake import MIN_LEFT_S, FirstBytes
from se_server.server.door.upgrades import Upgrade
from se_server.types import Headers

MAX_LOGGED_PATH = 100


class ConnectionOwner(Protocol):
    """The door, as far as its connections see it."""

    loop: asyncio.AbstractEventLoop
    host: Host
    limits: Limits
    pacer: Pacer
    resting: dict[HttpConnection, None]

    @property
    def draining(self) -> bool:
        """Whether the door accepts no more connections."""

    def obstacle(self) -> str:
        """Return the key of `AVAILABILITY` for a check."""

    def connected(self, connection: HttpConnection) -> bool:
        """Add a connection that has its transport; False tells it to close at once."""

    def handshake_ended(self) -> None:
        """Count one pending handshake less."""

    def disconnected(self, connection: HttpConnection) -> None:
        """Remove a connection that is closed or has become a conversation."""

    def admit(
        self, place: Place, upgrade: Upgrade, *, within_limit: bool
    ) -> tuple[Upgrade, tuple[Response, str] | None]:
        """Return the upgrade with its client's address and, if it is refused, the response and the reason to log."""

    def hand_over(self, connection: HttpConnection, upgrade: Upgrade) -> None:
        """Turn an admitted connection into a conversation."""

    def refuse(self, place: Place, remote: str, response: Response, detail: str, headers: Headers = ...) -> Response:
        """Log a refused request of a peer, and return the response to it."""


class HttpConnection(asyncio.Protocol):
    """A connection that is not a conversation yet.

    Args:
        door: the owner, which admits the upgrade and takes the connection over.
        place: the place at which it was accepted.
        remote: the peer's address as `host:port`; empty for a Unix socket.
        fd: the descriptor of its socket; -1 with TLS, since a conversation must not write to it directly.
        within_limit: whether the connection is within the limit of pending handshakes; otherwise its upgrade is
            refused.

    Attributes:
        accepted_at: when the connection was accepted, in monotonic seconds.
        protocol: the protocol of the transport, also for the conversation that this connection may become.
        transport: set when the connection is made.
    """

    __slots__ = (
        "_door",
        "_handshake",
        "_head_timeout_s",
        "_left_s",
        "_lingered",
        "_pending",
        "_place",
        "_remote",
        "_resting",
        "_timer",
        "_waiting",
        "_within_limit",
        "accepted_at",
        "fd",
        "protocol",
        "transport",
    )

    def __init__(self, door: ConnectionOwner, place: Place, remote: str, fd: int, within_limit: bool = True) -> None:
        self._door = door
        self._place = place
        self.fd = fd
        self.accepted_at = time.monotonic()
        self.protocol = door.host.protocol(self)
        self._head_timeout_s = door.limits.head_timeout_s
        self._remote = remote
        self._within_limit = within_limit
        self._pending = True  # the first request has not arrived
        self._handshake: Handshake | None = None  # None before the transport is made and after the last response
        self._resting = False  # between two requests
        self._lingered = 0
        self._waiting = 0  # pieces that wait for their turn
        self._left_s = 0.0  # of the timer that is stopped meanwhile

    def expect(self, remote: str, head_timeout_s: float) -> None:
        """Set the client's address, known from a PROXY header, and the time left for the first request head."""
        self._remote = remote
        self._head_timeout_s = head_timeout_s

    def end_handshake(self) -> None:
        """Stop counting the connection as a pending handshake. May be called repeatedly."""
        if self._pending:
            self._pending = False
            self._door.handshake_ended()

    def begin(self, transport: Any, first: FirstBytes) -> None:
        """Become the protocol of a transport with TLS, and take what came before."""
        transport.set_protocol(self.protocol)
        self.protocol.connection_made(transport)
        first.hand_over(self.protocol, self.data_received)

    def connection_made(self, transport: Any) -> None:
        self.transport: asyncio.Transport = transport
        door = self._door
        self._handshake = Handshake(self._place.routes, door.limits, self._remote, door.obstacle)
        self._timer = door.loop.call_later(self._head_timeout_s, self._timed_out)
        if not door.connected(self):
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        self._handshake = None
        self._door.resting.pop(self, None)
        if not self._door.pacer.do(self._leave, b""):
            self._door.pacer.defer(self._leave, b"")  # thousands may leave in one step

    def _leave(self, _: bytes) -> None:
        self.end_handshake()
        self._door.disconnected(self)

    def abort(self) -> None:
        """Drop the connection."""
        self.transport.abort()

    def drain(self) -> None:
        """Close the connection if it is idle between two requests; a first request may still come."""
        if self._resting:
            self.transport.close()

    def leave_rest(self) -> None:
        """Close the connection, which is between two requests."""
        self._door.resting.pop(self, None)
        self.transport.close()

    def pause_writing(self) -> None:
        # A peer that sends requests without reading the responses is not a health check.
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._handshake is None:
            self._lingered += len(data)
            if self._lingered > self._door.limits.max_linger_bytes:
                self.transport.abort()
            return
        pacer = self._door.pacer
        if not self._waiting and pacer.do(self._take, data):
            return
        if pacer.waiting_bytes > MAX_WAITING_BYTES:
            self.transport.abort()
            return
        if not self._waiting:
            self.transport.pause_reading()
            self._timer.cancel()
            self._left_s = max(MIN_LEFT_S, self._timer.when() - self._door.loop.time())
        self._waiting += 1
        pacer.defer(self._take_in_turn, data)

    def _take_in_turn(self, data: bytes) -> None:
        if self._handshake is None or self.transport.is_closing():
            return
        self._waiting -= 1
        if not self._waiting:
            self._timer = self._door.loop.call_later(self._left_s, self._timed_out)
            self.transport.resume_reading()
        self._take(data)

    def _take(self, data: bytes) -> None:
        handshake = self._handshake
        assert handshake is not None
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
                path = f"path {handshake.path[:MAX_LOGGED_PATH]!r}"
                outcome = self._door.refuse(self._place, self._remote, outcome, path, handshake.headers)
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
        upgrade, refusal = door.admit(self._place, upgrade, within_limit=self._within_limit)
        if refusal is not None:
            response, detail = refusal
            if upgrade.route.name:
                detail = f"route {upgrade.route.name!r}, {detail}"
            self._finish(door.refuse(self._place, self._remote, response, detail, upgrade.request.headers))
            return
        self._timer.cancel()
        self._handshake = None
        door.resting.pop(self, None)
        door.hand_over(self, upgrade)
        self.end_handshake()
        door.disconnected(self)

    def _rest(self, *, resting: bool) -> None:
        """Start the timer of the next request, or of the rest of its head."""
        limits, others = self._door.limits, self._door.resting
        self._resting = resting
        others.pop(self, None)
        if resting:
            self.end_handshake()
            self._within_limit = True
            others[self] = None
            if len(others) > limits.max_resting:
                next(iter(others)).leave_rest()
        self._timer.cancel()
        self._timer = self._door.loop.call_later(
            limits.keep_alive_s if resting else limits.head_timeout_s, self._timed_out
        )

    def _timed_out(self) -> None:
        # Time in which code blocked the loop is not the peer's: a whole request may wait in the socket.
        late_s = self._door.loop.time() - self._timer.when()
        self._timer = self._door.loop.call_later(max(late_s, LAST_LOOK_S), self._expire)

    def _expire(self) -> None:
        if self._resting:
            self.transport.close()
        else:
            self._finish(self._door.refuse(self._place, self._remote, HEAD_LATE, "its time is up"))

    def _finish(self, response: Response) -> None:
        """Send the last response and linger: a close with unread bytes would reset the connection."""
        self._handshake = None
        self._door.resting.pop(self, None)
        self.end_handshake()
        self._timer.cancel()
        transport = self.transport
        if transport.is_closing():
            return
        transport.write(response.data)
        if not transport.can_write_eof():
            transport.close()  # TLS waits for the peer's close_notify
        else:
            try:
                transport.write_eof()
            except OSError:  # the peer has reset the connection
                transport.abort()
                return
        self._timer = self._door.loop.call_later(self._door.limits.linger_s, transport.abort)
