"""Callers that connect, in one burst or at a rate, and stay; if their server process dies, they reconnect."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from bench.load.frames import HEAD_END, upgrade_request

__all__ = ["Arrivals"]

MAX_TRIES = 50


class _Caller(asyncio.Protocol):
    """One caller: it asks for the upgrade and keeps the connection."""

    def __init__(self, arrivals: Arrivals, begun_s: float) -> None:
        self._arrivals = arrivals
        self.begun_s = begun_s
        self._head = b""
        self._is_live = False
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:  # uvloop's is no asyncio.Transport
        self.transport = transport
        transport.write(self._arrivals.request)

    def data_received(self, data: bytes) -> None:
        if self._is_live:
            return
        self._head += data
        if HEAD_END in self._head:
            if self._head.startswith(b"HTTP/1.1 101 "):
                self._is_live = True
                self._arrivals.came(self, time.monotonic() - self.begun_s)
            else:
                self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._arrivals.lost(self, was_live=self._is_live)


class Arrivals:
    """Starts callers, and keeps their conversations.

    Args:
        port: where the server listens, on 127.0.0.1.
        request: the upgrade request of every caller.

    Attributes:
        handshakes_s: each caller's wait for its conversation, failed tries included, in the order of success.
        cut: conversations that the server ended.
        failed: failed handshakes; each is tried again.
    """

    def __init__(self, port: int, path: str, api_key: str) -> None:
        self._port = port
        self.request = upgrade_request(path, api_key)
        self.handshakes_s: list[float] = []
        self.cut = 0
        self.failed = 0
        self._live: set[_Caller] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._closing = False

    @property
    def live(self) -> int:
        """The number of conversations that are up."""
        return len(self._live)

    async def come(self, callers: int, per_s: float | None) -> None:
        """Start this many callers: at once, or at a rate per second."""
        begun_s = time.monotonic()
        for number in range(callers):
            if per_s is not None:
                await asyncio.sleep(max(0.0, begun_s + number / per_s - time.monotonic()))
            self._call(time.monotonic())

    async def until_live(self, callers: int, timeout_s: float) -> None:
        """Wait until this many conversations are up.

        Raises:
            asyncio.TimeoutError: that took too long.
        """

        async def wait() -> None:
            while self.live < callers:
                self._changed.clear()
                await self._changed.wait()

        await asyncio.wait_for(wait(), timeout_s)

    async def leave(self) -> None:
        """Drop all callers."""
        self._closing = True
        for task in tuple(self._tasks):
            task.cancel()
        for caller in tuple(self._live):
            caller.transport.abort()
        while self._live:
            self._changed.clear()
            await self._changed.wait()

    def _call(self, begun_s: float) -> None:
        task = asyncio.get_running_loop().create_task(self._connect(begun_s))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, begun_s: float) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(MAX_TRIES):
            try:
                await loop.create_connection(lambda: _Caller(self, begun_s), "127.0.0.1", self._port)
            except OSError:
                self.failed += 1
                continue
            return

    def came(self, caller: _Caller, took_s: float) -> None:
        """Note a conversation that is up."""
        if self._closing:  # it connected after all were dropped
            caller.transport.abort()
            return
        self._live.add(caller)
        self.handshakes_s.append(took_s)
        self._changed.set()

    def lost(self, caller: _Caller, *, was_live: bool) -> None:
        """Note a connection that is gone; its caller reconnects."""
        self._live.discard(caller)
        self._changed.set()
        if self._closing:
            return
        if was_live:
            self.cut += 1
            self._call(time.monotonic())
        else:
            self.failed += 1
            self._call(caller.begun_s)
