"""The door: accepts connections, answers plain requests, and hands admitted upgrades over to conversations.

A connection is an `HttpConnection` until its upgrade is admitted. Then the conversation replaces it as the protocol of
the transport.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from ssl import SSLError
from typing import Any
from weakref import WeakSet

from se_server.conversation.host import Host
from se_server.conversation.session import SpeechEngineSession
from se_server.server.door.acceptor import Acceptor, address_text
from se_server.server.door.admission import DRAINING, MAX_PENDING_HANDSHAKES, MAX_SESSIONS, Admission, Capacity
from se_server.server.door.failures import COUNTED, FailureLimit
from se_server.server.door.http_connection import HttpConnection
from se_server.server.door.leaving import CLOSE_GRACE_S, Leaving
from se_server.server.door.limits import Limits
from se_server.server.door.pacer import Pacer
from se_server.server.door.place import Place
from se_server.server.door.placement import Placement
from se_server.server.door.proxy_header import ProxyRefused, read_proxy_header
from se_server.server.door.refusals import RefusalLog
from se_server.server.door.responses import FAILED_TOO_OFTEN, SATURATED, Response
from se_server.server.door.route_table import DoorRoute
from se_server.server.door.tls_handshake import establish_tls
from se_server.server.door.tls_tap import RecordWatch
from se_server.server.door.upgrades import Upgrade
from se_server.server.listen.unread import limit_unread
from se_server.server.shared.lifecycle import Lifecycle
from se_server.server.shared.route_rows import RouteSeats
from se_server.server.shared.scoreboard import Slot
from se_server.types import Headers, Stats

NO_HEADERS = Headers()


class Door:
    """Accepts connections from listen sockets and serves the conversations that they become.

    Args:
        places: the addresses to listen at, at least one; `drain` and `close` close their sockets.
        stats: the counters of the sessions.
        capacity: limits beyond which new conversations are refused.
        lifecycle: times and texts of a drain.
        limits: limits of a peer before it has a conversation.
        slot: the worker's slot on the scoreboard, by which workers share connections and limits; None in a process
            that serves alone.

    Attributes:
        sessions: the live ones; each leaves when its last handler has ended and its socket is gone.
        connections: the connections with a transport that are not conversations yet.
        establishing: the accepted sockets without a transport yet, by the task that reads their PROXY header and does
            their TLS handshake.
    """

    def __init__(
        self,
        places: Sequence[Place],
        stats: Stats,
        *,
        capacity: Capacity | None = None,
        lifecycle: Lifecycle | None = None,
        limits: Limits | None = None,
        slot: Slot | None = None,
    ) -> None:
        self.sessions: set[SpeechEngineSession] = set()
        self.limits = limits or Limits()
        self._places = list(places)
        self._place_of = {sock: place for place in places for sock in place.listen_sockets}
        self._listen_sockets = list(self._place_of)
        self._stats = stats
        self._slot = slot
        self._leaving = Leaving(self.sessions, lifecycle or Lifecycle())
        self._admission = Admission(capacity or Capacity(), stats, slot)
        self._tls = {place: _tls_arguments(place) for place in places}
        self.establishing: dict[asyncio.Task[Any], tuple[socket.socket, HttpConnection]] = {}
        self.connections: set[HttpConnection] = set()
        self.resting: dict[HttpConnection, None] = {}
        self._tls_sockets: WeakSet[socket.socket] = WeakSet()
        self._seats: dict[SpeechEngineSession, RouteSeats] = {}
        self._draining = False
        self._dropping = False  # the connections that are not conversations yet

    def open(self) -> None:
        """Start to accept on the running event loop."""
        self.loop = asyncio.get_running_loop()
        self.pacer = Pacer(self.loop)
        limited = [(place, place.access.max_failed_handshakes_per_s) for place in self._places]
        self._failures = {place: FailureLimit(per_s, self.loop.time) for place, per_s in limited if per_s is not None}
        routes = [route for place in self._places for route in place.routes]
        self.host = Host(self.loop, routes, self._stats, self._session_ended)
        self._refusals = RefusalLog(self.loop.time, self._stats.meters.refused)
        placement = None if self._slot is None else Placement(self._slot, self._admission.show)
        self._acceptor = Acceptor(
            self.loop, self._listen_sockets, self._accepted, self._refusals, self._slot, placement
        )
        all_settings = [route.settings for route in routes]
        limit_unread(self._listen_sockets, [max(each.write_timeout_s, each.ping_timeout_s) for each in all_settings])
        self._record_work = max(each.max_work_per_s for each in all_settings)
        self._acceptor.open()

    def stop_accepting(self) -> None:
        """Leave new connections in the queue of the listen sockets, to other workers that share them."""
        self._acceptor.stop()

    async def drain(self, timeout_s: float) -> None:
        """Stop accepting connections, and wait for the conversations to end; end the others after the timeout.

        Connections that were accepted before may still become conversations, with the usual time for their request.
        After the timeout no new turn is answered, but a running answer may go on for the grace of the `lifecycle`.
        Returns when no conversation is left, at most 6 s after the grace: close handshakes get 5 s, user code 1 s.

        Args:
            timeout_s: the seconds that conversations may go on.
        """
        self._refuse_new()
        if not await self._leaving.wait_quiet(timeout_s):
            self._drop_pending()
            await self._leaving.let_answers_end()
            await self._leaving.end_sessions()

    async def close(self) -> None:
        """End every conversation now with code 1001, as after the timeout of a drain."""
        self._refuse_new()
        self._drop_pending()
        await self._leaving.end_sessions()
        self.host.close()
        self._refusals.flush()

    def descriptors(self) -> Iterator[int]:
        """Return the descriptors of the open sockets: listen sockets, connections and conversations."""
        for sock in (*self._listen_sockets, *self._tls_sockets, *(sock for sock, _ in self.establishing.values())):
            yield sock.fileno()
        for connection in self.connections:
            yield connection.fd
        for session in self.sessions:
            if (fd := session._fd()) >= 0:
                yield fd

    # --- accepting ---

    def _accepted(self, accepted: socket.socket, address: Any, listen_socket: socket.socket) -> None:
        remote = address_text(address)
        place = self._place_of[listen_socket]
        tls = self._tls[place]
        if tls and accepted.family == socket.AF_UNIX:
            tls = {}
        within_limit = self._admission.handshake_began()
        if tls and not within_limit:  # a response would need the TLS handshake that is too much work
            accepted.close()
            self._admission.handshake_ended()
            self.refuse(place, remote, SATURATED[MAX_PENDING_HANDSHAKES], "closed without a TLS handshake")
            return
        if tls:
            self._tls_sockets.add(accepted)
        connection = HttpConnection(self, place, remote, -1 if tls else accepted.fileno(), within_limit)
        task: asyncio.Task[Any]
        if tls or place.access.proxy_protocol:
            task = self.loop.create_task(self._establish(accepted, connection, place, remote, tls))
        else:
            task = self.loop.create_task(self.loop.connect_accepted_socket(lambda: connection.protocol, accepted))
        # The dict keeps the task alive: the loop holds only weak references.
        self.establishing[task] = accepted, connection
        task.add_done_callback(self._established)

    async def _establish(
        self, accepted: socket.socket, connection: HttpConnection, place: Place, remote: str, tls: dict[str, Any]
    ) -> None:
        left_s = self.limits.head_timeout_s
        access = place.access
        try:
            if access.proxy_protocol:
                # The header uses up a part of the time for the next step: the request head or the TLS handshake.
                due = self.loop.time() + left_s
                remote = await read_proxy_header(self.loop, self.pacer, accepted, remote, access, left_s)
                left_s = max(0.001, due - self.loop.time())
                await self.pacer.turn()  # several may have come in one step, unlike accepted sockets
            connection.expect(remote, self.limits.head_timeout_s if tls else left_s)
            if tls:
                watch = RecordWatch(
                    self.loop,
                    self._record_work,
                    lambda: self._refusals.add("a flood of TLS records", remote or "a peer"),
                )
                transport, first = await establish_tls(self.loop, accepted, self.pacer, left_s, tls, watch)
                connection.begin(transport, first)
            else:
                await self.loop.connect_accepted_socket(lambda: connection.protocol, accepted)
        except ProxyRefused as refused:
            self._refusals.add("no PROXY header", f"{remote or 'a peer'} ({refused})")
            raise
        except OSError as error:
            # A reset during TLS is not logged: health checks of load balancers end like this.
            if tls and not isinstance(error, ConnectionResetError):
                why = error.reason if isinstance(error, SSLError) else str(error)
                self._refusals.add("no TLS handshake", f"{remote or 'a peer'} ({why})")
                if place in self._failures:
                    self._failures[place].fail(access.client_of(remote, NO_HEADERS))
            raise

    def _established(self, task: asyncio.Task[Any]) -> None:
        accepted, connection = self.establishing.pop(task)
        error = None if task.cancelled() else task.exception()
        if task.cancelled() or error is not None:
            accepted.close()
            connection.end_handshake()
        if self._draining:
            self._note_quiet()
        if error is not None and not isinstance(error, (OSError, ProxyRefused)):
            raise error

    # --- admission and hand-over ---

    def admit(
        self, place: Place, upgrade: Upgrade, *, within_limit: bool
    ) -> tuple[Upgrade, tuple[Response, str] | None]:
        """Return the upgrade with its client's address and, if it is refused, the response and the reason to log.

        Args:
            place: the place at which the connection was accepted.
            within_limit: whether the connection was within the limit of pending handshakes.
        """
        limit = self._admission.claim() if within_limit else MAX_PENDING_HANDSHAKES
        if limit:
            return upgrade, (SATURATED[limit], "it may try again")
        route = upgrade.route
        assert isinstance(route, DoorRoute)
        upgrade, refusal = (route.access or place.access).check(upgrade)
        if refusal is None and route.seats is not None and not route.seats.claim():
            refusal = (SATURATED[MAX_SESSIONS], "its own limit; it may try again")
        if refusal is not None:
            self._show_sessions()  # releases the seat
        return upgrade, refusal

    def hand_over(self, connection: HttpConnection, upgrade: Upgrade) -> None:
        """Turn an admitted connection into a conversation, which takes the transport over."""
        session = self.host.serve(
            connection.protocol,
            connection.transport,
            connection.fd,
            upgrade.route,
            upgrade.websocket_key,
            upgrade.tail,
            upgrade.request,
        )
        self._stats.meters.handshake_ended(time.monotonic() - connection.accepted_at)
        # The session cannot have ended yet: its end comes from callbacks of the loop.
        self.sessions.add(session)
        route = upgrade.route
        if isinstance(route, DoorRoute) and route.seats is not None:
            self._seats[session] = route.seats
        self._show_sessions()

    def refuse(
        self, place: Place, remote: str, response: Response, detail: str, headers: Headers = NO_HEADERS
    ) -> Response:
        """Return the response to a refused request: another one if its client has failed too often.

        The refusal is logged, at most once a second for each reason. The client's address is looked for only then, or
        if there is a limit of failures.

        Args:
            place: the place at which the connection was accepted.
            remote: the peer's address.
            headers: the request's.
        """
        limit = self._failures.get(place)
        if (
            limit is not None
            and response.status in COUNTED
            and not response.keep_alive
            and limit.fail(place.access.client_of(remote, headers))
        ):
            detail = f"{response.status}, {detail}"
            response = FAILED_TOO_OFTEN
        self._refusals.add(
            response.reason,
            lambda: f"{place.access.described(remote, headers)} was answered {response.status} ({detail})",
        )
        return response

    def obstacle(self) -> str:
        """Return the obstacle to new conversations, a key of `AVAILABILITY`; empty if there is none."""
        if self._draining and self._slot is None:
            return DRAINING
        return self._admission.obstacle()

    # --- connections and sessions ---

    @property
    def draining(self) -> bool:
        """Whether the door has stopped accepting connections for good."""
        return self._draining

    def connected(self, connection: HttpConnection) -> bool:
        """Add a connection that has its transport; return False if it comes too late."""
        self.connections.add(connection)
        return not self._dropping

    def handshake_ended(self) -> None:
        """Count one pending handshake less."""
        self._admission.handshake_ended()

    def disconnected(self, connection: HttpConnection) -> None:
        """Remove a connection that is closed or has become a conversation."""
        self.connections.discard(connection)
        self._note_quiet()

    def _session_ended(self, session: SpeechEngineSession) -> None:
        self.sessions.discard(session)
        seats = self._seats.pop(session, None)
        if seats is not None:
            seats.free()
        self._show_sessions()
        self._note_quiet()

    def _show_sessions(self) -> None:
        self._admission.set_sessions(len(self.sessions))

    def _note_quiet(self) -> None:
        if self._draining and not (self.sessions or self.connections or self.establishing):
            self._leaving.quiet.set()

    def _refuse_new(self) -> None:
        if not self._draining:
            self._draining = True
            self._acceptor.close()
            for sock in self._listen_sockets:
                sock.close()  # Workers that share it keep their own. If none does, peers are refused at once.
            for connection in tuple(self.connections):
                connection.drain()
            self._note_quiet()

    def _drop_pending(self) -> None:
        """Drop the connections that are not conversations yet."""
        if not self._dropping:
            self._dropping = True
            if any(self._tls[place] or place.access.proxy_protocol for place in self._places):
                for task in tuple(self.establishing):
                    task.cancel()  # It may wait for the peer's TLS handshake or PROXY header.
            for connection in tuple(self.connections):
                connection.abort()


def _tls_arguments(place: Place) -> dict[str, Any]:
    """Return the arguments with which asyncio makes a place's TLS transports; none if it speaks no TLS."""
    if place.ssl is None:
        return {}
    arguments: dict[str, Any] = {"sslcontext": place.ssl}
    if sys.version_info >= (3, 11):
        arguments["ssl_shutdown_timeout"] = CLOSE_GRACE_S
    return arguments
