"""Callers that hold turns all the time and retry until they get a seat; they send raw bytes, which costs little.

A simulated caller costs several times as much as the server's turn: with a hundred of them on the server's own cores,
a benchmark would measure how long callers wait for each other.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bench.load.frames import HEAD_END, TEXT, client_frame, upgrade_request

__all__ = ["RETRY_S", "Crowd"]

RETRY_S = 1.0
"""The value of `Retry-After`."""
PAUSES_S = (0.05, 0.15)
"""Pauses between an answer and the next turn; of several lengths, so that one hiccup does not align the callers."""
_CHUNK, _FINAL = b'"is_final":false}', b'"is_final":true}'


def _ask(event_id: int, text: str) -> bytes:
    said = [{"role": "user", "content": text}]
    message = {"type": "user_transcript", "user_transcript": said, "event_id": event_id}
    return client_frame(TEXT, json.dumps(message).encode())


@dataclass
class Crowd:
    """Callers of one server, and their observations.

    Attributes:
        port, path, api_key: the server's port on 127.0.0.1 and its path, and the key that signs tokens.
        chunks: chunks of each answer.
        up: conversations that are up.
        cut: conversations that the server ended.
        lost: answers with missing chunks.
        refusals: refused handshakes by status; None for a refused connection.
        first_chunks_s: each turn's start on the monotonic clock, and its time to the first chunk.
    """

    port: int
    path: str
    api_key: str
    chunks: int = 2
    up: int = 0
    cut: int = 0
    lost: int = 0
    refusals: Counter[str] = field(default_factory=Counter)
    first_chunks_s: list[tuple[float, float]] = field(default_factory=list)
    _callers: list[_Caller] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.request = upgrade_request(self.path, self.api_key)

    def come(self) -> None:
        """Add a caller, which connects at once and retries until it is admitted."""
        caller = _Caller(self, f"caller{len(self._callers)}")
        self._callers.append(caller)
        self.dial(caller)

    def dial(self, caller: _Caller) -> None:
        """Connect a caller."""
        task = asyncio.get_running_loop().create_task(self._connect(caller))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, caller: _Caller) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: caller, "127.0.0.1", self.port)
        except OSError:
            caller.refused("")

    def let_leave(self, count: int) -> None:
        """Close the conversations of the callers that were added first."""
        for caller in [caller for caller in self._callers if caller.is_up][:count]:
            caller.leave()

    async def until_up(self, count: int, timeout_s: float) -> None:
        """Wait until this many conversations are up.

        Raises:
            asyncio.TimeoutError: that took too long.
        """

        async def wait() -> None:
            while self.up != count:
                self._news.clear()
                await self._news.wait()

        await asyncio.wait_for(wait(), timeout_s)

    async def go(self) -> None:
        """Close all conversations, and return when they are gone."""
        for caller in self._callers:
            caller.leave()
        while self._tasks or any(caller.transport is not None for caller in self._callers):
            self._news.clear()
            await asyncio.wait([*self._tasks, asyncio.ensure_future(self._news.wait())], timeout=1.0)

    def changed(self) -> None:
        """Wake the waiters."""
        self._news.set()


class _Caller(asyncio.Protocol):
    """One caller, over all the connections it makes."""

    def __init__(self, crowd: Crowd, name: str) -> None:
        self._crowd = crowd
        self._name = name
        self._turns = 0
        self._read = b""
        self._asked_at: float | None = None
        self._chance = random.Random(name)
        self._timer: asyncio.TimerHandle | None = None
        self._leaving = False
        self.is_up = False
        self.transport: Any = None  # uvloop's is no asyncio.Transport

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        if self._leaving:
            transport.abort()
        else:
            self._read = b""
            transport.write(self._crowd.request)

    def data_received(self, data: bytes) -> None:
        self._read += data
        if self.is_up:
            self._hear()
        elif HEAD_END in self._read:
            head, _, self._read = self._read.partition(HEAD_END)
            status = head.split(b" ", 2)[1].decode()
            if status == "101":
                self.is_up = True
                self._crowd.up += 1
                self._crowd.changed()
                self._ask()
            else:
                self.refused(status)
                self.transport.abort()

    def _ask(self) -> None:
        self._turns += 1
        self._asked_at = time.monotonic()  # uvloop's own clock counts milliseconds
        self.transport.write(_ask(self._turns, f"{self._name}-{self._turns} {self._crowd.chunks}"))

    def _hear(self) -> None:
        if self._asked_at is not None and _CHUNK in self._read:
            self._crowd.first_chunks_s.append((self._asked_at, time.monotonic() - self._asked_at))
            self._asked_at = None
        if _FINAL in self._read:
            self._crowd.lost += self._read.count(_CHUNK) != self._crowd.chunks
            self._read = b""
            self._later(self._chance.uniform(*PAUSES_S), self._ask)

    def refused(self, status: str) -> None:
        """Connect again after a while."""
        self._crowd.refusals[status] += 1
        if not self._leaving:
            self._later(RETRY_S, self._crowd.dial, self)

    def _later(self, delay_s: float, do: Callable[..., None], *given: object) -> None:
        self._timer = asyncio.get_running_loop().call_later(delay_s, do, *given)

    def leave(self) -> None:
        """Close the conversation, and stop retrying."""
        self._leaving = True
        if self._timer is not None:
            self._timer.cancel()
        if self.transport is not None:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if self.is_up:
            if self._timer is not None:
                self._timer.cancel()
            self.is_up = False
            self._crowd.up -= 1
            self._crowd.cut += not self._leaving
        self._crowd.changed()
