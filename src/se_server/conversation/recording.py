"""The parts of a recording that a conversation writes seldom: its upgrade request, and exceptions of user code.

Its messages are written where they are read and sent (`_recorded.pyx`).
"""

from __future__ import annotations

import re
import traceback
from urllib.parse import parse_qsl, urlencode

import orjson

from se_server.conversation.naming import is_users_file
from se_server.telemetry._printable import text_of
from se_server.telemetry._ring import ERROR, Ring
from se_server.telemetry._tape import ERROR as TAPED_ERROR
from se_server.types import Request

HIDDEN = "[hidden]"
MAX_ERROR_CHARACTERS = 4096
_MAX_FRAMES = 8
_SECRET_NAME = re.compile(
    r"auth|token|secret|cookie|passw|pwd|credential|signature|session|jwt|api[-_]?key|(^|[-_])(key|sig|code)($|[-_])",
    re.IGNORECASE,
)
_SECRET_VALUE = re.compile(
    r"\beyJ[\w-]{5,}\.[\w-]+\.[\w-]*|\bsk[_-][\w-]{8,}|^(?:bearer|basic|digest|token)\s+\S|\S+:\S+@", re.IGNORECASE
)
_LEFT_OUT = {
    "upgrade", "connection", "sec-websocket-key", "sec-websocket-version", "sec-websocket-extensions",
    "sec-websocket-protocol", "host",
}  # fmt: skip

_secret_headers: set[str] = set()


def hide_headers(names: set[str]) -> None:
    """Leave the values of these headers out of recordings, beside those whose names tell that they are secret."""
    _secret_headers.update(name.lower() for name in names)


def record_error(ring: Ring, number: int, error: BaseException, now: float) -> None:
    """Note an exception of user code: its class in the ring, its text and its place on the tape."""
    ring.text(ERROR, number, type(error).__name__, now)
    if ring.tape is not None:
        text = text_of(error)[:MAX_ERROR_CHARACTERS]
        entry = {"class": type(error).__name__, "text": text, "frames": _frames(error)}
        ring.tape.note(TAPED_ERROR, number, orjson.dumps(_sound(entry)), now)


def _frames(error: BaseException) -> list[str]:
    """Return the places in user code that the exception came through, the innermost last."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if is_users_file(frame.filename)]
    return [f"{frame.filename}:{frame.lineno} in {frame.name}" for frame in frames[-_MAX_FRAMES:]]


def describe_upgrade(request: Request) -> bytes:
    """Return the upgrade request of a conversation as JSON, without secrets."""
    headers = [
        (name, _shown(name, value)) for name, value in request.headers.items_raw() if name.lower() not in _LEFT_OUT
    ]
    entry = {"path": request.path, "query": hide_query(request.query), "headers": headers}
    return orjson.dumps(_sound(entry))


def hide_query(query: str) -> str:
    """Return a query without the values of parameters that are secret."""
    pairs = parse_qsl(query, keep_blank_values=True, encoding="latin-1")
    if not any(_shown(name, value) is HIDDEN for name, value in pairs):
        return query
    return urlencode([(name, _shown(name, value)) for name, value in pairs], encoding="latin-1", safe="[]")


def _shown(name: str, value: str) -> str:
    from se_server.recordings.addresses import tokens  # programs that record nothing need none of its expressions

    is_secret = name.lower() in _secret_headers or _SECRET_NAME.search(name) or _SECRET_VALUE.search(value)
    return HIDDEN if is_secret or any(tokens(value)) else value


def _sound(value: object) -> object:
    """Return a value without lone surrogates, which JSON cannot hold."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list | tuple):
        return [_sound(item) for item in value]
    if isinstance(value, dict):
        return {key: _sound(item) for key, item in value.items()}
    return value
