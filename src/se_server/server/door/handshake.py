"""Read request heads without I/O: bytes in, an upgrade or a constant response out.

A head is buffered until its empty line has arrived and is then read as a whole, so its fragmentation does not matter.
httptools checks the header lines. The request line is matched here, because httptools also accepts RTSP and HTTP/0.9.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import httptools

from se_server.auth import AUTHORIZATION_HEADER
from se_server.conversation.route import Route
from se_server.server.door.responses import (
    BODY_REFUSED,
    FIELD_REPEATED,
    HEAD_TOO_LARGE,
    HEADERS_TOO_MANY,
    HEALTHY,
    HOST_MISSING,
    HOSTS_AMBIGUOUS,
    KEY_INVALID,
    MALFORMED,
    METHOD_REFUSED,
    NOT_FOUND,
    OPTIONS_ALLOWED,
    PATH_UNKNOWN,
    READINESS,
    UPGRADE_REQUIRED,
    VERSION_UNKNOWN,
    Response,
)
from se_server.server.door.routes import HEALTH_PATH, OWN_PATHS, READY_PATH, RouteTable
from se_server.types import Headers, Request


@dataclass(frozen=True)
class Limits:
    """Limits of a peer before it has a conversation.

    Attributes:
        head_timeout_s: seconds for a whole request head, from the connection or from the head's first byte.
        keep_alive_s: seconds that a connection may idle between plain requests; longer than the check intervals of
            load balancers.
        linger_s: seconds that a refused peer may go on sending before the connection is dropped.
        max_linger_bytes: bytes that it may send in that time.
        max_head_bytes: size of request line and headers, line ends included.
        max_headers: number of header lines.
        max_pipelined: plain requests answered per read; the connection is closed after more.
    """

    head_timeout_s: float = 5.0
    keep_alive_s: float = 75.0
    linger_s: float = 1.0
    max_linger_bytes: int = 1 << 20
    max_head_bytes: int = 16384
    max_headers: int = 100
    max_pipelined: int = 16


class Upgrade(NamedTuple):
    """A valid upgrade request on a route's path, not yet admitted.

    Attributes:
        route: the route of its path.
        request: path, query, headers and peer.
        websocket_key: the value of `Sec-WebSocket-Key`.
        authorization: the first value of the header that carries the API's token; None without one.
        tail: bytes that followed the head.
    """

    route: Route
    request: Request
    websocket_key: bytes
    authorization: str | None
    tail: bytes


class _NoCallbacks:
    """The callbacks of httptools, all unset, so that it only checks. Missing names would cost a failing lookup each."""

    on_message_begin = on_url = on_header = on_headers_complete = on_body = on_message_complete = None
    on_chunk_header = on_chunk_complete = on_status = None


# --- reading --------------------------------------------------------------------------------------------------------

_HOST = b"host"
_CONNECTION = b"connection"
_UPGRADE = b"upgrade"
_KEY = b"sec-websocket-key"
_VERSION = b"sec-websocket-version"
_AUTHORIZATION = AUTHORIZATION_HEADER.lower().encode()
_LENGTH = b"content-length"
_ENCODING = b"transfer-encoding"
_KNOWN = frozenset((_HOST, _CONNECTION, _UPGRADE, _KEY, _VERSION, _AUTHORIZATION, _LENGTH, _ENCODING))

_METHODS = frozenset((b"GET", b"HEAD", b"OPTIONS"))

# A target has no fragment: RFC 9112 3.2, RFC 6455 3.
_REQUEST_LINE = re.compile(rb"([A-Z]{1,16}) ([!\"$-~]+) HTTP/1\.([01])\r\n")
_REQUEST_LINE_SO_FAR = re.compile(rb"[A-Z]{1,16}(?: [!-~]*(?: [HTP/1.0]{0,8}\r?)?)?")
_ABSOLUTE = re.compile(rb"[Hh][Tt][Tt][Pp][Ss]?://[^/?]+([/?].*)?")
_KEY_FORM = re.compile(rb"[A-Za-z0-9+/]{22}==")  # RFC 6455 4.1: base64 of 16 bytes.


class Handshake:
    """Reads the requests of one connection until one is an upgrade or ends it.

    Compiled; `handshake.pxd` declares the fields.

    Args:
        routes: the routes of upgrades.
        limits: limits of the request heads.
        remote: the peer's address, for `Request.remote`.
        obstacle: returns the obstacle to readiness, a key of `READINESS`.

    Attributes:
        path: the path of the last request read; empty before the first, and if the request was malformed.
    """

    def __init__(
        self, routes: RouteTable, limits: Limits, remote: str, obstacle: Callable[[], str] = lambda: ""
    ) -> None:
        self.path = ""
        self._find_route = routes.find
        self._limits = limits
        self._remote = remote
        self._obstacle = obstacle
        self._buffer = b""
        self._scanned = 0  # no empty line begins before this offset of the buffer
        self._answered = 0  # requests of the current read with more bytes after them
        self._fields = b""  # the header lines of the last request read

    @property
    def headers(self) -> Headers:
        """The headers of the last request read; none if its head is incomplete."""
        return Headers(self._fields)

    @property
    def idle(self) -> bool:
        """Whether the buffer holds no part of a request."""
        return not self._buffer

    def feed(self, data: bytes) -> Upgrade | Response | None:
        """Take bytes and return the outcome of the next request, or None while its head is incomplete.

        After a response that keeps the connection, feed `b""` to read a pipelined request. After an upgrade or any
        other response, feed nothing.
        """
        self._fields = b""
        self.path = ""
        if self._buffer:
            data = self._buffer + data
        # RFC 9112 2.2: empty lines before a request are ignored.
        if data[:1] in b"\r\n":
            data = data.lstrip(b"\r\n")
        end = data.find(b"\r\n\r\n", self._scanned) + 4
        if end < 4:
            return self._incomplete(data)
        if end > self._limits.max_head_bytes:
            return self._too_large(data)
        self._scanned = 0
        if end == len(data):
            self._buffer = b""
            self._answered = 0
            return self._complete(data, b"")
        self._buffer = data[end:]
        self._answered += 1
        return self._complete(data[:end], self._buffer)

    def _incomplete(self, data: bytes) -> Response | None:
        # Refuse at once if no further byte can make this a request, not when the time for the head is up.
        if len(data) > self._limits.max_head_bytes:
            return self._too_large(data)
        if _has_bad_line_ends(data):
            return MALFORMED
        if data:
            line = _REQUEST_LINE_SO_FAR.fullmatch(data) if b"\n" not in data else _REQUEST_LINE.match(data)
            if line is None:
                return MALFORMED
        self._answered = 0
        self._buffer = data
        self._scanned = max(0, len(data) - 3)
        return None

    def _too_large(self, data: bytes) -> Response:
        # A malformed beginning takes precedence, as it does when the head arrives in pieces.
        return self._incomplete(data[: self._limits.max_head_bytes]) or HEAD_TOO_LARGE

    def _complete(self, head: bytes, tail: bytes) -> Upgrade | Response:
        line = _REQUEST_LINE.match(head)
        if line is None or _has_bad_line_ends(head):
            return MALFORMED
        try:
            httptools.HttpRequestParser(_NoCallbacks).feed_data(head)
        except httptools.HttpParserUpgrade:
            pass  # the head is whole, and the bytes after it were not fed
        except httptools.HttpParserInvalidMethodError:
            return METHOD_REFUSED
        except httptools.HttpParserError:
            return MALFORMED
        # httptools has checked that each line is `name: value`.
        self._fields = fields = head[line.end() : -2]
        lines = fields.split(b"\r\n")[:-1]
        if len(lines) > self._limits.max_headers:
            return HEADERS_TOO_MANY
        method, target, minor = line.groups()
        seen: dict[bytes, bytes] = {}
        for field in lines:
            name, _, value = field.partition(b":")
            name = name.lower()
            if name not in _KNOWN:
                continue
            if name in seen:
                if name == _HOST:
                    return HOSTS_AMBIGUOUS
                if name in (_KEY, _VERSION):  # RFC 6455 11.3.1, 11.3.5
                    return FIELD_REPEATED
                if name in (_CONNECTION, _UPGRADE):
                    seen[name] += b"," + value
                continue
            seen[name] = value
        if _ENCODING in seen or seen.get(_LENGTH, b"0").strip(b"0 \t"):
            return BODY_REFUSED
        if method not in _METHODS:
            return METHOD_REFUSED
        split = ("*", "") if target == b"*" and method == b"OPTIONS" else _split(target)
        if split is None:
            return MALFORMED
        path, query = split
        self.path = path
        connection = _tokens(seen[_CONNECTION]) if _CONNECTION in seen else ()
        # RFC 9110 7.8: an Upgrade in an HTTP/1.0 request is ignored.
        if (
            method == b"GET"
            and b"upgrade" in connection
            and minor == b"1"
            and path not in OWN_PATHS
            and b"websocket" in _tokens(seen.get(_UPGRADE, b""))
        ):
            return self._upgrade(path, query, seen, tail)
        return self._plain(method, path, minor == b"1" and b"close" not in connection)

    def _upgrade(self, path: str, query: str, seen: dict[bytes, bytes], tail: bytes) -> Upgrade | Response:
        route = self._find_route(path)
        if route is None:
            return PATH_UNKNOWN
        if _HOST not in seen:
            return HOST_MISSING
        if seen.get(_VERSION, b"").strip() != b"13":
            return VERSION_UNKNOWN
        key = seen.get(_KEY, b"").strip()
        if _KEY_FORM.fullmatch(key) is None:
            return KEY_INVALID
        authorization = seen.get(_AUTHORIZATION)
        return Upgrade(
            route,
            Request(path, query, Headers(self._fields), self._remote),
            key,
            None if authorization is None else authorization.decode("latin-1").strip(),
            tail,
        )

    def _plain(self, method: bytes, path: str, keep_alive: bool) -> Response:
        # A missing Host is accepted, against RFC 9112 3.2 and unlike in upgrades: simple health checks omit it.
        is_websocket_path = self._find_route(path) is not None
        if path == READY_PATH:
            forms = READINESS[self._obstacle()]
        elif method == b"OPTIONS":
            # HAProxy's `option httpchk` without arguments sends OPTIONS / and expects a 2xx.
            forms = OPTIONS_ALLOWED if is_websocket_path or path in ("/", "*", HEALTH_PATH) else NOT_FOUND
        elif path == HEALTH_PATH:
            forms = HEALTHY
        elif is_websocket_path:
            forms = UPGRADE_REQUIRED
        else:
            forms = NOT_FOUND
        keep_alive = keep_alive and self._answered < self._limits.max_pipelined
        return forms[2 * keep_alive + (method == b"HEAD")]


def _has_bad_line_ends(head: bytes) -> bool:
    """Return whether there is a NUL, or a line feed without its carriage return."""
    return b"\0" in head or head.count(b"\n") != head.count(b"\r\n")


def _tokens(value: bytes) -> list[bytes]:
    return [token.strip() for token in value.lower().split(b",")]


def _split(target: bytes) -> tuple[str, str] | None:
    """Split a request target into path and query; None if its form is not for servers (RFC 9112 3.2)."""
    if target[:1] != b"/":
        absolute = _ABSOLUTE.fullmatch(target)
        if absolute is None:
            return None
        target = absolute[1] or b"/"
        if target[:1] == b"?":
            target = b"/" + target
    path, _, query = target.decode("latin-1").partition("?")
    return path, query
