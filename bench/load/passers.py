"""Callers with many short conversations, some of them interrupted, dropped or closed by the caller.

Canned bytes over raw connections, so that a session costs the generator less than the server.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from bench.kernel import BenchError
from bench.load.frames import CLOSE, HEAD_END, TEXT, client_frame, upgrade_request

__all__ = ["KINDS", "MIX", "Passers"]

AT_ONCE = 16
SESSION_TIMEOUT_S = 20.0
TOKEN_USED_S = 10.0
"""Interval of signing a new token: a token is valid for some minutes only."""

SERVER_CLOSE = b"\x88\x02\x03\xe8"  # CLOSE, 1000
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


def _text(**message: object) -> bytes:
    return client_frame(TEXT, json.dumps(message).encode())


def _ask(event_id: int, *said: str) -> bytes:
    entries = [{"role": ("user", "agent")[place % 2], "content": text} for place, text in enumerate(said)]
    return _text(type="user_transcript", user_transcript=entries, event_id=event_id)


def _final(event_id: int) -> bytes:
    return b'"event_id":%d,"is_final":true}' % event_id


_INIT = _text(type="init", conversation_id="conv_soak")
_BYE = _text(type="close")
_CLOSE = client_frame(CLOSE, b"\x03\xe8")
_CHUNK = b'"is_final":false}'
_END = b""  # the server's end of the connection

Step = tuple[bytes, bytes | None]
"""A message to send, and the answer to await before the next step; after None the caller is gone."""

_LEAVE: Step = (b"", None)

KINDS: dict[str, tuple[Step, ...]] = {
    "ended by the API": ((_INIT + _ask(1, "hello"), _final(1)), (_BYE, SERVER_CLOSE), (_CLOSE, _END)),
    "ended by a CLOSE": ((_INIT + _ask(1, "hello"), _final(1)), (_CLOSE, SERVER_CLOSE), (b"", _END)),
    "interrupted": (
        (_INIT + _ask(1, "wait"), _CHUNK),
        (_ask(2, "wait", "Well", "now?"), _final(2)),
        (_BYE, SERVER_CLOSE),
        (_CLOSE, _END),
    ),
    "dropped in an answer": ((_INIT + _ask(1, "wait"), _CHUNK),),
    "dropped at once": (),
}
"""The kinds of sessions, and the steps of each after its upgrade; at the end the caller resets."""

MIX = ("ended by the API",) * 16 + tuple(KINDS)[1:]
"""Of twenty sessions one of each kind, and the rest with the API's own ending."""


class Passers:
    """Runs sessions against one server, 16 at a time.

    Args:
        port: the server's port on 127.0.0.1.
        path: the WebSocket path.
        api_key: the key that signs tokens.
        kinds: the kinds of the sessions, in turn.

    Attributes:
        done: finished sessions by kind.
    """

    def __init__(self, port: int, path: str, api_key: str, kinds: Sequence[str] = MIX) -> None:
        self._port = port
        self._path = path
        self._api_key = api_key
        self._kinds = kinds
        self._upgrade = b""
        self._signed_at_s = -TOKEN_USED_S
        self.done = dict.fromkeys(KINDS, 0)

    async def run(self, sessions: int) -> None:
        """Run this many sessions to their end.

        Raises:
            BenchError: the server gave a wrong answer, or none in time.
        """
        numbers = iter(range(sessions))
        lines = [asyncio.create_task(self._line(numbers)) for _ in range(AT_ONCE)]
        try:
            await asyncio.gather(*lines)
        except (OSError, asyncio.TimeoutError) as error:
            raise BenchError(f"a session failed: {error!r}") from None
        finally:
            for line in lines:
                line.cancel()
            await asyncio.wait(lines)

    async def _line(self, numbers: Iterator[int]) -> None:
        """Run one session after another until `numbers` is exhausted."""
        loop = asyncio.get_running_loop()
        for number in numbers:
            kind = self._kinds[number % len(self._kinds)]
            ended: asyncio.Future[str] = loop.create_future()
            steps = ((self._upgrade_request(), HEAD_END), *KINDS[kind])
            transport, _ = await loop.create_connection(partial(_Passer, steps, ended), "127.0.0.1", self._port)
            try:
                wrong = await asyncio.wait_for(ended, SESSION_TIMEOUT_S)
            finally:
                transport.abort()  # still connected, because another caller has failed
            if wrong:
                raise BenchError(f"a session that was to be {kind} went wrong: {wrong}")
            self.done[kind] += 1

    def _upgrade_request(self) -> bytes:
        now_s = time.monotonic()
        if now_s - self._signed_at_s >= TOKEN_USED_S:
            self._signed_at_s = now_s
            self._upgrade = upgrade_request(self._path, self._api_key)
        return self._upgrade


class _Passer(asyncio.Protocol):
    """One session. `ended` receives the fault, or an empty text."""

    def __init__(self, steps: tuple[Step, ...], ended: asyncio.Future[str]) -> None:
        self._steps = iter(steps)
        self._ended = ended
        self._received = b""
        self._awaited: bytes | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport: asyncio.Transport = transport
        # The last one to close resets: a hundred thousand sockets in TIME_WAIT would use the ports up.
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self._go_on()

    def _go_on(self) -> None:
        sent, self._awaited = next(self._steps, _LEAVE)
        self._received = b""
        if sent:
            self._transport.write(sent)
        if self._awaited is None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._awaited == HEAD_END and not self._received.startswith(b"HTTP/1.1 101"[: len(self._received)]):
            self._end(f"its upgrade was answered {self._received[:40]!r}")
        elif self._awaited and self._awaited in self._received:
            self._go_on()

    def eof_received(self) -> None:
        if self._awaited == _END:
            self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        # A server that has nothing more to read may close so fast that its end arrives as a reset.
        fine = self._awaited is None or self._awaited == _END
        self._end("" if fine else f"the server was gone, and {self._awaited!r} had not come, only {self._received!r}")

    def _end(self, wrong: str) -> None:
        self._transport.abort()
        if not self._ended.done():
            self._ended.set_result(wrong)
