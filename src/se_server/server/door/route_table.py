"""The routes of listen sockets, compiled once, and found by host and path at each upgrade.

An exact path is one look into a dict. Templates are a tree of segments, so that a look costs as many steps as the path
has segments, however many templates there are; prefixes are a dict that is asked once for each segment. Nothing depends
on the length of a path beyond `MAX_SEGMENTS` segments.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from se_server.conversation.route import Route
from se_server.errors import ConfigError
from se_server.server.door.access import Access
from se_server.server.door.patterns import Kind, Pattern
from se_server.server.shared.route_rows import RouteSeats

Found = tuple["DoorRoute", Mapping[str, str] | None]
"""A route, and the values of its path's parameters; None without parameters."""


@dataclass(frozen=True, eq=False)
class DoorRoute(Route):
    """One engine of a server, with the conditions under which the door admits its conversations.

    Attributes:
        access: the conditions besides the token; None for those of the listen sockets.
        host: the name in the requests' `Host` header; None for every name.
        seats: counts its conversations against its limit over all workers; None does not count.
    """

    access: Access | None = None
    host: str | None = None
    seats: RouteSeats | None = None

    def __str__(self) -> str:
        return self.name or f"{self.host or ''}{self.path or 'all paths'}"


class RouteTable:
    """The routes of one or several listen sockets.

    Routes with a host come before those without one. Then an exact path comes before a template, a template before a
    prefix, and a route of every path last. Of templates the one with more literal segments wins, of prefixes the
    longer one.

    Args:
        routes: at least one.

    Raises:
        ConfigError: no request can match a path, or two routes would match the same request with equal right.
    """

    def __init__(self, routes: Iterable[DoorRoute]) -> None:
        self._routes = list(routes)
        self._hosts: dict[bytes, _Paths] = {}
        self._others = _Paths()
        for route in self._routes:
            self._paths_of(route.host).add(route)

    def __iter__(self) -> Iterator[DoorRoute]:
        return iter(self._routes)

    def _paths_of(self, host: str | None) -> _Paths:
        if host is None:
            return self._others
        return self._hosts.setdefault(host.lower().rstrip(".").encode(), _Paths())

    def find(self, path: str, host: bytes = b"") -> Found | None:
        """Return the route of a request; None if there is none.

        Args:
            path: the path as sent, without its query.
            host: the value of the `Host` header.
        """
        if self._hosts:
            paths = self._hosts.get(_name_of(host))
            if paths is not None and (found := paths.find(path)) is not None:
                return found
        return self._others.find(path)


def _name_of(host: bytes) -> bytes:
    """Return the name of a `Host` header in lower case, without its port and a dot at its end."""
    host = host.strip().lower()
    if host[:1] == b"[":
        return host.partition(b"]")[0] + b"]"
    return host.partition(b":")[0].rstrip(b".")


@dataclass(slots=True)
class _Node:
    """A segment in the tree of templates."""

    literals: dict[str, _Node] = field(default_factory=dict)
    parameter: _Node | None = None
    end: DoorRoute | None = None
    pattern: Pattern | None = None

    def child(self, segment: str, *, is_parameter: bool) -> _Node:
        if not is_parameter:
            return self.literals.setdefault(segment, _Node())
        if self.parameter is None:
            self.parameter = _Node()
        return self.parameter


class _Paths:
    """The routes of one host."""

    def __init__(self) -> None:
        self._exact: dict[str, Found] = {}
        self._trees: dict[int, _Node] = {}  # by the number of slashes
        self._prefixes: dict[str, Found] = {}
        self._deepest = 0  # slashes of the longest prefix
        self._any: Found | None = None
        self._ties = _Ties()

    def add(self, route: DoorRoute) -> None:
        pattern = Pattern.of(route.path)
        if pattern.kind is Kind.ANY:
            _refuse_same(self._any, route)
            self._any = (route, None)
        elif pattern.kind is Kind.EXACT:
            _refuse_same(self._exact.get(str(pattern.text)), route)
            self._exact[str(pattern.text)] = (route, None)
        elif pattern.kind is Kind.PREFIX:
            prefix = "".join(f"/{segment}" for segment in pattern.segments) + "/"
            _refuse_same(self._prefixes.get(prefix), route)
            self._prefixes[prefix] = (route, None)
            self._deepest = max(self._deepest, prefix.count("/"))
        else:
            self._add_template(route, pattern)

    def _add_template(self, route: DoorRoute, pattern: Pattern) -> None:
        self._ties.add(route, pattern)
        node = self._trees.setdefault(len(pattern.segments), _Node())
        parameters = dict(pattern.names)
        for place, segment in enumerate(pattern.segments):
            node = node.child(segment, is_parameter=place in parameters)
        node.end, node.pattern = route, pattern

    def find(self, path: str) -> Found | None:
        found = self._exact.get(path)
        if found is not None:
            return found
        if self._trees:
            tree = self._trees.get(path.count("/"))
            if tree is not None:
                found = _find_template(tree, path.split("/")[1:])
                if found is not None:
                    return found
        end = 0
        for _ in range(self._deepest):
            end = path.find("/", end) + 1
            if not end:
                break
            found = self._prefixes.get(path[:end], found)
        return self._any if found is None else found


def _find_template(tree: _Node, segments: list[str]) -> Found | None:
    nodes = [tree]
    for segment in segments:
        reached = []
        for node in nodes:
            literal = node.literals.get(segment)
            if literal is not None:
                reached.append(literal)
            if node.parameter is not None:
                reached.append(node.parameter)
        nodes = reached
    best: Found | None = None
    most = -1
    for node in nodes:
        if node.end is not None and node.pattern is not None and node.pattern.literals > most:
            values = node.pattern.values(segments)
            if values is not None:
                best, most = (node.end, values), node.pattern.literals
    return best


def _refuse_same(known: Found | None, route: DoorRoute) -> None:
    if known is None:
        return
    if str(known[0]) == str(route):
        raise ConfigError(f"two routes have the path {route.path!r}: give each its own")
    raise ConfigError(
        f"routes {str(known[0])!r} and {str(route)!r} have the same path {route.path!r}: give each its own"
    )


_Shape = tuple[int, frozenset[int]]


class _Ties:
    """Finds templates that match the same path with as many literal segments as another one.

    Templates are grouped by their shape: how many segments they have, and which of them are parameters. Two shapes are
    compared by the segments that are literal in both, through a dict, so that a thousand templates cost no more than a
    thousand looks for each shape.
    """

    def __init__(self) -> None:
        self._members: dict[_Shape, list[tuple[DoorRoute, Pattern]]] = {}
        self._indexes: dict[tuple[_Shape, frozenset[int]], dict[tuple[str, ...], tuple[DoorRoute, Pattern]]] = {}

    def add(self, route: DoorRoute, pattern: Pattern) -> None:
        """Add a template.

        Raises:
            ConfigError: it ties with another one.
        """
        shape = len(pattern.segments), frozenset(place for place, _ in pattern.names)
        self._members.setdefault(shape, [])
        for other, members in self._members.items():
            if other[0] != shape[0] or len(other[1]) != len(shape[1]):
                continue
            free = other[1] | shape[1]
            index = self._indexes.get((other, free))
            if index is None:
                index = self._indexes[other, free] = {_literal(its, free): (one, its) for one, its in members}
            rival = index.get(_literal(pattern, free))
            if rival is not None:
                raise ConfigError(_tie(rival, route, pattern))
        self._members[shape].append((route, pattern))
        for (own, free), index in self._indexes.items():
            if own == shape:
                index[_literal(pattern, free)] = route, pattern


def _literal(pattern: Pattern, free: frozenset[int]) -> tuple[str, ...]:
    return tuple(segment for place, segment in enumerate(pattern.segments) if place not in free)


def _tie(rival: tuple[DoorRoute, Pattern], route: DoorRoute, pattern: Pattern) -> str:
    other, its = rival
    parameters = dict(pattern.names)
    pairs = enumerate(zip(pattern.segments, its.segments, strict=True))
    shared = "".join(f"/{theirs if place in parameters else mine}" for place, (mine, theirs) in pairs)
    return (
        f"routes {str(other)!r} and {str(route)!r} tie: both match {shared} with as many literal segments; change one"
        " of the templates"
    )
