"""A route: everything that belongs to the conversations of one path."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from se_server.auth import TokenVerifier
from se_server.conversation.handlers import Handlers
from se_server.conversation.served import ServedWebSocket
from se_server.conversation.session import SpeechEngineSession
from se_server.conversation.settings import DEFAULT_SETTINGS, SessionSettings
from se_server.types import Stats


@dataclass(frozen=True, eq=False)
class Route:
    """One engine of a server.

    Attributes:
        path: the WebSocket path; None for every path that no other route names.
        verifier: checks the token of every upgrade; None accepts all.
        handlers: the user's callbacks.
        settings: limits and times of the conversations.
        connect: the program's own `handle_connection`, which makes the session of each connection; None makes them
            here.
        name: the name in logs and metrics; empty for a server's only route.
        stats: the counters of its conversations; None for those of the door.
    """

    path: str | None
    verifier: TokenVerifier | None
    handlers: Handlers
    settings: SessionSettings = DEFAULT_SETTINGS
    connect: Callable[[ServedWebSocket], SpeechEngineSession] | None = None
    name: str = ""
    stats: Stats | None = None
