"""A connection of our own server as a WebSocket, for programs that override `handle_connection`."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from se_server.conversation.settings import SessionSettings
from se_server.errors import MessageError
from se_server.types import Headers, Request, Stats

if TYPE_CHECKING:
    from se_server.conversation._listener import Connection
    from se_server.conversation.core import SessionCore


class UpgradeRequest:
    """The upgrade request of a `ServedWebSocket`, by the names of the `websockets` package.

    Attributes:
        path: the path with its query.
        headers: the headers; names match in any case.
    """

    def __init__(self, request: Request) -> None:
        self.path = f"{request.path}?{request.query}" if request.query else request.path
        self.headers: Headers = request.headers


class ServedWebSocket:
    """A WebSocket that our own server has accepted: the argument of `handle_connection`.

    A session made of it reads the connection in place, as without an override. An object of the program's own that
    wraps it uses `recv`, `send` and `close`.

    Attributes:
        request: the upgrade request, with `path` and `headers`.
        settings, stats: of the server, for sessions that are made without options of their own.
    """

    def __init__(self, connection: Connection, request: Request, settings: SessionSettings, stats: Stats) -> None:
        self._connection = connection
        self._request = request
        self.settings = settings
        self.stats = stats
        self.request = UpgradeRequest(request)
        self._messages: deque[str | bytes] = deque()
        self._waiting_bytes = 0
        self._reader: asyncio.Future[None] | None = None
        self._is_over = False
        self.session: SessionCore | None = None  # the one that reads this object, or a wrapper of it

    @property
    def remote_address(self) -> tuple[str, int] | None:
        """The host and the port of the peer; None if they are unknown."""
        host, colon, port = self._request.remote.rpartition(":")
        return (host, int(port)) if colon and port.isdigit() else None

    async def recv(self) -> str | bytes:
        """Wait for the next message.

        Raises:
            ConnectionError: the connection has ended.
        """
        while not self._messages:
            if self._is_over:
                raise ConnectionError("the WebSocket is closed")
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        message = self._messages.popleft()
        self._waiting_bytes -= sys.getsizeof(message)
        if self._waiting_bytes <= self.settings.max_message_bytes // 2:
            self._connection.is_full = False
        return message

    async def __aiter__(self) -> AsyncIterator[str | bytes]:
        try:
            while True:
                yield await self.recv()
        except ConnectionError:
            return

    async def send(self, data: str | bytes) -> None:
        """Send a text message, and wait while the peer does not read.

        Raises:
            ConnectionError: the connection has ended.
        """
        outbox = self._connection.outbox
        while not outbox.writable:
            await outbox.room()
        if outbox.closed:
            raise ConnectionError("the WebSocket is closed")
        self._connection.send_text(data.encode() if isinstance(data, str) else bytes(data))
        await outbox.room()

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the WebSocket, and wait until the connection has ended."""
        self._connection.close(code, reason)
        await self._connection.wait_closed()

    # --- the connection's view, in place of a session's, when the program reads the WebSocket itself ---

    def take(self, message: str | bytes) -> None:
        """Keep a message for `recv`; beyond the bytes of one message nothing more is read."""
        self._messages.append(message)
        self._waiting_bytes += sys.getsizeof(message)
        self._connection.is_full = self._waiting_bytes > self.settings.max_message_bytes
        self._wake()

    def receive_error(self, error: MessageError) -> None:
        """Nothing: messages are not decoded here."""

    def connection_lost(self) -> None:
        """End `recv` behind the messages that came."""
        self._is_over = True
        self._wake()

    def write_timed_out(self) -> None:
        """End `recv`: the peer does not read, and the connection is dropped."""
        self.connection_lost()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)
