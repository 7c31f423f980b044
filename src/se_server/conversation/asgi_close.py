"""Closes the WebSocket of an ASGI application that ends without closing it, with a code of its own choice until then.

ASGI servers drop the connection of an application that returns without a close: its peer sees 1006. After the API has
ended the conversation the application may still send a code of its own, so nothing can be sent for it at once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class CloseWhenDropped:
    """The `send` of an ASGI WebSocket, which closes with 1000 when it is dropped and has sent no close.

    Only the WebSocket object refers to it, and that object lives until the application's endpoint has returned, which
    is before its server drops the connection.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._is_closed = False

    @classmethod
    def watch(cls, ws: Any) -> None:
        """Take the place of a Starlette WebSocket's `send`; other objects are left as they are."""
        send = getattr(ws, "_send", None)
        if callable(send) and not isinstance(send, cls) and hasattr(ws, "application_state"):
            ws._send = cls(send)

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "websocket.close":
            self._is_closed = True
        await self._send(message)

    def __del__(self) -> None:
        if self._is_closed:
            return
        # A server that has nothing to wait for writes in the first step; there is nobody to await a second. A server
        # whose peer is gone raises an exception of its own, which Python would print, as from any finalizer.
        with suppress(Exception):
            closing = self._send({"type": "websocket.close", "code": 1000, "reason": ""})
            with suppress(StopIteration):
                closing.__await__().send(None)
            if hasattr(closing, "close"):
                closing.close()
