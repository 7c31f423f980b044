"""Connections that other libraries accepted: `websockets`, Starlette and FastAPI, aiohttp, Quart, and lookalikes."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from se_server.conversation.adapter import Adapter
from se_server.conversation.asgi_close import CloseWhenDropped
from se_server.conversation.settings import SessionSettings
from se_server.errors import UnsupportedWebSocket
from se_server.signatures import signature_of
from se_server.types import NO_REQUEST, Headers, Request


class RecvSend(Adapter):
    """`websockets` connections, and anything else with the coroutines `recv` and `send`; it is closed if it can be."""

    def __init__(self, ws: Any, settings: SessionSettings) -> None:
        super().__init__(ws, settings)
        close = getattr(ws, "close", None)
        self._can_close = callable(close)
        self._close_takes_code = _takes_code(close)

    async def _receive(self) -> str | bytes | None:
        message: str | bytes = await self._ws.recv()
        return message

    async def _send(self, message: str) -> None:
        await self._ws.send(message)

    async def _close(self, code: int, reason: str) -> None:
        if not self._can_close:
            return
        # 1000 is the default of every library; the published SDK closes without arguments.
        given = (code, reason) if self._close_takes_code and (code, reason) != (1000, "") else ()
        await self._ws.close(*given)

    @property
    def request(self) -> Request:
        """The request of a `websockets` connection."""
        request = getattr(self._ws, "request", None)
        path = getattr(request, "path", None)
        if request is None or not isinstance(path, str) or not hasattr(request, "headers"):
            return NO_REQUEST
        pairs = request.headers.raw_items() if hasattr(request.headers, "raw_items") else request.headers.items()
        path, _, query = path.partition("?")
        return Request(path, query, _headers(pairs), _address(getattr(self._ws, "remote_address", None)))


class ReceiveSend(RecvSend):
    """Quart's WebSockets: the coroutines `receive` and `send`."""

    async def _receive(self) -> str | bytes | None:
        message: str | bytes = await self._ws.receive()
        return message

    @property
    def request(self) -> Request:
        """The request in the ASGI scope."""
        return _request_of_scope(self._ws)


class Text(RecvSend):
    """WebSockets with `receive_text` and `send_text`: of ASGI frameworks, and subclasses that override these."""

    async def _receive(self) -> str | bytes | None:
        message: str | bytes = await self._ws.receive_text()
        return message

    async def _send(self, message: str) -> None:
        await self._ws.send_text(message)

    def finish(self) -> None:
        """Leave the WebSocket to the application; if it never closes it, it is closed with 1000 all the same."""
        super().finish()
        CloseWhenDropped.watch(self._ws)

    @property
    def request(self) -> Request:
        """The request in the ASGI scope."""
        return _request_of_scope(self._ws)


class Starlette(Text):
    """WebSockets whose `receive_text` is Starlette's own, which raises for a binary message: `receive` gives both."""

    async def _receive(self) -> str | bytes | None:
        message = await self._ws.receive()
        if message["type"] != "websocket.receive":
            return None
        text: str | bytes | None = message.get("text")
        return text if text is not None else message.get("bytes")


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
    """
    if _has(ws, "recv", "send"):
        return RecvSend(ws, settings)
    if _has(ws, "receive_str", "send_str", "close"):
        return Aiohttp(ws, settings)
    if _has(ws, "receive_text", "send_text"):
        return Starlette(ws, settings) if _has_starlettes_text(ws) else Text(ws, settings)
    if _has(ws, "receive", "send"):
        # Quart's name for the WebSocket of the task that asks; the session's own tasks keep the object.
        unwrap = getattr(ws, "_get_current_object", None)
        return ReceiveSend(unwrap() if unwrap is not None else ws, settings)
    raise UnsupportedWebSocket(
        f"create_session cannot use {type(ws).__name__}; it takes a websockets connection, a Starlette or FastAPI "
        "WebSocket, an aiohttp WebSocketResponse, Quart's websocket, or any object with the coroutines recv and send, "
        "or receive_text and send_text"
    )


def _has(ws: object, *methods: str) -> bool:
    return all(callable(getattr(ws, method, None)) for method in methods)


def _has_starlettes_text(ws: Any) -> bool:
    module = sys.modules.get("starlette.websockets")
    if module is None or not isinstance(ws, module.WebSocket):
        return False
    return getattr(ws.receive_text, "__func__", None) is module.WebSocket.receive_text


def _takes_code(close: Any) -> bool:
    try:
        signature_of(close).bind(1000, "")
    except (TypeError, ValueError):
        return False
    return True


def _request_of_scope(ws: Any) -> Request:
    scope = getattr(ws, "scope", None)
    if not isinstance(scope, Mapping) or "path" not in scope:
        return NO_REQUEST
    path = scope.get("raw_path") or scope["path"].encode()
    return Request(
        path.decode("latin-1"),
        scope.get("query_string", b"").decode("latin-1"),
        Headers.of(scope.get("headers", [])),
        _address(scope.get("client")),
    )


def _headers(pairs: Any) -> Headers:
    return Headers.of([(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in pairs])


def _address(address: Any) -> str:
    return f"{address[0]}:{address[1]}" if isinstance(address, (tuple, list)) and len(address) >= 2 else ""
