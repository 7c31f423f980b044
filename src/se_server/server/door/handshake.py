"""Read request heads without I/O: bytes in, an upgrade or a constant response out.

A head is buffered until its empty line has arrived and is then read as a whole, so its fragmentation does not matter.
Each piece is checked as it comes, without a second look at the bytes before it, so that a head that comes byte by byte
costs linear time. httptools checks the header lines. The request line is matched here, because httptools also accepts
RTSP and HTTP/0.9.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import httptools

from se_server.auth import AUTHORIZATION_HEADER
from se_server.server.door.admission import DRAINING
from se_server.server.door.host_header import is_host
from se_server.server.door.limits import Limits
from se_server.server.door.responses import (
    AVAILABILITY,
    BODY_REFUSED,
    FIELD_REPEATED,
    HEAD_TOO_LARGE,
    HEADERS_TOO_MANY,
    HEALTHY,
    HEALTHY_DRAINING,
    HOST_INVALID,
    HOST_MISSING,
    HOSTS_AMBIGUOUS,
    ITEMS_TOO_MANY,
    KEY_INVALID,
    MALFORMED,
    METHOD_REFUSED,
    NOT_FOUND,
    NOT_READY,
    OPTIONS_ALLOWED,
    PATH_UNKNOWN,
    READY,
    UPGRADE_REQUIRED,
    VERSION_UNKNOWN,
    Forms,
    Response,
)
from se_server.server.door.route_table import RouteTable
from se_server.server.door.routes import AVAILABLE_PATH, OWN_PATHS, READY_PATH
from se_server.server.door.upgrades import Upgrade
from se_server.types import Headers, Request


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

MAX_LIST_ITEMS = 32  # of Connection and of Upgrade, all of their lines together; browsers and proxies send one or two

_METHODS = frozenset((b"GET", b"HEAD", b"OPTIONS"))

# A target has no fragment: RFC 9112 3.2, RFC 6455 3.
_REQUEST_LINE = re.compile(rb"([A-Z]{1,16}) ([!\"$-~]+) HTTP/1\.([01])\r\n")
_REQUEST_LINE_SO_FAR = re.compile(rb"[A-Z]{1,16}(?: [!-~]*(?: [HTP/1.0]{0,8}\r?)?)?")
_ABSOLUTE = re.compile(rb"[Hh][Tt][Tt][Pp][Ss]?://[^/?]+([/?].*)?")
_KEY_FORM = re.compile(rb"[A-Za-z0-9+/]{22}==")  # RFC 6455 4.1: base64 of 16 bytes.


_usual_host = [b""]  # the last valid value of Host, which is that of the next request as a rule


class Handshake:
    """Reads the requests of one connection until one is an upgrade or ends it.

    Compiled; `handshake.pxd` declares the fields.

    Args:
        routes: the routes of upgrades.
        limits: limits of the request heads.
        remote: the peer's address, for `Request.remote`.
        obstacle: returns the obstacle to new conversations, a key of `AVAILABILITY`.

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
        self._buffer = bytearray()  # the beginning of a head
        self._line: bytes | None = b""  # the part of its request line that the next bytes are checked with
        self._rest = b""  # bytes after the last head read
        self._answered = 0  # requests of the current read with more bytes after them
        self._fields = b""  # the header lines of the last request read

    @property
    def headers(self) -> Headers:
        """The headers of the last request read; none if its head is incomplete."""
        return Headers(self._fields)

    @property
    def idle(self) -> bool:
        """Whether no part of a request is kept."""
        return not self._buffer and not self._rest

    def feed(self, data: bytes) -> Upgrade | Response | None:
        """Take bytes and return the outcome of the next request, or None while its head is incomplete.

        After a response that keeps the connection, feed `b""` to read a pipelined request. After an upgrade or any
        other response, feed nothing.
        """
        self._fields = b""
        self.path = ""
        if self._buffer:
            return self._continue(data)
        if self._rest:
            data = self._rest + data
            self._rest = b""
        # RFC 9112 2.2: empty lines before a request are ignored.
        if data[:1] in b"\r\n":
            data = data.lstrip(b"\r\n")
        end = data.find(b"\r\n\r\n") + 4
        if end < 4 or end > self._limits.max_head_bytes:
            return self._continue(data)
        if end == len(data):
            self._answered = 0
            return self._complete(data, b"")
        self._rest = data[end:]
        self._answered += 1
        return self._complete(data[:end], self._rest)

    def _continue(self, data: bytes) -> Upgrade | Response | None:
        """Take a piece of a head that is not whole in one piece; look at its bytes only."""
        buffer = self._buffer
        old = len(buffer)
        room = self._limits.max_head_bytes - old
        buffer += data[:room]
        end = buffer.find(b"\r\n\r\n", max(0, old - 3)) + 4
        if end >= 4:
            head, self._rest = bytes(buffer[:end]), bytes(buffer[end:]) + data[room:]
            self._buffer = bytearray()
            self._line = b""
            self._answered = self._answered + 1 if self._rest else 0
            return self._complete(head, self._rest)
        # Refuse at once if no further byte can make this a request, not when the time for the head is up.
        if not self._is_possible(old):
            return MALFORMED
        if len(data) > room:
            return HEAD_TOO_LARGE
        self._answered = 0
        return None

    def _is_possible(self, old: int) -> bool:
        """Return whether a request can begin with the buffer, of which `old` bytes have been checked."""
        piece = bytes(self._buffer[max(0, old - 1) :])  # the last byte may be the carriage return of a line feed
        line_feeds = piece.count(b"\n") - (old > 0 and piece.startswith(b"\n"))
        if b"\0" in piece or line_feeds != piece.count(b"\r\n"):
            return False
        line = self._line
        if line is None:
            return True
        if line_feeds:
            self._line = None
            return _REQUEST_LINE.match(self._buffer) is not None
        line += piece[old > 0 :]
        if _REQUEST_LINE_SO_FAR.fullmatch(line) is None:
            return line == b""
        # The method and the target as far as it has come need no second look.
        _, space, rest = line.partition(b" ")
        if space:
            _, space, version = rest.partition(b" ")
            line = b"G " + space + version
        self._line = line
        return True

    def _complete(self, head: bytes, tail: bytes) -> Upgrade | Response:
        line = _REQUEST_LINE.match(head)
        if line is None or b"\0" in head:
            return MALFORMED
        fields = head[line.end() : len(head) - 2]
        lines = fields.split(b"\r\n")
        lines.pop()
        # Splitting has counted the carriage returns with a line feed: of the lines, the request line and the end.
        if head.count(b"\n") != len(lines) + 2:
            return MALFORMED
        if len(lines) > self._limits.max_headers:
            return HEADERS_TOO_MANY
        try:
            httptools.HttpRequestParser(_NoCallbacks).feed_data(head)
        except httptools.HttpParserUpgrade:
            pass  # the head is whole, and the bytes after it were not fed
        except httptools.HttpParserInvalidMethodError:
            return METHOD_REFUSED
        except httptools.HttpParserError:
            return MALFORMED
        # httptools has checked that each line is `name: value`.
        self._fields = fields
        method, target, minor = line.groups()
        seen: dict[bytes, bytes] = {}
        tokens: list[int] = []  # where their lines begin
        start = 0
        for field in lines:
            begins = start
            start += len(field) + 2
            name, _, value = field.partition(b":")
            name = name.lower()
            if name not in _KNOWN:
                continue
            if name == _AUTHORIZATION:
                tokens.append(begins)
            if name in seen:
                if name == _HOST:
                    return HOSTS_AMBIGUOUS
                if name in (_KEY, _VERSION):  # RFC 6455 11.3.1, 11.3.5
                    return FIELD_REPEATED
                if name in (_CONNECTION, _UPGRADE):
                    seen[name] += b"," + value
                    if seen[name].count(b",") >= MAX_LIST_ITEMS:
                        return ITEMS_TOO_MANY
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
        host = seen.get(_HOST)
        if host is not None and host != _usual_host[0]:
            if not is_host(host.strip()):
                return HOST_INVALID
            _usual_host[0] = host
        connection = seen.get(_CONNECTION, b"").lower()
        wanted = seen.get(_UPGRADE, b"").lower()
        if connection.count(b",") >= MAX_LIST_ITEMS or wanted.count(b",") >= MAX_LIST_ITEMS:
            return ITEMS_TOO_MANY
        # RFC 9110 7.8: an Upgrade in an HTTP/1.0 request is ignored.
        if (
            method == b"GET"
            and _has_item(connection, b"upgrade")
            and minor == b"1"
            and path not in OWN_PATHS
            and _has_item(wanted, b"websocket")
        ):
            return self._upgrade(path, query, seen, tokens, tail)
        is_route = self._find_route(path, host or b"") is not None
        return self._plain(method, path, is_route, minor == b"1" and not _has_item(connection, b"close"))

    def _upgrade(
        self, path: str, query: str, seen: dict[bytes, bytes], tokens: list[int], tail: bytes
    ) -> Upgrade | Response:
        host = seen.get(_HOST, b"")
        found = self._find_route(path, host)
        if found is None:
            return PATH_UNKNOWN
        route, values = found
        if not host.strip():
            return HOST_MISSING
        if seen.get(_VERSION, b"").strip() != b"13":
            return VERSION_UNKNOWN
        key = seen.get(_KEY, b"").strip()
        if _KEY_FORM.fullmatch(key) is None:
            return KEY_INVALID
        authorization = seen.get(_AUTHORIZATION)
        fields = self._fields
        if route.verifier is not None:  # the token is for the verifier alone
            for begins in reversed(tokens):
                fields = _without_line(fields, begins)
        return Upgrade(
            route,
            Request(path, query, Headers(fields), self._remote, values, route.name),
            key,
            None if authorization is None else authorization.decode("latin-1").strip(),
            tail,
        )

    def _plain(self, method: bytes, path: str, is_websocket_path: bool, keep_alive: bool) -> Response:
        # A missing Host is accepted, against RFC 9112 3.2 and unlike in upgrades: simple health checks omit it.
        if path in OWN_PATHS:
            forms = self._check(method, path)
        elif method == b"OPTIONS":
            # HAProxy's `option httpchk` without arguments sends OPTIONS / and expects a 2xx.
            forms = OPTIONS_ALLOWED if is_websocket_path or path in ("/", "*") else NOT_FOUND
        elif is_websocket_path:
            forms = UPGRADE_REQUIRED
        else:
            forms = NOT_FOUND
        keep_alive = keep_alive and self._answered < self._limits.max_pipelined
        return forms[2 * keep_alive + (method == b"HEAD")]

    def _check(self, method: bytes, path: str) -> Forms:
        """Return the answer to a check of health, readiness or availability."""
        obstacle = self._obstacle()
        if path == AVAILABLE_PATH:
            return AVAILABILITY[obstacle]
        if path == READY_PATH:
            return NOT_READY if obstacle == DRAINING else READY
        if method == b"OPTIONS":
            return OPTIONS_ALLOWED
        return HEALTHY_DRAINING if obstacle == DRAINING else HEALTHY


def _without_line(fields: bytes, start: int) -> bytes:
    """Return header lines without the one that begins at `start`."""
    return fields[:start] + fields[fields.index(b"\n", start) + 1 :]


def _has_item(value: bytes, item: bytes) -> bool:
    """Return whether a list has an item; both in lower case."""
    return value.strip() == item or (b"," in value and any(each.strip() == item for each in value.split(b",")))


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
