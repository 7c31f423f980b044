"""A provider of LLM answers that costs little: ready-made events, all paced by one timer, without an HTTP library.

It runs in the process of the callers, so that provider and callers together leave a core more room than a server does.
The last question of a request says what is answered: `short-N` three tokens at once, `long-N` tokens without an end,
`say-N-COUNT` that many tokens. N spreads the streams over the milliseconds.
"""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass
from typing import Any

from bench.load.frames import HEAD_END
from tests.providers import APIS, BASES, Script
from tests.providers.api import Api, Asked

__all__ = ["TOKENS_PER_S", "WORD", "LightProvider"]

TOKENS_PER_S = 50.0
WORD = "morning "
"""Each token's text."""
_TICK_S = 0.001
_TICKS = int(1 / TOKENS_PER_S / _TICK_S)
_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n"
    b"x-request-id: req_0001\r\n\r\n"
)
_QUESTION = re.compile(rb"\b(short|long|say)-(\d+)(?:-(\d+))?")
_BY_PATH = [(re.compile(re.sub(r"{\w+}", "([^/]+)", f"/{api.name}{path}")), api) for api in APIS for path in api.paths]


def _api_of(path: str) -> Api:
    """Return the API that has a path, which may have a query."""
    path = path.partition("?")[0]
    return next(api for pattern, api in _BY_PATH if pattern.fullmatch(path))


def _chunk(data: bytes) -> bytes:
    """Frame bytes for a chunked body (RFC 9112, 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


@dataclass(frozen=True)
class _Answer:
    """An API's answer as it goes on the wire: before the first text, some texts, and its end."""

    opening: bytes
    tokens: tuple[bytes, ...]
    closing: bytes

    @classmethod
    def of(cls, path: str) -> _Answer:
        """Make the answer to a request for a path, which is an API's own."""
        events = list(_api_of(path).events(Script(text=(WORD,) * 64), Asked(model="fake")))
        is_text = [event.tokens > 0 for event in events]
        first, last = is_text.index(True), len(events) - is_text[::-1].index(True)
        return cls(
            b"".join(_chunk(event.data) for event in events[:first]),
            tuple(_chunk(event.data) for event in events[first:last]),
            b"".join(_chunk(event.data) for event in events[last:]) + _chunk(b""),
        )


class Request(asyncio.Protocol):
    """A connection of the server's LLM client: one request after the other.

    Attributes:
        sent_s: the times of the tokens, on the monotonic clock.
        count: the tokens of this answer so far.
        most: the tokens at which it ends; None: without an end.
        is_open: whether the client listens.
    """

    def __init__(self, provider: LightProvider) -> None:
        self._provider = provider
        self._data = b""
        self._transport: Any = None
        self._answer: _Answer | None = None
        self.sent_s: list[float] = []
        self.count = 0
        self.most: int | None = None
        self.is_open = True

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, end, body = self._data.partition(HEAD_END)
        if not end:
            return
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        if len(body) < int(fields[b"content-length"]):
            return
        self._data = b""
        path = head.split(b" ", 2)[1]
        self._answer = self._provider.answer(path.decode())
        *_, (kind, number, count) = _QUESTION.findall(path + b" " + body)
        self._transport.write(_HEAD + self._answer.opening)
        if kind == b"short":
            self._transport.write(b"".join(self._answer.tokens[:3]) + self._answer.closing)
        else:
            self.count, self.most = 0, int(count) if count else None
            self._provider.begin(self, int(number))

    def send_token(self, now_s: float) -> bool:
        """Write the next token, and the end after the last one; return whether there are more."""
        assert self._answer is not None
        self._transport.write(self._answer.tokens[self.count % len(self._answer.tokens)])
        self.count += 1
        self.sent_s.append(now_s)
        if self.count != self.most:
            return True
        self._transport.write(self._answer.closing)
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self.is_open = False


class LightProvider:
    """Streams paced by one timer: a token of each in 20 ms, spread over the milliseconds.

    Attributes:
        streams: the latest request by the number of its question.
        origin: the address, as http://127.0.0.1:PORT.
    """

    def __init__(self) -> None:
        self.streams: dict[int, Request] = {}
        self._slots: list[list[Request]] = [[] for _ in range(_TICKS)]
        self._answers: dict[str, _Answer] = {}
        self._loop = asyncio.get_running_loop()
        self._start_s = self._loop.time()
        self._ticks = 0
        self._server: asyncio.Server | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.origin = ""

    async def open(self) -> None:
        """Listen, and begin to tick."""
        self._server = await self._loop.create_server(lambda: Request(self), "127.0.0.1", 0)
        self.origin = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        self._tick()

    def close(self) -> None:
        """Stop."""
        if self._timer is not None:
            self._timer.cancel()
        if self._server is not None:
            self._server.close()

    def base_url(self, api: str) -> str:
        """The base URL that an API's package is given."""
        return f"{self.origin}/{api}{BASES[api]}"

    def answer(self, path: str) -> _Answer:
        """The answer to a request for a path."""
        if path not in self._answers:
            self._answers[path] = _Answer.of(path)
        return self._answers[path]

    def begin(self, request: Request, number: int) -> None:
        """Stream to a request from now on."""
        self.streams[number] = request
        self._slots[number % _TICKS].append(request)

    def _tick(self) -> None:
        # A tick that comes late is followed by those that it delayed.
        now_s = self._loop.time()
        while self._start_s + self._ticks * _TICK_S <= now_s:
            slot = self._ticks % _TICKS
            now = time.monotonic()
            self._slots[slot] = [
                request for request in self._slots[slot] if request.is_open and request.send_token(now)
            ]
            self._ticks += 1
        self._timer = self._loop.call_at(self._start_s + self._ticks * _TICK_S, self._tick)
