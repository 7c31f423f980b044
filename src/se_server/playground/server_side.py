"""The server that the page speaks with, and how the parent process describes it."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class ServerSide:
    """The server beside the page.

    Attributes:
        app: the APP as it was named; None for the demo agent.
        key: signs the token; None sends no token.
        headers: headers that the server requires.
        path: the path of conversations; None for any.
        reloads: whether changes of the APP's files cause a reload.
        failure_text: what is spoken when a handler fails; empty for nothing.
        version: the version of se-server.
        url: the address of conversations; empty until the server is ready.
    """

    app: str | None
    key: str | None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    path: str | None = None
    reloads: bool = False
    failure_text: str = ""
    version: str = ""
    url: str = ""

    def __repr__(self) -> str:
        return f"ServerSide({self.app!r}, {self.url!r})"

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> ServerSide:
        """Make one from the description of the parent process."""
        return cls(**given)

    def ssl_context(self) -> ssl.SSLContext | None:
        """Return how the server's certificate is verified: not at all, since it is this machine's own server."""
        if not self.url.startswith("wss:"):
            return None
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
