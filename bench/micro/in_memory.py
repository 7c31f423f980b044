"""Conversations without a socket: both ends of the WebSocket are in this process."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

from bench.micro.material import ANSWERS

__all__ = ["FINAL", "MUCH_WORK", "UNLIMITED", "InMemoryWebSocket", "answer"]

UNLIMITED: dict[str, Any] = {"max_messages_per_s": 1_000_000, "max_messages_burst": 1_000_000}
"""Options of our session: limits that no replay reaches."""

MUCH_WORK: dict[str, Any] = {"max_work_per_s": 1_000_000_000}
"""The same for the budget of work, which older versions do not have. A replay asks without a pause, as no caller does:
how often it would have to wait depends on the speed of the machine.
"""

FINAL = "true}"
"""The end of an answer's final message: `is_final` is its last field, with a blank before the value or without."""


async def answer(chunks: int) -> AsyncIterator[str]:
    """Yield an answer whose chunks are all ready."""
    for chunk in ANSWERS[:chunks]:
        yield chunk


class InMemoryWebSocket:
    """The WebSocket interface that a session uses: `recv`, `send`, `close`. A caller's turn is `ask`.

    Attributes:
        answers: the messages of the turn's answer so far.
        session: the task that reads it, kept here.
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
        """Return the caller's next message to the session."""
        while not self._questions:
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        return self._questions.popleft()

    async def send(self, message: str) -> None:
        """Accept a message of the session."""
        self.answers.append(message)
        if message.endswith(FINAL) and self._answered is not None and not self._answered.done():
            self._answered.set_result(None)

    async def close(self, *why: Any) -> None:
        """Fail the wait for an answer that will not come."""
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(ConnectionResetError(f"the session closed: {why}"))
