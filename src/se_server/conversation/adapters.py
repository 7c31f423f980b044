"""Connections that other libraries accepted: `websockets`, Starlette and FastAPI, aiohttp, and lookalikes.

Sessions write synchronously, these libraries by coroutines: a writer task delivers in order and counts what is unsent.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from typing import Any

from se_server.conversation._pump import MessageOutbox, Outbox
from se_server.conversation.core import SessionCore
from se_server.conversation.settings import SessionSettings
from se_server.conversation.streams import within
from se_server.errors import MessageError, UnsupportedWebSocket, WrongThread
from se_server.protocol._wire import History, decode
from se_server.types import NO_REQUEST, Headers, Request

log = logging.getLogger("se_server.session")


class Adapter:
    """A session's connection over somebody else's WebSocket.

    Subclasses say how to receive, send and close, and where the upgrade request is.
    """

    def __init__(self, ws: Any, settings: SessionSettings) -> None:
        self._ws = ws
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._messages: deque[str] = deque()
        self._unsent_bytes = 0
        self._writer: asyncio.Task[None] | None = None
        self._reader: asyncio.Task[None] | None = None
        self._close_with: tuple[int, str] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._session: SessionCore | None = None
        self._outbox = MessageOutbox(self._deliver)

    async def _receive(self) -> str | bytes | None:
        """Return the next message, or None when there will be none."""
        raise NotImplementedError

    async def _send(self, message: str) -> None:
        raise NotImplementedError

    async def _close(self, code: int, reason: str) -> None:
        raise NotImplementedError

    @property
    def request(self) -> Request:
        """The upgrade request, as far as the library shows it."""
        return NO_REQUEST

    @property
    def outbox(self) -> Outbox:
        """Where the session writes."""
        return self._outbox

    def attach(self, session: SessionCore) -> None:
        """Tell `session` what arrives."""
        self._session = session

    # --- reading ---

    def start_reading(self) -> None:
        """Read until the connection ends.

        Raises:
            RuntimeError: it reads already.
        """
        if self._reader is not None:
            raise RuntimeError("the session runs already: await session.run() once")
        self._reader = self._loop.create_task(self._read())

    async def _read(self) -> None:
        session = self._session
        assert session is not None
        history = History()
        try:
            while session.is_open:
                raw = await self._receive_or_none(session)
                if raw is None:
                    break
                if not isinstance(raw, (str, bytes, bytearray, memoryview)):
                    session.receive_error(MessageError(f"received {type(raw).__name__}, neither text nor bytes", 0))
                    continue
                data = raw.encode("utf-8", "surrogatepass") if isinstance(raw, str) else raw
                if len(data) > self._settings.max_message_bytes:
                    self.close(1009, "message is too big")
                    break
                try:
                    message = decode(data, history)
                except MessageError as error:
                    session.receive_error(error)
                else:
                    session.receive(message)
        finally:  # whatever happened, nobody waits for a conversation that nothing reads
            session.connection_lost()

    async def _receive_or_none(self, session: SessionCore) -> Any:
        try:
            return await self._receive()
        except Exception as error:  # each library has exceptions of its own for the one thing: it is over
            session._debug("WebSocket connection lost: %s", type(error).__name__)
            return None

    # --- writing ---

    def _deliver(self, messages: list[str]) -> None:
        self._messages.extend(messages)
        self._unsent_bytes += sum(map(len, messages))
        if self._unsent_bytes > self._settings.write_high_water_bytes and self._outbox.writable:
            self._outbox.pause()
            self._timer = self._loop.call_later(self._settings.write_timeout_s, self._write_timed_out)
        self._start_writer()

    def _start_writer(self) -> None:
        if self._writer is None or self._writer.done():
            self._writer = self._loop.create_task(self._write())

    async def _write(self) -> None:
        try:
            while self._messages:
                message = self._messages.popleft()
                await self._send(message)
                self._unsent_bytes -= len(message)
                if not self._outbox.writable and self._unsent_bytes <= self._settings.write_high_water_bytes // 4:
                    self._stop_timer()
                    self._outbox.resume()
            if self._close_with is not None:
                await within(self._close(*self._close_with), self._settings.close_timeout_s)
        except Exception as error:
            if not isinstance(error, TimeoutError) and self._session is not None:
                self._session._debug("sending failed: %s", type(error).__name__)
            self._lose()

    def _lose(self) -> None:
        self._messages.clear()
        self._shut()
        if self._session is not None:
            self._session.connection_lost()

    def _shut(self) -> None:
        self._stop_timer()
        self._outbox.shut()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _write_timed_out(self) -> None:
        self._timer = None
        if self._session is not None:
            self._session.write_timed_out()
        self.abort()

    # --- ending ---

    def close(self, code: int, reason: str) -> None:
        """Close the WebSocket behind what was sent so far."""
        if not self._outbox.closed:
            self._outbox.flush()  # what was said before the close is still said
            self._close_with = (code, reason)
            self._shut()
            self._start_writer()

    def abort(self) -> None:
        """Give up what is unsent and close."""
        self._messages.clear()
        if self._writer is not None:
            self._writer.cancel()
            self._writer = None
        self._close_with = (1011, "")
        self._shut()
        self._start_writer()

    async def wait_closed(self) -> None:
        """Stop reading, and wait until what was to be sent is sent and the WebSocket is closed, within bounds."""
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait([self._reader], timeout=self._settings.close_timeout_s)
        if self._writer is not None and not self._writer.done():
            _, late = await asyncio.wait([self._writer], timeout=2 * self._settings.close_timeout_s)
            for task in late:
                task.cancel()


class RecvSend(Adapter):
    """`websockets` connections, and anything else with the coroutines `recv`, `send` and `close`."""

    def __init__(self, ws: Any, settings: SessionSettings) -> None:
        super().__init__(ws, settings)
        self._close_takes_code = _takes_code(ws.close)

    async def _receive(self) -> str | bytes | None:
        message: str | bytes = await self._ws.recv()
        return message

    async def _send(self, message: str) -> None:
        await self._ws.send(message)

    async def _close(self, code: int, reason: str) -> None:
        await (self._ws.close(code, reason) if self._close_takes_code else self._ws.close())

    @property
    def request(self) -> Request:
        """The request of a `websockets` connection."""
        request = getattr(self._ws, "request", None)
        if request is None or not hasattr(request, "headers") or not hasattr(request, "path"):
            return NO_REQUEST
        pairs = request.headers.raw_items() if hasattr(request.headers, "raw_items") else request.headers.items()
        path, _, query = request.path.partition("?")
        return Request(path, query, _headers(pairs), _address(getattr(self._ws, "remote_address", None)))


class Starlette(Adapter):
    """Starlette and FastAPI WebSockets."""

    async def _receive(self) -> str | bytes | None:
        message = await self._ws.receive()
        if message["type"] != "websocket.receive":
            return None
        text: str | bytes | None = message.get("text")
        return text if text is not None else message.get("bytes")

    async def _send(self, message: str) -> None:
        await self._ws.send_text(message)

    async def _close(self, code: int, reason: str) -> None:
        await self._ws.close(code, reason or None)

    @property
    def request(self) -> Request:
        """The request in the ASGI scope."""
        scope = self._ws.scope
        path = scope.get("raw_path") or scope["path"].encode()
        return Request(
            path.decode("latin-1"),
            scope.get("query_string", b"").decode("latin-1"),
            Headers.of(scope.get("headers", [])),
            _address(scope.get("client")),
        )


class Aiohttp(Adapter):
    """aiohttp's `WebSocketResponse`."""

    async def _receive(self) -> str | bytes | None:
        from aiohttp import WSMsgType

        message = await self._ws.receive()
        return message.data if message.type in (WSMsgType.TEXT, WSMsgType.BINARY) else None

    async def _send(self, message: str) -> None:
        await self._ws.send_str(message)

    async def _close(self, code: int, reason: str) -> None:
        await self._ws.close(code=code, message=reason.encode())

    @property
    def request(self) -> Request:
        """The request that was upgraded; aiohttp keeps it in an attribute of its own."""
        request = getattr(self._ws, "_req", None)
        if request is None:
            return NO_REQUEST
        path, _, query = request.path_qs.partition("?")
        return Request(path, query, Headers.of(list(request.raw_headers)), request.remote or "")


def adapt(ws: object, settings: SessionSettings) -> Adapter:
    """Wrap an accepted WebSocket.

    Raises:
        UnsupportedWebSocket: it is of no known shape.
        WrongThread: no event loop runs here.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise WrongThread(
            "a session belongs to the event loop of its WebSocket, and none runs in this thread: call create_session "
            "in a coroutine (`async def`), not in a plain function that a framework runs in a thread of its own"
        ) from None
    if _has(ws, "receive_str", "send_str", "close"):
        return Aiohttp(ws, settings)
    if _has(ws, "receive", "send_text", "close") and hasattr(ws, "scope"):
        return Starlette(ws, settings)
    if _has(ws, "recv", "send", "close"):
        return RecvSend(ws, settings)
    raise UnsupportedWebSocket(
        f"create_session cannot use {type(ws).__name__}; it takes a websockets connection, a Starlette or FastAPI "
        "WebSocket, an aiohttp WebSocketResponse, or any object with the coroutines recv, send and close"
    )


def _has(ws: object, *methods: str) -> bool:
    return all(callable(getattr(ws, method, None)) for method in methods)


def _takes_code(close: Any) -> bool:
    try:
        inspect.signature(close).bind(1000, "")
    except (TypeError, ValueError):
        return False
    return True


def _headers(pairs: Any) -> Headers:
    return Headers.of([(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in pairs])


def _address(address: Any) -> str:
    return f"{address[0]}:{address[1]}" if isinstance(address, (tuple, list)) and len(address) >= 2 else ""
