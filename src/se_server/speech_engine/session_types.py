"""`elevenlabs.speech_engine.session_types` of version 3: events, messages, and the shape of a WebSocket."""

from __future__ import annotations

from typing import Any

from se_server.errors import UnsupportedWebSocket
from se_server.types import (
    CLOSE,
    DISCONNECTED,
    ERROR,
    INIT,
    USER_TRANSCRIPT,
    ConversationMessage,
    WebSocketLike,
)

__all__ = [
    "CLOSE",
    "DISCONNECTED",
    "ERROR",
    "INIT",
    "USER_TRANSCRIPT",
    "ConversationMessage",
    "WebSocketLike",
    "wrap_websocket",
]


def wrap_websocket(ws: Any) -> WebSocketLike:
    """Return an object with `recv`, `send` and `close` for an accepted WebSocket; sessions need none.

    Args:
        ws: an object that has them, which is returned itself, or one with `receive_text` and `send_text`.

    Raises:
        UnsupportedWebSocket: (a `TypeError`) it has neither.
    """
    if hasattr(ws, "recv"):
        wrapped: WebSocketLike = ws
        return wrapped
    if hasattr(ws, "receive_text"):
        return _TextWebSocket(ws)
    raise UnsupportedWebSocket(
        f"Cannot wrap {type(ws).__name__}: expected an object with recv and send, or with receive_text and send_text"
    )


class _TextWebSocket:
    """A WebSocket of an ASGI framework by the names of the `websockets` package."""

    def __init__(self, ws: Any) -> None:
        self._ws = ws

    async def recv(self) -> str | bytes:
        text: str | bytes = await self._ws.receive_text()
        return text

    async def send(self, data: str, /) -> None:
        await self._ws.send_text(data)

    async def close(self) -> None:
        await self._ws.close()
