"""The hand-over: from an accepted upgrade request to a conversation on our own transport."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from se_server.conversation._listener import Connection, FrameGate, Shared
from se_server.conversation.deadlines import Deadlines
from se_server.conversation.ending import log_end
from se_server.conversation.handlers import Handlers
from se_server.conversation.session import SpeechEngineSession
from se_server.conversation.settings import SessionSettings
from se_server.types import Request, Stats

LOOKS_PER_INTERVAL = 4
MAX_GROUPS = 64
MIN_PAUSE_S = 0.05  # as the heartbeat's


class KeepAlive:
    """Looks at every connection four times an interval, so that none needs a timer or reads a clock.

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
        """Give the timer up."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = self._loop.call_later(self._pause_s, self._look) if any(self._groups) else None
        group = self._groups[self._next]
        self._next = (self._next + 1) % len(self._groups)
        for connection in tuple(group):
            connection.look()


class Host:
    """Serves the conversations of one door, and has what they have in common.

    Args:
        loop: the running loop.
        handlers: the user's callbacks.
        settings: limits and times of the sessions.
        stats: where the sessions count.
        on_end: called once with each session, when its last handler has ended and its socket is gone.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        handlers: Handlers,
        settings: SessionSettings,
        stats: Stats,
        on_end: Callable[[SpeechEngineSession], None],
    ) -> None:
        self._handlers = handlers
        self._settings = settings
        self._stats = stats
        self._on_end = on_end
        self._keep_alive = KeepAlive(loop, settings.ping_interval_s)
        self._silent = Deadlines(loop, settings.first_message_timeout_s, Connection.miss_message)
        self._unanswered = Deadlines(loop, settings.ping_timeout_s, Connection.miss_pong)
        self._shared = Shared(loop, settings, self._silent, self._unanswered, self._gone)
        self._over = self._session_over  # one bound method for all sessions

    def protocol(self, http: asyncio.Protocol) -> FrameGate:
        """Make the protocol of an accepted socket; `http` speaks until `serve`."""
        return FrameGate(self._shared, http)

    def serve(
        self,
        protocol: FrameGate,
        transport: asyncio.Transport,
        fd: int,
        websocket_key: bytes,
        tail: bytes,
        request: Request,
    ) -> SpeechEngineSession:
        """Take over the transport of an accepted upgrade request and serve its conversation.

        Args:
            protocol: the transport's, made by `protocol`.
            fd: of its socket; -1 if what is written has to go through the transport, as with TLS.
            websocket_key: the request's `Sec-WebSocket-Key`; the 101 answer is sent here.
            tail: what came behind the request's head.
        """
        connection = Connection(self._shared, protocol, transport, fd)
        session = SpeechEngineSession._over(connection, request, self._handlers, self._settings, self._stats)
        session._on_ended = self._over
        self._keep_alive.add(connection)
        connection.start(session, websocket_key, tail)
        return session

    def close(self) -> None:
        """Give the timers up; called when there are no conversations any more, or none that are waited for."""
        self._keep_alive.close()
        self._silent.close()
        self._unanswered.close()

    # A conversation has ended when both have come, in any order.

    def _gone(self, connection: Connection, session: SpeechEngineSession) -> None:
        self._keep_alive.discard(connection)
        if session._lane.is_over:
            self._ended(session)

    def _session_over(self, session: SpeechEngineSession) -> None:
        connection = session._transport
        assert isinstance(connection, Connection)
        if connection.is_gone:
            self._ended(session)

    def _ended(self, session: SpeechEngineSession) -> None:
        log_end(session)
        self._on_end(session)
