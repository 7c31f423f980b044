"""`Upgrade`: a valid upgrade request, as the handshake reads it and the door admits it."""

from __future__ import annotations

from typing import NamedTuple

from se_server.conversation.route import Route
from se_server.types import Request


class Upgrade(NamedTuple):
    """A valid upgrade request on a route's path, not yet admitted.

    Attributes:
        route: the route of its path.
        request: path, query, headers and peer; without the token if the route verifies it.
        websocket_key: the value of `Sec-WebSocket-Key`.
        authorization: the first value of the header that carries the API's token; None without one.
        tail: bytes that followed the head.
    """

    route: Route
    request: Request
    websocket_key: bytes
    authorization: str | None
    tail: bytes

    def __repr__(self) -> str:
        return f"<Upgrade {self.request!r}>"  # without the token
