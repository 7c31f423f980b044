"""Closes the stream of an answer, in the task that iterated it, and leaves to itself what will not end.

A request that goes on after its stream was closed is paid for, and nobody hears it. So all that can be reached is
closed: the iterator, what gave it, and the HTTP responses underneath, which some packages' `aclose` does not reach.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable
from typing import Any

from se_server.streams.driving import GRACE_S, LOOK_S, Detached, Ending, iter_of
from se_server.streams.forms import Closer, name_of
from se_server.streams.underneath import closers_underneath

log = logging.getLogger("se_server.session")


async def close_generator(generator: object, timeout_s: float, is_lost: bool, found: list[Closer] | None) -> int:
    """Close an async generator that user code passed; see `Opening.close`."""
    closers = list(found or ())
    if is_lost:
        note_left(generator)
    else:
        closers.append(closer_of(generator))
    return is_lost + await close_all(closers, generator, timeout_s)


async def close_all(
    closers: list[Closer], source: object | None, timeout_s: float, error: BaseException | None = None
) -> int:
    """Close what was opened, the last first, and return how much of it had to be left to itself.

    Args:
        closers: what closes them.
        source: where to look for HTTP responses that are still open; None: nowhere, the stream came to its end.
        timeout_s: how long it may take together.
        error: what ended the stream, for context managers.
    """
    deadline = asyncio.get_running_loop().time() + timeout_s
    # Looked for first: a generator that is closed forgets what it held.
    underneath = [] if source is None else closers_underneath(source)
    left = 0
    cancelled: asyncio.CancelledError | None = None
    for close in (*reversed(closers), *underneath):
        try:
            left += await _close(close, source, deadline, timeout_s, error)
        except asyncio.CancelledError as once_more:
            cancelled = once_more  # what is left to close has a request, too
    if cancelled is not None:
        raise cancelled
    return left


async def _close(
    close: Closer, source: object | None, deadline: float, timeout_s: float, error: BaseException | None
) -> int:
    name = getattr(close, "target_name", "a stream")
    ending: Ending | None = None
    try:
        closing = close(error)
        if closing is not None and inspect.isawaitable(closing):
            remaining_s = deadline - asyncio.get_running_loop().time()
            ending = Ending(iter_of(closing), max(remaining_s, GRACE_S), source)
            await ending
    except TimeoutError:
        if getattr(getattr(close, "target", None), "is_running", False):
            log.warning("%s blocks its thread and does not end: it is left to itself", name)
            return 1
        if ending is not None and ending.lost:
            # Their last cancellation may be on its way.
            _, going = await asyncio.wait(ending.lost, timeout=LOOK_S)
            if going:
                log.warning("a task of %s goes on, although it was cancelled again: it is left to itself", name)
                return len(going)
        log.warning("closing %s took longer than %g s and was given up", name, timeout_s)
    except Detached:
        log.warning("closing %s does not end, although it was cancelled again: it is left to itself", name)
        return 1
    except asyncio.CancelledError:
        # Else what the stream waited for was cancelled, not this task.
        if ending is None or ending.is_cancelled:
            raise
    except Exception as failure:
        if failure is not error and not (ending is not None and ending.has_closed):
            log.warning("closing %s failed: %s: %s", name, type(failure).__name__, failure)
    return 0


def note_left(stream: object) -> None:
    """Log a stream that is left to itself."""
    log.warning("%s does not end, although it was cancelled again: it is left to itself", name_of(stream))


class closer_of:
    """Closes an object by its `aclose`, else by its `close`."""

    __slots__ = ("target", "target_name")

    def __init__(self, target: object) -> None:
        self.target = target
        self.target_name = name_of(target)

    def __call__(self, error: BaseException | None) -> Awaitable[Any] | None:
        close = getattr(self.target, "aclose", None) or getattr(self.target, "close", None)
        return None if close is None else close()


class exit_of:
    """Leaves a context manager that was entered."""

    __slots__ = ("manager", "target_name")

    def __init__(self, manager: object) -> None:
        self.manager = manager
        self.target_name = name_of(manager)

    def __call__(self, error: BaseException | None) -> Awaitable[Any]:
        # The exception matters: without one, some managers read the rest of the answer first.
        kind: Any = type(self.manager)
        reason = (None, None, None) if error is None else (type(error), error, error.__traceback__)
        leaving: Awaitable[Any] = kind.__aexit__(self.manager, *reason)
        return leaving


def abandon(awaitable: Any) -> None:
    """Give up an awaitable: a task or future is cancelled, a coroutine closed."""
    for name in ("cancel", "close"):
        stop = getattr(awaitable, name, None)
        if stop is not None:
            stop()
            return
