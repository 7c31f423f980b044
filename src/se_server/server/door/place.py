"""`Place`: an address at which a door listens, with the routes that are served there."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from ssl import SSLContext

from se_server.server.door.access import Access
from se_server.server.door.route_table import RouteTable


@dataclass(frozen=True, eq=False)
class Place:
    """Listen sockets that serve the same routes.

    Attributes:
        listen_sockets: bound, listening and non-blocking.
        routes: the engines that are served there, at least one.
        access: conditions before the route of a connection is known, and those of routes that have none of their own.
        ssl: the context of a place that speaks TLS, except on Unix sockets; None speaks none.
    """

    listen_sockets: Sequence[socket.socket]
    routes: RouteTable
    access: Access = field(default_factory=Access)
    ssl: SSLContext | None = None
