"""Awaits what a thread makes: a cancellation does not reach the thread, whose stream nobody would close."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable
from typing import Any

from se_server.streams.refusing import close_refused


def is_in_thread(awaitable: object) -> bool:
    """Whether an awaitable waits for a thread: `asyncio.to_thread(...)`, or the future of an executor."""
    if inspect.iscoroutine(awaitable):
        return awaitable.cr_code.co_name == "to_thread"
    return isinstance(awaitable, asyncio.Future) and not isinstance(awaitable, asyncio.Task)


async def keep(awaitable: Awaitable[Any]) -> Any:
    """Await what a thread makes; after a cancellation it is closed when it comes."""
    future = asyncio.ensure_future(awaitable)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        future.add_done_callback(_close_result)
        raise


def _close_result(future: asyncio.Future[Any]) -> None:
    if not future.cancelled() and future.exception() is None:
        close_refused(future.result())
