"""Makes a conversation on our own transport of an accepted upgrade request."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from se_server.conversation._listener import Connection, FrameGate, Shared
from se_server.conversation._recorded import RecordedConnection
from se_server.conversation.deadlines import Deadlines
from se_server.conversation.ending import log_end
from se_server.conversation.handlers import NO_HANDLERS
from se_server.conversation.recording import describe_upgrade
from se_server.conversation.route import Route
from se_server.conversation.served import ServedWebSocket
from se_server.conversation.session import SpeechEngineSession
from se_server.protocol import close_codes
from se_server.telemetry._tape import OPEN
from se_server.types import Request, Stats

log = logging.getLogger("se_server.session")

LOOKS_PER_INTERVAL = 4
MAX_GROUPS = 64
MIN_PAUSE_S = 0.05  # as the heartbeat's


class KeepAlive:
    """Checks every connection four times an interval, so that none needs a timer or reads a clock.

    It goes from group to group, all of them in a quarter of the interval: to ping 10,000 quiet connections at once
    would hold the loop for a tenth of a second.

    Args:
        loop: the loop of the connections.
        interval_s: a connection that was quiet for so long, or three quarters of it, gets a ping.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, interval_s: float) -> None:
        self._loop = loop
        quarter_s = interval_s / LOOKS_PER_INTERVAL
        count = max(1, min(MAX_GROUPS, int(quarter_s / MIN_PAUSE_S)))
        self._pause_s = quarter_s / count
        self._groups: list[set[Connection]] = [set() for _ in range(count)]
        self._newest = 0  # the group that the last connection came to
        self._next = 0
        self._timer: asyncio.TimerHandle | None = None

    def add(self, connection: Connection) -> None:
        """Look after a connection until `discard`."""
        connection.group = self._newest = (self._newest + 1) % len(self._groups)
        self._groups[connection.group].add(connection)
        if self._timer is None:
            self._timer = self._loop.call_later(self._pause_s, self._look)

    def discard(self, connection: Connection) -> None:
        """Forget a connection."""
        self._groups[connection.group].discard(connection)

    def close(self) -> None:
        """Cancel the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = self._loop.call_later(self._pause_s, self._look) if any(self._groups) else None
        group = self._groups[self._next]
        self._next = (self._next + 1) % len(self._groups)
        for connection in tuple(group):
            connection.look()


class _Group:
    """The conversations of one route, and their timers.

    Args:
        on_end: called once with each session, when its last handler has ended and its socket is gone.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        route: Route,
        stats: Stats,
        on_end: Callable[[SpeechEngineSession], None],
    ) -> None:
        settings = route.settings
        self._loop = loop
        self._handlers = route.handlers
        self._settings = settings
        self._stats = stats
        self._on_end = on_end
        self._records = stats.ring is not None and stats.ring.tape is not None
        self._keep_alive = KeepAlive(loop, settings.ping_interval_s)
        self._silent = Deadlines(loop, settings.first_message_timeout_s, Connection.miss_message)
        self._unanswered = Deadlines(loop, settings.ping_timeout_s, Connection.miss_pong)
        self.shared = Shared(loop, settings, self._silent, self._unanswered, self._gone)
        self._over = self._session_over  # one bound method for all sessions
        self._connect = route.connect
        self._connections: dict[SpeechEngineSession, Connection] = {}  # of sessions that read a wrapper of theirs
        self._runs: set[asyncio.Task[None]] = set()

    def serve(self, connection: Connection, websocket_key: bytes, tail: bytes, request: Request) -> SpeechEngineSession:
        """Start the conversation of a connection; see `Host.serve`."""
        if self._connect is not None:
            return self._serve_own(self._connect, connection, websocket_key, tail, request)
        session = SpeechEngineSession._over(connection, request, self._handlers, self._settings, self._stats)
        session._on_ended = self._over
        self._keep_alive.add(connection)
        if self._records:
            self._record(connection, session)
        connection.start(session, websocket_key, tail)
        return session

    def _record(self, connection: Connection, session: SpeechEngineSession) -> None:
        ring = session._ring
        if isinstance(connection, RecordedConnection) and ring is not None and ring.tape is not None:
            now = session._clock.now()
            ring.tape.note(OPEN, session._number, describe_upgrade(session._request), now)
            connection.record(ring.tape, session._number, session._clock)

    def _serve_own(
        self,
        connect: Callable[[ServedWebSocket], SpeechEngineSession],
        connection: Connection,
        websocket_key: bytes,
        tail: bytes,
        request: Request,
    ) -> SpeechEngineSession:
        """Start a conversation whose session the program makes."""
        ws = ServedWebSocket(connection, request, self._settings, self._stats)
        failed = False
        try:
            session = connect(ws)
            if not isinstance(session, SpeechEngineSession):
                raise TypeError(f"handle_connection returned {type(session).__name__}, not a SpeechEngineSession")
        except Exception:
            log.exception("handle_connection failed; its connection is closed with code 1011")
            session = SpeechEngineSession._over(connection, request, NO_HANDLERS, self._settings, self._stats)
            failed = True
        session._on_ended = self._over
        self._keep_alive.add(connection)
        self._record(connection, session)
        transport: object = session._transport
        if transport is connection:
            connection.start(session, websocket_key, tail)
        else:  # the program wrapped the WebSocket, and its session reads the wrapper
            self._connections[session] = connection
            ws.session = session
            connection.on_raw = ws.take
            connection.start(ws, websocket_key, tail)
        if failed:
            session._shutdown(close_codes.INTERNAL_ERROR, "")
        else:
            task = self._loop.create_task(self._run(session, connection))
            self._runs.add(task)
            task.add_done_callback(self._runs.discard)
        return session

    async def _run(self, session: SpeechEngineSession, connection: Connection) -> None:
        """Await a session's `run`, which the program may have overridden; its end is the conversation's."""
        code = close_codes.NORMAL
        try:
            await session.run()
        except Exception:
            log.exception("conversation %s: run() failed", session.conversation_id)
            code = close_codes.INTERNAL_ERROR
        finally:
            if session.is_open:
                session._join_loop(self._loop)
                session._shutdown(code, "")
            connection.close(code, "")

    def close(self) -> None:
        """Cancel the timers."""
        self._keep_alive.close()
        self._silent.close()
        self._unanswered.close()

    # A conversation has ended when both have come, in any order.

    def _gone(self, connection: Connection, session: SpeechEngineSession | ServedWebSocket) -> None:
        self._keep_alive.discard(connection)
        if isinstance(session, ServedWebSocket):
            assert isinstance(session.session, SpeechEngineSession)
            session = session.session
        if session._lane is not None and session._lane.is_over:
            self._ended(session)

    def _session_over(self, session: SpeechEngineSession) -> None:
        connection = self._connections.get(session, session._transport)
        assert isinstance(connection, Connection)
        if connection.is_gone:
            self._ended(session)

    def _ended(self, session: SpeechEngineSession) -> None:
        if self._connections.pop(session, None) is None:  # else its own `run` has logged it
            log_end(session)
        self._on_end(session)


class Host:
    """Serves the conversations of one door, and holds the state that they share.

    Args:
        loop: the running loop.
        routes: the routes that conversations may come by, at least one.
        stats: the counters of the sessions.
        on_end: called once with each session, when its last handler has ended and its socket is gone.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        routes: Iterable[Route],
        stats: Stats,
        on_end: Callable[[SpeechEngineSession], None],
    ) -> None:
        self._loop = loop
        self._stats = stats
        self._on_end = on_end
        # Until the upgrade the route is unknown, and a gate uses only the part that does not depend on it. The groups
        # of other routes are made when they are needed: a thousand of them take 10 MB.
        first = next(iter(routes))
        self._groups = {first: self._group_of(first)}
        self._shared = self._groups[first].shared
        self._connection = Connection if stats.ring is None or stats.ring.tape is None else RecordedConnection

    def _group_of(self, route: Route) -> _Group:
        return _Group(self._loop, route, route.stats or self._stats, self._on_end)

    def protocol(self, http: asyncio.Protocol) -> FrameGate:
        """Make the protocol of an accepted socket; `http` receives its data until `serve`."""
        return FrameGate(self._shared, http)

    def serve(
        self,
        protocol: FrameGate,
        transport: asyncio.Transport,
        fd: int,
        route: Route,
        websocket_key: bytes,
        tail: bytes,
        request: Request,
    ) -> SpeechEngineSession:
        """Take over the transport of an accepted upgrade request and serve its conversation.

        Args:
            protocol: the transport's, made by `protocol`.
            fd: the descriptor of its socket; -1 if writes have to go through the transport, as with TLS.
            route: the route of the request's path.
            websocket_key: the request's `Sec-WebSocket-Key`; the 101 response is sent here.
            tail: bytes that followed the request's head.
        """
        group = self._groups.get(route)
        if group is None:
            group = self._groups[route] = self._group_of(route)
        return group.serve(self._connection(group.shared, protocol, transport, fd), websocket_key, tail, request)

    def close(self) -> None:
        """Cancel the timers; called when no conversation is left, or the rest is not waited for."""
        for group in self._groups.values():
            group.close()
