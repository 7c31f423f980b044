"""The hand-over: from an accepted upgrade request to a conversation on our own transport."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from se_server.conversation._listener import Connection
from se_server.conversation.ending import log_end
from se_server.conversation.handlers import Handlers
from se_server.conversation.session import SpeechEngineSession
from se_server.conversation.settings import SessionSettings
from se_server.types import Request, Stats

LOOKS_PER_INTERVAL = 4


class KeepAlive:
    """Looks at every connection of a loop four times an interval, so that none needs a timer or reads a clock."""

    def __init__(self, loop: asyncio.AbstractEventLoop, interval_s: float) -> None:
        self._loop = loop
        self._key = loop, interval_s
        self._pause_s = interval_s / LOOKS_PER_INTERVAL
        self._connections: set[Connection] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, connection: Connection) -> None:
        """Look after a connection until `discard`."""
        self._connections.add(connection)
        if self._timer is None:
            self._timer = self._loop.call_later(self._pause_s, self._look)

    def discard(self, connection: Connection) -> None:
        """Forget a connection; the last one takes the timer with it."""
        self._connections.discard(connection)
        if not self._connections and self._timer is not None:
            self._timer.cancel()
            del _keep_alives[self._key]

    def _look(self) -> None:
        self._timer = self._loop.call_later(self._pause_s, self._look)
        for connection in tuple(self._connections):
            connection.look()


_keep_alives: dict[tuple[asyncio.AbstractEventLoop, float], KeepAlive] = {}


def serve_connection(
    loop: asyncio.AbstractEventLoop,
    transport: asyncio.Transport,
    websocket_key: bytes,
    tail: bytes,
    request: Request,
    handlers: Handlers,
    settings: SessionSettings,
    stats: Stats,
    on_end: Callable[[SpeechEngineSession], None],
) -> SpeechEngineSession:
    """Take over the transport of an accepted upgrade request and serve its conversation.

    Args:
        websocket_key: the request's `Sec-WebSocket-Key`; the 101 answer is sent here.
        tail: what came behind the request's head.
        on_end: called once, when the last handler has ended and the socket is gone.
    """
    key = loop, settings.ping_interval_s
    keep_alive = _keep_alives.get(key)
    if keep_alive is None:
        keep_alive = _keep_alives[key] = KeepAlive(*key)
    parts_left = 2

    def part_ended() -> None:
        nonlocal parts_left
        parts_left -= 1
        if not parts_left:
            log_end(session)
            on_end(session)

    def gone() -> None:
        keep_alive.discard(connection)
        part_ended()

    connection = Connection(loop, transport, settings, gone)
    session = SpeechEngineSession._over(connection, request, handlers, settings, stats)
    session._on_ended = part_ended
    keep_alive.add(connection)
    connection.start(session, websocket_key, tail)
    return session
