"""Connections that other libraries accepted: `websockets`, Starlette and FastAPI, aiohttp, and lookalikes."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

from se_server.conversation.adapter import Adapter
from se_server.conversation.settings import SessionSettings
from se_server.errors import UnsupportedWebSocket, WrongThread
from se_server.types import NO_REQUEST, Headers, Request


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
        UnsupportedWebSocket: `ws` is of no known shape.
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
