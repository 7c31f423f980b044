"""Conversations without a socket: a WebSocket whose both ends are in this process."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

from bench.micro.material import ANSWERS

__all__ = ["FINAL", "UNLIMITED", "InMemoryWebSocket", "answer"]

UNLIMITED: dict[str, Any] = {"max_messages_per_s": 1_000_000, "max_messages_burst": 1_000_000}
"""Options of our session: no caller speaks as fast as these."""

FINAL = "true}"
"""How the message ends that completes an answer: `is_final` stands last, with a blank before it or without."""


async def answer(chunks: int) -> AsyncIterator[str]:
    """An answer whose chunks are all ready: what an agent would send."""
    for chunk in ANSWERS[:chunks]:
        yield chunk


class InMemoryWebSocket:
    """What any library's WebSocket is to a session: `recv`, `send`, `close`. A caller's turn is `ask`.

    Attributes:
        answers: the messages of the turn's answer so far.
        session: the task of who reads it, kept here.
    """

    def __init__(self) -> None:
        self.answers: list[str] = []
        self.session: asyncio.Task[None] | None = None
        self._questions: deque[str] = deque()
        self._reader: asyncio.Future[None] | None = None
        self._answered: asyncio.Future[None] | None = None

    async def ask(self, question: str) -> None:
        """Send a transcript, and wait for the final of its answer."""
        self.answers = []
        self._answered = asyncio.get_running_loop().create_future()
        self.put(question)
        await self._answered

    def put(self, message: str) -> None:
        """Send a message, and wait for nothing."""
        self._questions.append(message)
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def recv(self) -> str:
        """Give the session what the caller sent."""
        while not self._questions:
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        return self._questions.popleft()

    async def send(self, message: str) -> None:
        """Take a message of the session."""
        self.answers.append(message)
        if message.endswith(FINAL) and self._answered is not None and not self._answered.done():
            self._answered.set_result(None)

    async def close(self, *why: Any) -> None:
        """Let nobody wait for what will not come."""
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(ConnectionResetError(f"the session closed: {why}"))
