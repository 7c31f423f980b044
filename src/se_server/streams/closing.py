"""Closes the stream of an answer, in the task that iterated it."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable
from typing import Any

log = logging.getLogger("se_server.session")


async def close_stream(response: object, iterator: object, timeout_s: float) -> None:
    """Close an answer's stream, iterator first, within `timeout_s` together; in this task, as anyio's scopes need.

    Whoever owns an HTTP request behind it stops paying for tokens that nobody will hear. What closing raises is logged.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    for target in (iterator, response) if iterator is not response else (iterator,):
        close = getattr(target, "aclose", None) or getattr(target, "close", None)
        if close is None:
            continue
        try:
            closing = close()
            if inspect.isawaitable(closing):
                await within(closing, deadline - loop.time())
        except TimeoutError:
            log.warning("closing %s took longer than %.1f s and was given up", type(target).__name__, timeout_s)
        except Exception as error:
            log.warning("closing %s failed: %s: %s", type(target).__name__, type(error).__name__, error)


async def within(awaitable: Awaitable[Any], timeout_s: float) -> Any:
    """Await in this very task, at most `timeout_s`; `asyncio.wait_for` makes a task of its own before Python 3.12.

    Raises:
        TimeoutError: it took longer; it was cancelled.
    """
    task = asyncio.current_task()
    assert task is not None
    timed_out = False
    # Python 3.10 does not count: there a cancellation during the timeout's own is taken for it.
    cancelled_before = task.cancelling() if hasattr(task, "cancelling") else 0

    def give_up() -> None:
        nonlocal timed_out
        timed_out = True
        task.cancel()

    handle = asyncio.get_running_loop().call_later(max(timeout_s, 0.0), give_up)
    try:
        return await awaitable
    except asyncio.CancelledError:
        if not timed_out or (hasattr(task, "cancelling") and task.cancelling() > cancelled_before + 1):
            raise
        raise TimeoutError from None
    finally:
        handle.cancel()
        if timed_out and hasattr(task, "uncancel"):
            task.uncancel()
