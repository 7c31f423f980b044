"""Doors for tests: one call makes a door from option groups, on sockets of its own."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from ssl import SSLContext
from typing import Any

from se_server.auth import TokenVerifier
from se_server.conversation.handlers import Handlers
from se_server.conversation.settings import DEFAULT_SETTINGS, SessionSettings
from se_server.server.door.access import Access
from se_server.server.door.door import Door
from se_server.server.door.place import Place
from se_server.server.door.route_table import DoorRoute, RouteTable
from se_server.server.shared.lifecycle import Lifecycle
from se_server.types import Counters

ENDS_AT_ONCE = Lifecycle(drain_turn_grace_s=0.0)


def make_routes(
    path: str | None = "/ws",
    *,
    verifier: TokenVerifier | None = None,
    settings: SessionSettings = DEFAULT_SETTINGS,
    **handlers: Any,
) -> RouteTable:
    """Make a table with one route."""
    return RouteTable([DoorRoute(path, verifier, Handlers.of(handlers), settings)])


def make_door(
    listen_sockets: Sequence[socket.socket],
    path: str | None = "/ws",
    *,
    verifier: TokenVerifier | None = None,
    settings: SessionSettings = DEFAULT_SETTINGS,
    handlers: dict[str, Any] | None = None,
    lifecycle: Lifecycle = ENDS_AT_ONCE,
    access: Access | None = None,
    ssl: SSLContext | None = None,
    **groups: Any,
) -> Door:
    """Make a door with one route; `groups` are the other arguments of `Door`."""
    routes = make_routes(path, verifier=verifier, settings=settings, **(handlers or {}))
    place = Place(listen_sockets, routes, access or Access(), ssl)
    return Door([place], Counters(), lifecycle=lifecycle, **groups)
