"""Reads HTTP responses as they are: their bytes go through the scanner, which knows all providers' streams.

A response is an object of httpx, httpx2, aiohttp, requests or urllib3, or one of its iterators of bytes, text or lines.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from se_server.streams._scan import Failure, Scanner, Usage
from se_server.streams.closing import closer_of
from se_server.streams.finished import finished_events
from se_server.streams.forms import Blocking, Events, Form, identity
from se_server.streams.takeover_bodies import ResponseBody, taken_over

# An error's body is a sentence or two; a page of HTML need not be read.
MAX_ERROR_BYTES = 64 * 1024
MAX_ERROR_CHARS = 300

HTTPX = ("httpx", "httpx2")
# How a response's events are watched: those of all APIs, with names and without; see `_scan.pxd`.
ANY_NAME = 1
# The generators that `httpx.Response` makes of its body, and whether they give one line at a time.
GENERATORS = {"aiter_bytes": False, "aiter_text": False, "aiter_raw": False, "aiter_lines": True}
BLOCKING_GENERATORS = {
    "iter_bytes": False,
    "iter_text": False,
    "iter_raw": False,
    "iter_lines": True,
    "generate": False,
    "stream": False,  # requests' iter_content, urllib3's stream
}
BLOCKING_PACKAGES = (*HTTPX, "requests", "urllib3")

Piece = Any  # bytes or str


class Body:
    """The texts and other events in a body, which comes piece by piece.

    A body that is one JSON object is a result that was not streamed, or an error; it is read to its end first.
    """

    def __init__(self, content_type: str | None, status: int, *, is_lines: bool = False) -> None:
        kind = (content_type or "").partition(";")[0].strip().lower()
        self.status = status
        self._scanner = Scanner()
        self._feed = self._scanner.feed_line if is_lines else self._scanner.feed
        self._is_lines = is_lines
        self._is_stream = kind == "text/event-stream"
        self._may_be_whole = kind == "application/json"
        self._kept = bytearray()

    @property
    def is_failure(self) -> bool:
        """Whether the status says that the body is not an answer."""
        return not 200 <= self.status < 300

    @property
    def is_stream(self) -> bool:
        """Whether it is an event stream for certain."""
        return self._is_stream and not self.is_failure

    @property
    def is_full(self) -> bool:
        """Whether nothing more of a failure's body is read."""
        return self.is_failure and len(self._kept) >= MAX_ERROR_BYTES

    def feed(self, piece: Piece) -> list[Any]:
        """Take a piece; return the events in it."""
        if self.is_failure or self._may_be_whole:
            return self._keep(piece)
        events: list[Any] = self._feed(piece)
        if self.usage is not None and events and isinstance(events[-1], Failure):
            events.insert(-1, self.usage)  # nothing after a failure is taken
        return events

    @property
    def usage(self) -> Usage | None:
        """The tokens that the stream has counted so far."""
        return self._scanner.usage

    def finish(self) -> list[Any]:
        """Return the events that the end of the body leaves."""
        if self.is_failure:
            return [failure_of(self.status, bytes(self._kept))]
        events: list[Any] = []
        if self._may_be_whole and self._kept:
            whole = finished_body(bytes(self._kept))
            if whole is not None:
                return whole
            events += self._scanner.feed(bytes(self._kept))
        events += self._scanner.finish()
        if self.usage is not None:
            events.append(self.usage)
        return events

    def _keep(self, piece: Piece) -> list[Any]:
        data = piece.encode() if isinstance(piece, str) else piece
        if self._is_lines:
            data = bytes(data).rstrip(b"\r\n") + b"\n"
        self._kept += data
        first = bytes(self._kept[:64].lstrip()[:1])
        if self.is_failure or first in (b"", b"{"):
            return []
        # Gemini streams an array under the same content type.
        self._may_be_whole = False
        kept, self._kept = bytes(self._kept), bytearray()
        return self._scanner.feed(kept)


def failure_of(status: int, body: bytes) -> Failure:
    """Return the failure that an error's body describes, in the provider's own words."""
    scanner = Scanner("ndjson")
    for event in (*scanner.feed(body), *scanner.finish()):
        if isinstance(event, Failure) and event.kind == "error":
            return Failure("error", f"HTTP {status}: {event.message}", event.code or str(status))
    try:
        message = _message_in(json.loads(body))
    except ValueError:
        message = None
    text = message or body.decode("utf-8", "replace").strip() or "the body is empty"
    return Failure("error", f"HTTP {status}: {text[:MAX_ERROR_CHARS]}", str(status))


def _message_in(value: Any) -> str | None:
    if isinstance(value, list):
        return _message_in(value[0]) if value else None
    if not isinstance(value, dict):
        return value if isinstance(value, str) else None
    for name in ("error", "message", "Message", "detail", "errors"):
        if value.get(name):
            return _message_in(value[name]) or str(value[name])
    return None


def finished_body(body: bytes) -> list[Any] | None:
    """Return the events of a result that was not streamed; None if the body is none."""
    try:
        return finished_events(json.loads(body))
    except ValueError:
        return None


async def scan(body: Body, pieces: AsyncIterator[Piece]) -> AsyncIterator[Any]:
    """Yield the events of a body."""
    try:
        async for piece in pieces:
            for event in body.feed(piece):
                yield event
            if body.is_full:
                break
    except Exception:
        if body.usage is not None:
            yield body.usage
        raise
    for event in body.finish():
        yield event


def scan_blocking(body: Body, pieces: Iterator[Piece]) -> Iterator[Any]:
    """Yield the events of a body whose pieces block."""
    for piece in pieces:
        yield from body.feed(piece)
        if body.is_full:
            break
    yield from body.finish()


# --- responses ------------------------------------------------------------------------------------------------------


def take_httpx(opening: Any, response: Any) -> object:
    """Take a `Response` of httpx or httpx2; one of a blocking client is read in a thread."""
    if not hasattr(type(getattr(response, "stream", None)), "__aiter__"):
        return Blocking(response)
    opening.closers.append(closer_of(response))
    return Events(scan(body_of(response), response.aiter_bytes()))


def take_aiohttp(opening: Any, response: Any) -> Events:
    """Take a `ClientResponse` of aiohttp."""
    opening.closers.append(closer_of(response))
    body = Body(response.headers.get("content-type"), response.status)
    if (read := getattr(response, "_body", None)) is not None:
        return Events(scan(body, _of_list([read])))
    if body.is_stream and opening.takes_over:
        return Events(taken_over(ResponseBody(response, lambda pieces: scan(body, pieces)), ANY_NAME, response))
    return Events(scan(body, response.content.iter_any()))


def take_aiohttp_content(opening: Any, content: Any) -> Events:
    """Take the `content` of an aiohttp response, which has no `close`: its connection is closed."""
    opening.closers.append(_connection_closer(content))
    return Events(scan(Body(None, 200), content.iter_any()))


def take_aiohttp_iterator(opening: Any, iterator: Any) -> Events:
    """Take an iterator that the `content` of an aiohttp response made."""
    content = _content_of(iterator)
    opening.closers.append(_connection_closer(content))
    pieces = _first_of_pairs(iterator) if hasattr(iterator, "_stream") else iterator
    return Events(scan(Body(None, 200), pieces))


def _content_of(iterator: Any) -> Any:
    """Return the `content` that an iterator of it reads: it has a method of it, or a function around one."""
    read = getattr(iterator, "read_func", None)
    cells = getattr(read, "__closure__", None) or ()
    around = (cell.cell_contents for cell in cells if identity(type(cell.cell_contents))[1] == "StreamReader")
    return getattr(read, "__self__", None) or getattr(iterator, "_stream", None) or next(around, None)


def take_sse_source(opening: Any, source: Any) -> object:
    """Take the `EventSource` of httpx-sse: its response is read."""
    return source.response


class _connection_closer:
    target_name = "aiohttp.StreamReader"

    def __init__(self, content: Any) -> None:
        self._content = content

    def __call__(self, error: BaseException | None) -> None:
        protocol = getattr(self._content, "_protocol", None)
        # A body that was read to its end has given its connection back.
        if protocol is not None and not self._content.is_eof():
            protocol.close()


async def _of_list(pieces: list[Piece]) -> AsyncIterator[Piece]:
    for piece in pieces:
        yield piece


async def _first_of_pairs(iterator: AsyncIterator[Any]) -> AsyncIterator[Piece]:
    async for piece, _ in iterator:
        yield piece


def body_of(response: Any, *, is_lines: bool = False) -> Body:
    """Return the empty body of a response, by its status and content type."""
    status = getattr(response, "status_code", None) or getattr(response, "status", None) or 200
    headers = getattr(response, "headers", None) or {}
    return Body(headers.get("content-type"), status, is_lines=is_lines)


def form_of_generator(generator: Any) -> Form | None:
    """Return the form of an async generator that a response made of its body, None for all others."""
    is_lines = GENERATORS.get(generator.__name__)
    if is_lines is None or generator.ag_frame is None:
        return None
    if generator.ag_frame.f_globals.get("__name__", "").partition(".")[0] not in HTTPX:
        return None
    response = generator.ag_frame.f_locals.get("self")

    def take(opening: Any, pieces: Any) -> Events:
        opening.closers += [closer_of(response), closer_of(pieces)]
        return Events(scan(body_of(response, is_lines=is_lines), pieces))

    return take


# --- those that block -----------------------------------------------------------------------------------------------


def blocking_body(value: Any) -> Iterator[Any] | None:
    """Return the events of a response that blocks, or of one of its iterators; None for all other objects."""
    package, name = identity(type(value))
    if name == "Response" and package in HTTPX:
        return scan_blocking(body_of(value), value.iter_bytes())
    if name == "Response" and package == "requests":
        return scan_blocking(body_of(value), value.iter_content(None))
    if name in ("HTTPResponse", "BaseHTTPResponse") and package == "urllib3":
        return scan_blocking(body_of(value), value.stream(2**16))
    if name == "HTTPResponse" and package == "http":  # urllib.request
        return scan_blocking(body_of(value), iter(lambda: value.read1(2**16), b""))
    if name == "StreamingBody" and package == "botocore":
        return scan_blocking(Body("application/json", 200), value.iter_chunks(2**16))
    frame = getattr(value, "gi_frame", None)
    is_lines = BLOCKING_GENERATORS.get(getattr(value, "__name__", ""))
    if frame is None or is_lines is None:
        return None
    if frame.f_globals.get("__name__", "").partition(".")[0] not in BLOCKING_PACKAGES:
        return None
    return scan_blocking(body_of(frame.f_locals.get("self"), is_lines=is_lines), value)


FORMS: Mapping[tuple[str, str], Form] = {
    **dict.fromkeys(((package, "Response") for package in HTTPX), take_httpx),
    ("aiohttp", "ClientResponse"): take_aiohttp,
    ("aiohttp", "StreamReader"): take_aiohttp_content,
    ("aiohttp", "AsyncStreamIterator"): take_aiohttp_iterator,
    ("aiohttp", "ChunkTupleAsyncStreamIterator"): take_aiohttp_iterator,
    ("httpx_sse", "EventSource"): take_sse_source,
}
