"""Request heads: cuts do not change the outcome, and no request is accepted that h11 reads differently.

An input is two bytes that choose the path served and the pieces, and then the bytes of a connection.
"""

from __future__ import annotations

import re
from typing import Any

import h11

from se_server.server.door.handshake import Handshake, Upgrade
from se_server.server.door.limits import Limits
from se_server.server.door.responses import MALFORMED, Response
from tests.doors import make_routes

LIMITS = Limits(max_head_bytes=1024, max_headers=12)
PATHS = ("/call", None, "/", "/health")
MAX_REQUESTS = 8

_PLAIN_LINES = re.compile(rb"(?:[^\x00-\x1f\x7f]|\t)*")


def one_input(data: bytes) -> None:
    path, seed, stream = PATHS[(data[0] if data else 0) % len(PATHS)], (data[1] if len(data) > 1 else 0), data[2:]
    whole = outcomes(path, [stream])
    assert whole == outcomes(path, [stream[i : i + 1] for i in range(len(stream))]), (whole, "byte by byte")
    assert whole == outcomes(path, cut(stream, seed)), (whole, cut(stream, seed))
    compare(path, stream, whole)


def cut(stream: bytes, seed: int) -> list[bytes]:
    pieces = []
    while stream:
        seed = (seed * 69069 + 1) & 0xFFFFFFFF
        count = 1 + (seed >> 12) % 40
        pieces.append(stream[:count])
        stream = stream[count:]
    return pieces


def outcomes(path: str | None, pieces: list[bytes]) -> list[Any]:
    """Return the outcomes of a connection's requests as plain values; the last is None while one is incomplete."""
    handshake = Handshake(make_routes(path), LIMITS, "peer")
    found: list[Any] = []
    outcome: Upgrade | Response | None = None
    for i, piece in enumerate(pieces):
        outcome = handshake.feed(piece)
        while isinstance(outcome, Response):
            found.append((outcome, handshake.path))
            if not outcome.keep_alive or len(found) == MAX_REQUESTS:
                return found
            outcome = handshake.feed(b"")
        if outcome is not None:
            request = outcome.request
            tail = outcome.tail + b"".join(pieces[i + 1 :])
            headers = list(request.headers.items_raw())
            found.append((request.path, request.query, headers, outcome.websocket_key, outcome.authorization, tail))
            return found
    return [*found, None]


def compare(path: str | None, stream: bytes, whole: list[Any]) -> None:
    """Compare the first request with that of h11, which is laxer: h11 must read the same request."""
    stream = stream.lstrip(b"\r\n")
    end = stream.find(b"\r\n\r\n") + 4
    if end < 4:
        return
    head = stream[:end]
    theirs, why = read(head)
    ours = whole[0]
    is_upgrade = ours is not None and len(ours) == 6
    if is_upgrade or (ours is not None and ours[0].reason == ""):
        assert theirs is not None or (not is_upgrade and "Host" in why), (ours, why)
    if theirs is None:
        return
    target = theirs.target.decode("latin-1")
    if is_upgrade:
        assert (theirs.method, theirs.http_version) == (b"GET", b"1.1")
        assert not theirs.target.startswith(b"/") or ours[0] + "?" * ("?" in target) + ours[1] == target, (ours, target)
        assert path is None or ours[0] == path
        assert [(name.lower(), value) for name, value in ours[2]] == [
            (name.decode("latin-1"), value.decode("latin-1")) for name, value in theirs.headers
        ]
        assert stream.endswith(ours[5])
        assert len(stream) == end + len(ours[5])
    elif ours is not None and ours[0] is MALFORMED:
        assert not is_plain(head, theirs), (head, theirs)


def read(head: bytes) -> tuple[h11.Request | None, str]:
    peer = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    peer.receive_data(head)
    try:
        event = peer.next_event()
    except h11.RemoteProtocolError as error:
        return None, str(error)
    return (event, "") if isinstance(event, h11.Request) else (None, repr(event))


def is_plain(head: bytes, request: h11.Request) -> bool:
    """Whether a head has nothing that this server refuses on purpose, although others allow or forgive it."""
    lines = head[:-4].split(b"\r\n")
    return (
        all(_PLAIN_LINES.fullmatch(line) for line in lines)  # no bare CR or LF, no control characters
        and not any(line[:1] in b" \t" for line in lines[1:])  # no folded header lines
        and request.method.isupper()
        and request.method.isalpha()
        and len(request.method) <= 16
        and request.http_version in (b"1.0", b"1.1")
        and request.target.startswith(b"/")
        and b"#" not in request.target
        and request.target.isascii()
        and head.lower().count(b"\ncontent-length:") <= 1  # RFC 9110, 8.6, lets a server refuse equal ones, too
        # RFC 9112, 6.1, lets a server refuse a request with both.
        and not all(field in head.lower() for field in (b"\ncontent-length:", b"\ntransfer-encoding:"))
    )
