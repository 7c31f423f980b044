"""Closes the stream of an answer, in the task that iterated it, and leaves to itself what will not end.

A request that goes on after its stream was closed is paid for, and nobody hears it. So all that can be reached is
closed: the iterator, what gave it, and the HTTP responses underneath, which some packages' `aclose` does not reach.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Generator
from typing import Any

from se_server.streams.forms import Closer, name_of
from se_server.streams.underneath import closers_underneath

log = logging.getLogger("se_server.session")

# Seconds for a second cancellation, and for each closing after the time is up.
GRACE_S = 0.1

detached: set[asyncio.Task[None]] = set()
"""Tasks that drive what did not end in time; the event loop holds no strong reference to a task."""


class Detached(Exception):
    """An awaitable did not end in time, did not heed its cancellation, and goes on in a task of its own."""


async def close_generator(generator: object, timeout_s: float, is_lost: bool, found: list[Closer] | None) -> int:
    """Close an async generator that user code passed; see `Opening.close`."""
    closers = list(found or ())
    if not is_lost:
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
    for close in (*reversed(closers), *underneath):
        left += await _close(close, deadline, timeout_s, error)
    return left


async def _close(close: Closer, deadline: float, timeout_s: float, error: BaseException | None) -> int:
    name = getattr(close, "target_name", "a stream")
    try:
        closing = close(error)
        if closing is not None and inspect.isawaitable(closing):
            remaining_s = deadline - asyncio.get_running_loop().time()
            await within(closing, max(remaining_s, GRACE_S))
    except TimeoutError:
        if getattr(getattr(close, "target", None), "is_running", False):
            log.warning("%s blocks its thread and does not end: it is left to itself", name)
            return 1
        log.warning("closing %s took longer than %g s and was given up", name, timeout_s)
    except Detached:
        log.warning("closing %s does not end, although it was cancelled twice: it is left to itself", name)
        return 1
    except Exception as failure:
        if failure is not error:
            log.warning("closing %s failed: %s: %s", name, type(failure).__name__, failure)
    return 0


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


async def within(awaitable: Awaitable[Any], timeout_s: float) -> Any:
    """Await in this very task, at most `timeout_s`; `asyncio.wait_for` makes a task of its own before Python 3.12.

    Raises:
        TimeoutError: it took longer; it was cancelled.
        Detached: it did not even end when it was cancelled; a task of its own drives it from now on.
    """
    return await _Within(awaitable, timeout_s)


class _Within:
    """Drives an awaitable by hand, so that it can be handed to another task."""

    def __init__(self, awaitable: Awaitable[Any], timeout_s: float) -> None:
        self._awaitable = awaitable
        self._timeout_s = timeout_s

    def __await__(self) -> Generator[Any, Any, Any]:
        return ending(iter_of(self._awaitable), None, self._timeout_s)


def iter_of(awaitable: Any) -> Generator[Any, Any, Any]:
    """Return what drives an awaitable."""
    if inspect.isgenerator(awaitable):  # what types.coroutine makes
        return awaitable
    iterator: Generator[Any, Any, Any] = awaitable.__await__()
    return iterator


def ending(
    driven: Any,
    thrown: BaseException | None,
    timeout_s: float,
    source: object = None,
    found: list[Closer] | None = None,
) -> Generator[Any, Any, Any]:
    """Drive an awaitable to its end: for `timeout_s`, then it is cancelled, for a moment more, then it is detached.

    It waits for futures of its own, since `cancel` of a task does not wake one that waits for `asyncio.gather`.

    Args:
        driven: what `__await__` gave.
        thrown: the cancellation to begin with, None to begin with a step.
        timeout_s: its time.
        source: where to look for open HTTP responses when the time is up.
        found: takes what closes them.

    Raises:
        TimeoutError: it took longer, and was cancelled by nobody else.
        Detached: it did not end although its time was up and it was cancelled.
    """
    loop = asyncio.get_running_loop()
    is_cancelled = thrown is not None
    timeouts = 0
    awaited: Any = None
    waiter: asyncio.Future[None] | None = None

    def wake(_: object = None) -> None:
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def give_up() -> None:
        nonlocal timeouts, thrown
        timeouts += 1
        if timeouts > 1:
            wake()
            return
        if found is not None:
            found.extend(closers_underneath((driven, source), follow_tasks=True))
        handles.append(loop.call_later(GRACE_S, give_up))
        if awaited is not None and not awaited.cancel():
            thrown = asyncio.CancelledError()
            wake()

    handles = [loop.call_later(max(timeout_s, 0.0), give_up)]
    try:
        while True:
            try:
                raised, thrown = thrown, None
                awaited = _step(driven, raised)
            except StopIteration as stop:
                return stop.value
            if getattr(awaited, "_asyncio_future_blocking", None) is None:
                yield awaited  # None, as of asyncio.sleep(0): the loop gets a turn
                awaited = None
                continue
            awaited._asyncio_future_blocking = False
            awaited.add_done_callback(wake)
            while not awaited.done() and thrown is None and timeouts < 2:
                waiter = loop.create_future()
                try:
                    yield from waiter
                except asyncio.CancelledError as error:
                    is_cancelled = True
                    # anyio knows its own cancellations by their message.
                    if not awaited.cancel(*error.args[:1]):
                        thrown = error
            if timeouts > 1 and not awaited.done():
                _detach(driven, awaited, loop)
                raise Detached
    except asyncio.CancelledError:
        if is_cancelled or not timeouts:
            raise
        raise TimeoutError from None
    finally:
        for handle in handles:
            handle.cancel()


def _step(driven: Any, thrown: BaseException | None) -> Any:
    if thrown is None:
        return next(driven)
    if hasattr(driven, "throw"):
        return driven.throw(thrown)
    raise thrown


def _detach(driven: Any, awaited: Any, loop: asyncio.AbstractEventLoop) -> None:
    """Have a task of its own drive what waits for a future."""

    class Rest:
        def __await__(self) -> Generator[Any, Any, Any]:
            yield from asyncio.wait([awaited]).__await__()
            return (yield from driven)

    async def run() -> None:
        try:
            await Rest()
        except Exception as error:
            log.info("what was left to itself ended: %s: %s", type(error).__name__, error)

    task = loop.create_task(run())
    detached.add(task)
    task.add_done_callback(detached.discard)
