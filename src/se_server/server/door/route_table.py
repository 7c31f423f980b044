"""The routes of listen sockets, found by path."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from se_server.conversation.route import Route
from se_server.errors import ConfigError
from se_server.server.door.access import Access
from se_server.server.door.routes import OWN_PATHS


@dataclass(frozen=True, eq=False)
class DoorRoute(Route):
    """One engine of a server, with the conditions under which the door admits its conversations.

    Attributes:
        access: the conditions besides the token; None for those of the listen sockets.
    """

    access: Access | None = None


class RouteTable:
    """The routes of one or several listen sockets.

    Args:
        routes: one for each path; at most one with the path None, which takes all other paths.

    Raises:
        ConfigError: no request can match a path, or two routes have the same one.
    """

    def __init__(self, routes: Iterable[DoorRoute]) -> None:
        self._by_path: dict[str | None, DoorRoute] = {}
        for route in routes:
            if route.path is not None:
                _check_path(route.path)
            if route.path in self._by_path:
                raise ConfigError(f"two routes have the path {route.path!r}: give each its own")
            self._by_path[route.path] = route
        self._others = self._by_path.pop(None, None)

    def __iter__(self) -> Iterator[DoorRoute]:
        yield from self._by_path.values()
        if self._others is not None:
            yield self._others

    def find(self, path: str) -> DoorRoute | None:
        """Return the route of a request's path; None if there is none."""
        return self._by_path.get(path, self._others)


def _check_path(path: str) -> None:
    if not path.startswith("/"):
        raise ConfigError(f"path {path!r} can never match a request: begin it with a slash, as in '/{path}'")
    if not path.isascii() or not path.isprintable() or set(path) & set(" ?#"):
        raise ConfigError(
            f"path {path!r} can never match a request: leave the query out, and percent-encode non-ASCII characters"
        )
    if path in OWN_PATHS:
        raise ConfigError(f"path {path!r} belongs to health checks: choose another one, such as '/ws'")
