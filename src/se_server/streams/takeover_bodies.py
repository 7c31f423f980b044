"""Reads the bodies of LLM packages' responses in their place, and gives them back.

A body that nothing decodes is read below the response: from the connection itself (`_tap`) where the HTTP client is
httpcore's over asyncio, or aiohttp (`takeover_reader`), else from the response's own stream of bytes.
Each of these is recognised by the classes and attributes that were tested; anything else is read a step higher.
"""

from __future__ import annotations

import sys
import warnings
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from se_server.streams._takeover import Takeover
from se_server.streams._tap import Tap
from se_server.streams.forms import identity
from se_server.streams.takeover_reader import AS_IT_IS, tap_reader


class HttpxBody:
    """The body of a response of httpx or httpx2, which its package reads by `aiter_bytes`.

    Args:
        response: the response, of which nothing was read.
        iterate: returns the package's iterator of events, which reads what is left.
    """

    def __init__(self, response: Any, iterate: Callable[[], AsyncIterator[Any]]) -> None:
        self._response = response
        self._iterate = iterate
        self._pieces: Any = None
        self.reader = reader_of(response)
        self.ends_empty = self.reader is not None

    def read(self) -> Awaitable[bytes]:
        """Return an awaitable of the next piece."""
        if self.reader is not None:
            reading: Awaitable[bytes] = self.reader.readany()
            return reading
        next_piece: Awaitable[bytes] = self._iterator().__anext__()
        return next_piece

    def _iterator(self) -> Any:
        if self._pieces is None:
            response = self._response
            if self.reader is not None or response.headers.get("content-encoding") not in AS_IT_IS:
                self._pieces = type(response).aiter_bytes(response)
            else:
                response.is_stream_consumed = True
                self._pieces = response.stream.__aiter__()
        return self._pieces

    def give_back(self, rest: bytes, error: Exception | None) -> AsyncIterator[Any]:
        """Have the package read on; see `_takeover.Body`."""
        response, reader = self._response, self.reader
        if error is not None and reader is None and getattr(error, "_request", 0) is None:
            error.request = response.request  # type: ignore[attr-defined]

        async def aiter_bytes(chunk_size: int | None = None) -> AsyncIterator[bytes]:
            if rest:
                yield rest
            # What aiohttp has raised, it raises again; the package's transport translates it.
            if error is not None and reader is None:
                raise error
            async for piece in self._iterator():
                yield piece

        response.aiter_bytes = aiter_bytes
        return self._iterate()

    async def close(self, rest: AsyncIterator[Any] | None) -> None:
        """Close what reads the body."""
        for iterator in (rest, self._pieces):
            aclose = getattr(iterator, "aclose", None)
            if aclose is not None:
                await aclose()


class AiohttpBody:
    """The body of an aiohttp response, which its package reads from `content`."""

    ends_empty = True

    def __init__(self, response: Any, iterate: Callable[[], AsyncIterator[Any]]) -> None:
        self.reader = response.content
        self._iterate = iterate

    def read(self) -> Awaitable[bytes]:
        """Return an awaitable of the next piece."""
        reading: Awaitable[bytes] = self.reader.readany()
        return reading

    def give_back(self, rest: bytes, error: Exception | None) -> AsyncIterator[Any]:
        """Have the package read on; an exception of the reader comes again."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            self.reader.unread_data(rest)
        return self._iterate()

    async def close(self, rest: AsyncIterator[Any] | None) -> None:
        """Close the package's iterator."""
        aclose = getattr(rest, "aclose", None)
        if aclose is not None:
            await aclose()


class ResponseBody(AiohttpBody):
    """The body of an aiohttp response that user code passed.

    Args:
        response: the response, of which nothing was read.
        scan: returns the iterator of the events in the pieces of a body.
    """

    def __init__(self, response: Any, scan: Callable[[AsyncIterator[bytes]], AsyncIterator[Any]]) -> None:
        super().__init__(response, response.content.iter_any)
        self._scan = scan

    def give_back(self, rest: bytes, error: Exception | None) -> AsyncIterator[Any]:
        """Return the events of what is left; an exception of the reader comes again."""

        async def pieces() -> AsyncIterator[bytes]:
            if rest:
                yield rest
            async for piece in self.reader.iter_any():
                yield piece

        return self._scan(pieces())


def taken_over(body: HttpxBody | AiohttpBody, watch: int, response: Any) -> Takeover:
    """Return the takeover of a body, with a tap on its connection where it can have one."""
    takeover = Takeover(body, watch)
    reader = body.reader
    if reader is not None:
        tap_reader(takeover, reader, response.headers)
    else:
        client = client_of(response)
        if client is not None:
            tap = Tap(takeover, client)
            takeover.set_tap(tap, tap.skip(client.unparsed()))
    return takeover


def reader_of(response: Any) -> Any:
    """Return the reader of aiohttp under a response of httpx, None if there is none, or if the body is encoded."""
    if response.headers.get("content-encoding") not in AS_IT_IS:
        return None
    stream = response.stream
    inner = getattr(stream, "_stream", stream)
    if type(inner).__name__ != "AiohttpResponseStream":
        return None
    content = getattr(getattr(inner, "_aiohttp_response", None), "content", None)
    return content if identity(type(content)) == ("aiohttp", "StreamReader") else None


# --- the connection under a response of httpx ---------------------------------------------------------------------


class HttpcoreClient:
    """A connection of httpcore over anyio and asyncio whose response's body comes in chunks; see `_tap.Client`."""

    def __init__(self, response: Any, h11_state: Any, tls: TlsParts | None, socket_stream: Any) -> None:
        self._response = response
        self._h11 = h11_state
        self.tls = tls
        self.transport = socket_stream._transport
        self.protocol = socket_stream._protocol
        timeouts = response.request.extensions.get("timeout") or {}
        self.read_timeout_s: float | None = timeouts.get("read")

    def unparsed(self) -> bytes:
        """Return what httpcore has received after the response's head."""
        data: bytes = self._h11.trailing_data[0]
        return data

    def received(self) -> list[bytes]:
        """Take what anyio has received and not given to httpcore."""
        queue = self.protocol.read_queue
        pieces = list(queue)
        queue.clear()
        self.protocol.read_event.clear()
        return pieces

    def receive(self, data: bytes) -> None:
        """Give httpcore's parser bytes of the body's framing."""
        self._h11.receive_data(data)

    def restore(self, pauses: bool) -> None:
        """Give anyio its transport back, which it leaves paused while it does not read."""
        if pauses and not self.transport.is_closing():
            self.transport.pause_reading()
        self.transport.set_protocol(self.protocol)

    def timeout(self) -> Exception:
        """Return the exception of a read that took too long, as httpx raises it."""
        kind = sys.modules[identity(type(self._response))[0]].ReadTimeout
        error: Exception = kind("", request=self._response.request)
        return error


class TlsParts:
    """The TLS object of anyio, with its buffers."""

    def __init__(self, stream: Any) -> None:
        self.object = stream._ssl_object
        self.incoming = stream._read_bio
        self.outgoing = stream._write_bio


def client_of(response: Any) -> HttpcoreClient | None:
    """Return the connection under a response, None if it is not one that was tested."""
    if response.headers.get("transfer-encoding", "").lower() != "chunked":
        return None
    if response.headers.get("content-encoding") not in AS_IT_IS or "trace" in response.request.extensions:
        return None
    found: Any = response.stream
    chain = ("_stream", "_httpcore_stream", "_stream", "_connection")
    names = ("BoundAsyncStream", "AsyncResponseStream", "PoolByteStream", "HTTP11ConnectionByteStream")
    for name, attribute in zip(names, chain, strict=True):
        if type(found).__name__ != name:
            return None
        found = getattr(found, attribute, None)
    h11_state = getattr(found, "_h11_state", None)
    stream: Any = getattr(found, "_network_stream", None)
    if type(found).__name__ != "AsyncHTTP11Connection" or identity(type(h11_state)) != ("h11", "Connection"):
        return None
    if type(stream).__name__ != "AnyIOStream":
        return None
    stream = stream._stream
    tls = None
    if identity(type(stream)) == ("anyio", "TLSStream"):
        if not all(hasattr(stream, name) for name in ("_ssl_object", "_read_bio", "_write_bio")):
            return None
        tls = TlsParts(stream)
        stream = stream.transport_stream
    if identity(type(stream)) not in (("anyio", "SocketStream"), ("anyio", "UNIXSocketStream")):
        return None
    protocol = getattr(stream, "_protocol", None)
    if not hasattr(getattr(stream, "_transport", None), "set_protocol"):
        return None
    if not isinstance(getattr(protocol, "read_queue", None), deque) or not hasattr(protocol, "read_event"):
        return None
    return HttpcoreClient(response, h11_state, tls, stream)
