"""A connection without a socket: a `Link` at the API's end, an `Adapter` at the server's."""

from __future__ import annotations

import asyncio
from collections import deque

from se_server.conversation.adapter import Adapter
from se_server.conversation.settings import SessionSettings
from se_server.simulator.connection import LinkEvents
from se_server.types import Request


class LinkEnd(Adapter):
    """The server's end: the session reads and writes it, with the limits of a WebSocket library's connection."""

    def __init__(self, link: InProcessLink, request: Request, settings: SessionSettings) -> None:
        super().__init__(link, settings)
        self._link = link
        self._request = request
        self.bind(asyncio.get_running_loop())

    def finish(self) -> None:
        """Close the connection: no application has it."""
        self.close(1000, "")

    async def _receive(self) -> str | bytes | None:
        return await self._link.next_message()

    async def _send(self, message: str) -> None:
        self._link.deliver(message)
        # The user may speak between any two messages, even between those of one write.
        await asyncio.sleep(0)

    async def _close(self, code: int, reason: str) -> None:
        self._link.end(code, reason, is_clean=True)

    @property
    def request(self) -> Request:
        """The upgrade request that the test configured."""
        return self._request


class InProcessLink:
    """The API's end of a connection. Messages keep their order, are never lost, and take no time.

    There are no bytes on a wire: the habits that fragment frames or read slowly have no effect.

    Args:
        events: receives the link's events, on the loop.
        keep_alive_s: the server's ping interval on a quiet connection, in seconds; None never pings.
    """

    def __init__(self, events: LinkEvents, keep_alive_s: float | None) -> None:
        self._events = events
        self._loop = asyncio.get_running_loop()
        self._messages: deque[str | bytes] = deque()
        self._reader: asyncio.Future[None] | None = None
        self._close_code: int | None = None  # the code of the API's CLOSE
        self._is_broken = False
        self._is_over = False
        self._keep_alive_s = keep_alive_s
        self._ping_timer: asyncio.TimerHandle | None = None
        self._set_ping_timer()

    # --- the API's end ----------------------------------------------------------------------------------------------

    def send(self, message: str | bytes, *, is_joined: bool = False) -> None:
        """See `Link`; the session reads all messages that are there in one step."""
        if not self._is_over and self._close_code is None:
            self._messages.append(message)
            self._wake()

    def close(self, code: int) -> None:
        """See `Link`."""
        self._close_code = code
        self._wake()

    def drop(self) -> None:
        """See `Link`."""
        self._is_broken = True
        self._wake()
        self._loop.call_soon(self.end, None, "")

    def reset(self) -> None:
        """See `Link`; unread messages are lost with the connection."""
        self._messages.clear()
        self.drop()

    # --- the server's end -------------------------------------------------------------------------------------------

    async def next_message(self) -> str | bytes | None:
        """Wait for the next message; None at the end of the connection."""
        while not self._messages:
            if self._is_broken or self._is_over:
                return None
            if self._close_code is not None:
                self._loop.call_soon(self._answer_close)
                return None
            self._reader = self._loop.create_future()
            await self._reader
        return self._messages.popleft()

    def deliver(self, message: str) -> None:
        """Deliver a message of the server to the API.

        Raises:
            ConnectionResetError: the connection has ended.
        """
        if self._is_broken or self._is_over:
            raise ConnectionResetError("the caller's connection has ended")
        self._events.received(message)

    def end(self, code: int | None, reason: str, is_clean: bool = False) -> None:
        """Report the end of the connection to the API, once."""
        if not self._is_over:
            self._is_over = True
            self._wake()
            if self._ping_timer is not None:
                self._ping_timer.cancel()
            self._events.gone(code, reason, is_clean=is_clean)

    # --- parts ------------------------------------------------------------------------------------------------------

    def _answer_close(self) -> None:
        self.end(self._close_code, "", is_clean=True)

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _set_ping_timer(self) -> None:
        if self._keep_alive_s is not None:
            self._ping_timer = self._loop.call_later(self._keep_alive_s, self._ping)

    def _ping(self) -> None:
        self._events.traffic("ping")
        self._set_ping_timer()
