"""The parts of aiohttp that a tap needs (`_reader_tap`): the connection under the reader of a response's body."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Mapping
from typing import Any

from se_server.streams._reader_tap import ReaderTap
from se_server.streams._takeover import Takeover
from se_server.streams.forms import identity

AS_IT_IS = (None, "", "identity")
# A tap begins when it finds that it may, and not after a number of bytes.
WHEN_IT_MAY = -2
READER = ("_protocol", "_http_chunk_splits", "_buffer", "_timer", "total_bytes", "is_eof", "exception", "set_exception")
PROTOCOL = ("_reading_paused", "_read_timeout", "_drop_timeout", "_on_read_timeout", "start_timeout", "data_received")


class AiohttpClient:
    """A connection of aiohttp, below the reader of a body that comes in chunks; see `_reader_tap.ReaderClient`."""

    tls = None

    def __init__(self, content: Any) -> None:
        self.content = content
        self.protocol = content._protocol
        self.transport = self.protocol.transport
        self.read_timeout_s: float | None = self.protocol._read_timeout
        self.time_out = False

    def is_read(self) -> bool:
        """Return whether the reader has nothing left, and can go on."""
        content = self.content
        return not content._buffer and content.exception() is None and not content.is_eof()

    def has_counted_chunk(self) -> bool:
        """Return whether the last thing that the reader has counted is the end of a chunk."""
        ends = self.content._http_chunk_splits
        return bool(ends) and ends[-1] == self.content.total_bytes and not self.protocol._reading_paused

    async def wait(self, waiter: Awaitable[None]) -> None:
        """Wait for a future, within the limit of the request."""
        with self.content._timer:
            await waiter

    def stop_timeout(self) -> None:
        """Stop the timer of reads."""
        self.protocol._drop_timeout()

    def start_timeout(self) -> None:
        """Start it again, or end it at once with `time_out`."""
        if self.time_out:
            self.protocol._on_read_timeout()
        elif not self.transport.is_closing():
            self.protocol.start_timeout()

    def received(self) -> list[bytes]:
        """Return nothing: aiohttp keeps no bytes before its parser."""
        return []

    def receive(self, data: bytes) -> None:
        """Give aiohttp's parser bytes of the body's framing."""
        self.protocol.data_received(data)

    def restore(self, pauses: bool) -> None:
        """Give aiohttp its transport back, which it always reads while its reader has room."""
        if not pauses and not self.transport.is_closing():
            self.transport.resume_reading()

    def timeout(self) -> Exception:
        """Return the exception of a read that took too long; it is raised by the reader."""
        raise NotImplementedError

    def end_reader(self) -> None:
        """End a reader whose connection is lost: aiohttp leaves it waiting where the framing of a chunk was wrong."""
        content = self.content
        if content.exception() is None and not content.is_eof():
            error = sys.modules["aiohttp"].ClientPayloadError
            content.set_exception(error("Response payload is not completed: the framing of a chunk is wrong"))


def tap_reader(takeover: Takeover, content: Any, headers: Mapping[str, str]) -> None:
    """Put a tap on the connection under aiohttp's reader, where it is one that was tested."""
    if identity(type(content)) != ("aiohttp", "StreamReader") or not all(hasattr(content, name) for name in READER):
        return
    if headers.get("transfer-encoding", "").lower() != "chunked" or headers.get("content-encoding") not in AS_IT_IS:
        return
    protocol = content._protocol
    if type(protocol).__name__ != "ResponseHandler" or not all(hasattr(protocol, name) for name in PROTOCOL):
        return
    if not hasattr(protocol.transport, "set_protocol"):
        return
    takeover.set_tap(ReaderTap(takeover, AiohttpClient(content)), WHEN_IT_MAY)
