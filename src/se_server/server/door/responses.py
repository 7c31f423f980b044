"""The HTTP responses of the door: short constants, the same for every peer.

A refusal does not reveal its reason, which goes to the log. Readiness and availability are the exceptions: their bodies
name the obstacle.
"""

from __future__ import annotations

from typing import NamedTuple

from se_server.server.door.admission import DRAINING, OVERLOADS

Forms = tuple["Response", "Response", "Response", "Response"]
"""The four forms of one response; the index is `2 * keep_alive + head_only`."""


class Response(NamedTuple):
    """A whole HTTP response.

    Attributes:
        status: the status code.
        data: the bytes to send.
        keep_alive: whether the connection accepts another request afterwards.
        reason: the reason of a refusal, for the log; empty if the request was not refused. Independent of the request's
            content.
    """

    status: int
    data: bytes
    keep_alive: bool
    reason: str


_WEBSOCKET_ONLY = b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
# Envoy takes a server with this header out of service at once, without waiting for further failed checks.
_ENVOY_DRAIN = b"x-envoy-immediate-health-check-fail: true\r\n"
_METHODS_ALLOWED = b"Allow: GET, HEAD, OPTIONS\r\n"


def _response(status: bytes, body: bytes, fields: bytes, *, keep_alive: bool, head_only: bool = False) -> bytes:
    if b"Content-Type:" not in fields:
        fields += b"Content-Type: text/plain\r\n"
    # RFC 9110 7.8: a sender of Upgrade names it in Connection as well.
    options = b", ".join(
        option for option, given in ((b"Upgrade", b"Upgrade:" in fields), (b"close", not keep_alive)) if given
    )
    return b"HTTP/1.1 %b\r\n%b%bContent-Length: %d\r\n\r\n%b" % (
        status,
        b"Connection: %b\r\n" % options if options else b"",
        fields,
        len(body),
        b"" if head_only else body,
    )


def _refusal(status: bytes, reason: str, fields: bytes = b"") -> Response:
    body = status[4:].lower() + b"\n"
    return Response(int(status[:3]), _response(status, body, fields, keep_alive=False), False, reason)


def _plain(status: bytes, body: bytes, fields: bytes = b"", reason: str = "") -> Forms:
    """Make the four forms of one response."""
    close, close_head, keep, keep_head = (
        Response(
            int(status[:3]),
            _response(status, body, fields, keep_alive=keep_alive, head_only=head_only),
            keep_alive,
            reason,
        )
        for keep_alive in (False, True)
        for head_only in (False, True)
    )
    return close, close_head, keep, keep_head


MALFORMED = _refusal(b"400 Bad Request", "malformed request")
HOSTS_AMBIGUOUS = _refusal(b"400 Bad Request", "several Host headers")
HOST_INVALID = _refusal(b"400 Bad Request", "Host is not a host with or without a port")
HOST_MISSING = _refusal(b"400 Bad Request", "upgrade without a Host header")
FIELD_REPEATED = _refusal(b"400 Bad Request", "a Sec-WebSocket header that may come once came twice")
KEY_INVALID = _refusal(b"400 Bad Request", "no valid Sec-WebSocket-Key")
TOKEN_REFUSED = _refusal(b"401 Unauthorized", "token refused", b"WWW-Authenticate: Bearer\r\n")
# The same bytes as for the token: a stranger does not learn which of the two secrets was wrong.
HEADER_REFUSED = TOKEN_REFUSED._replace(reason="required header missing or wrong")
ADDRESS_REFUSED = _refusal(b"403 Forbidden", "address not allowed")
PATH_UNKNOWN = _refusal(b"404 Not Found", "upgrade on an unknown path")
METHOD_REFUSED = _refusal(b"405 Method Not Allowed", "method not allowed", _METHODS_ALLOWED)
HEAD_LATE = _refusal(b"408 Request Timeout", "no whole request head in time")
BODY_REFUSED = _refusal(b"413 Content Too Large", "request with a body")
VERSION_UNKNOWN = _refusal(b"426 Upgrade Required", "Sec-WebSocket-Version is not 13", _WEBSOCKET_ONLY)
FAILED_TOO_OFTEN = _refusal(
    b"429 Too Many Requests", "too many failed handshakes of one address", b"Retry-After: 1\r\n"
)
HEAD_TOO_LARGE = _refusal(b"431 Request Header Fields Too Large", "request head too large")
HEADERS_TOO_MANY = _refusal(b"431 Request Header Fields Too Large", "too many headers")
ITEMS_TOO_MANY = _refusal(b"431 Request Header Fields Too Large", "too many items in Connection or Upgrade")
UNAVAILABLE = _refusal(b"503 Service Unavailable", "out of descriptors", b"Retry-After: 1\r\n")

HEALTHY = _plain(b"200 OK", b"ok\n", b"Cache-Control: no-store\r\n")
HEALTHY_DRAINING = _plain(b"200 OK", b"ok\n", b"Cache-Control: no-store\r\n" + _ENVOY_DRAIN)
OPTIONS_ALLOWED = _plain(b"200 OK", b"", _METHODS_ALLOWED)
NOT_FOUND = _plain(b"404 Not Found", b"not found\n", reason="no such path")
UPGRADE_REQUIRED = _plain(
    b"426 Upgrade Required", b"upgrade required\n", _WEBSOCKET_ONLY, "no WebSocket upgrade on the WebSocket path"
)

# --- overload, readiness, availability ------------------------------------------------------------------------------

SATURATED = {
    limit: _refusal(b"503 Service Unavailable", f"saturated ({limit})", b"Retry-After: 1\r\n") for limit in OVERLOADS
}


def _check(status: bytes, body: bytes, fields: bytes = b"") -> Forms:
    return _plain(status, body + b"\n", fields + b"Cache-Control: no-store\r\nContent-Type: application/json\r\n")


READY = _check(b"200 OK", b'{"ready":true}')
NOT_READY = _check(b"503 Service Unavailable", b'{"ready":false,"reason":"draining"}', _ENVOY_DRAIN)

AVAILABILITY = {
    "": _check(b"200 OK", b'{"available":true}'),
    DRAINING: _check(b"503 Service Unavailable", b'{"available":false,"reason":"draining"}', _ENVOY_DRAIN),
    **{
        limit: _check(
            b"503 Service Unavailable",
            b'{"available":false,"reason":"saturated","limit":"%b"}' % limit.encode(),
            b"Retry-After: 1\r\n",
        )
        for limit in OVERLOADS
    },
}
"""Availability responses by obstacle; the empty key means available. Of the obstacles only a drain denies readiness: a
full server has the most conversations to lose, and platforms remove servers that are not ready first."""
