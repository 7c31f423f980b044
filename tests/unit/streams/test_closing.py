"""Closing what a stream was opened from: everything is closed, whatever becomes of a part of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from se_server.streams.closing import close_all
from se_server.streams.forms import Closer


class Parts:
    """Closers that note their number when they are called."""

    def __init__(self) -> None:
        self.closed: list[int] = []
        self.waits = asyncio.Event()

    def part(self, number: int, awaited: Any = None) -> Closer:
        """Return a closer; `awaited` is awaited while it closes."""

        async def close() -> None:
            self.closed.append(number)
            if awaited is not None:
                self.waits.set()
                await awaited

        return lambda error: close()


async def test_cancelled_run_behind_a_part_is_no_cancellation() -> None:
    parts = Parts()
    run = asyncio.create_task(asyncio.Event().wait())
    run.cancel()
    assert await close_all([parts.part(1), parts.part(2, run), parts.part(3)], None, 0.5) == 0
    assert parts.closed == [3, 2, 1]


async def test_cancellation_while_closing_closes_the_rest() -> None:
    parts = Parts()
    closing = asyncio.create_task(close_all([parts.part(1), parts.part(2, asyncio.Event().wait())], None, 5.0))
    await parts.waits.wait()
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert parts.closed == [2, 1]
