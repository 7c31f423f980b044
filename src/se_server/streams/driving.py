"""Drives an awaitable by hand to its end, and ends it where it does not end by itself.

One cancellation is not enough. `asyncio.wait_for` may lose one before Python 3.12, a package may catch one and go on,
and `cancel` of a task that awaits another task does not wake it. So an end is looked for again and again: HTTP
responses that are still open are closed underneath, what lost its cancellation is cancelled again, and at last what
does not end is handed to a task of its own.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Generator
from typing import Any

from se_server.streams.forms import Closer
from se_server.streams.underneath import Follow, closers_underneath, is_cleaning_up, lost_tasks

log = logging.getLogger("se_server.session")

# Seconds between two looks at what has not ended yet.
LOOK_S = 0.02
# Part of the time after which what lost its cancellation is cancelled again; what closes itself may need that long.
CANCEL_AGAIN_AFTER = 0.5
# Seconds for a second cancellation, and for each closing after the time is up.
GRACE_S = 0.1
# The fewest looks that cancel again before a time is up: while the event loop is blocked, it passes without any.
LEAST_LOOKS = 3
COUNTS_CANCELLATIONS = hasattr(asyncio.Task, "cancelling")

detached: set[asyncio.Task[None]] = set()
"""Tasks that drive what did not end in time; the event loop holds no strong reference to a task."""


class Detached(Exception):
    """An awaitable did not end in time, did not heed its cancellations, and goes on in a task of its own."""


async def within(awaitable: Awaitable[Any], timeout_s: float) -> Any:
    """Await in this very task, at most `timeout_s`; `asyncio.wait_for` makes a task of its own before Python 3.12.

    Raises:
        TimeoutError: it took longer; it was cancelled.
        Detached: it did not even end when it was cancelled; a task of its own drives it from now on.
    """
    return await Ending(iter_of(awaitable), timeout_s)


def iter_of(awaitable: Any) -> Generator[Any, Any, Any]:
    """Return what drives an awaitable."""
    if inspect.isgenerator(awaitable):  # what types.coroutine makes
        return awaitable
    iterator: Generator[Any, Any, Any] = awaitable.__await__()
    return iterator


class Ending:
    """The end of an awaitable: it is driven for a time, then cancelled, for a moment more, then detached.

    What was cancelled already, by the caller or inside, is looked at all the time.

    Attributes:
        found: Closes the HTTP responses that were open underneath when the time was up.
        has_closed: Whether responses were closed underneath; errors of their readers mean nothing then.
        is_cancelled: Whether the caller cancelled it, with `thrown` or since.
        lost: The tasks that were cancelled again, since they had lost their cancellation.
    """

    def __init__(self, driven: Any, timeout_s: float, source: object = None) -> None:
        """Prepare the end.

        Args:
            driven: what `__await__` gave.
            timeout_s: its time.
            source: where to look for open HTTP responses and lost cancellations, beside `driven`.
        """
        self.found: list[Closer] = []
        self.has_closed = False
        self.lost: set[asyncio.Task[Any]] = set()
        self._driven = driven
        self._timeout_s = timeout_s
        self._source = source
        self._loop = asyncio.get_running_loop()
        self._thrown: BaseException | None = None
        self.is_cancelled = False
        self._timeouts = 0
        self._looks_left = LEAST_LOOKS if timeout_s > 4 * LEAST_LOOKS * LOOK_S else 0
        self._awaited: Any = None
        self._waiter: asyncio.Future[None] | None = None

    def __await__(self) -> Generator[Any, Any, Any]:
        return self.drive()

    def drive(self, thrown: BaseException | None = None, awaited: Any = None) -> Generator[Any, Any, Any]:
        """Drive it to its end.

        It waits for futures of its own, since `cancel` of a task does not wake one that waits for `asyncio.gather`.

        Args:
            thrown: the cancellation to begin with, None to begin with a step.
            awaited: the future that it waits for, if it waits already.

        Raises:
            TimeoutError: it took longer, and was cancelled by nobody else.
            Detached: it did not end although its time was up and it was cancelled.
        """
        self.is_cancelled = thrown is not None
        self._thrown = thrown
        if awaited is not None:
            awaited.add_done_callback(self._wake)
            self._awaited = awaited
            if thrown is not None and awaited.cancel(*thrown.args[:1]):
                self._thrown = None
        self._began_s = self._loop.time()
        self._time_limit = self._loop.call_later(max(self._timeout_s, 0.0), self._give_up)
        self._look_timer = self._loop.call_later(LOOK_S, self._look)
        try:
            while True:
                if self._awaited is None:
                    try:
                        raised, self._thrown = self._thrown, None
                        awaited = _step(self._driven, raised)
                    except StopIteration as stop:
                        return stop.value
                    if getattr(awaited, "_asyncio_future_blocking", None) is None:
                        # None, as of asyncio.sleep(0): the loop gets a turn.
                        yield from self._pause(awaited)
                        continue
                    awaited._asyncio_future_blocking = False
                    awaited.add_done_callback(self._wake)
                    self._awaited = awaited
                yield from self._wait(self._awaited)
                self._awaited = None
        except asyncio.CancelledError:
            if self.is_cancelled or not self._timeouts:
                raise
            raise TimeoutError from None
        except Detached:
            raise
        except Exception:
            if self.has_closed and self.is_cancelled:
                raise asyncio.CancelledError from None  # its reader failed instead of being cancelled
            raise
        finally:
            self._time_limit.cancel()
            self._look_timer.cancel()

    def _pause(self, yielded: Any) -> Generator[Any, Any, None]:
        try:
            yield yielded
        except asyncio.CancelledError as error:
            self.is_cancelled = True
            self._thrown = error
        if self._timeouts > 1:
            _detach(self._driven, None, self._loop)
            raise Detached

    def _wait(self, awaited: Any) -> Generator[Any, Any, None]:
        while not awaited.done() and self._thrown is None and self._timeouts < 2:
            self._waiter = self._loop.create_future()
            try:
                yield from self._waiter
            except asyncio.CancelledError as error:
                self.is_cancelled = True
                # anyio knows its own cancellations by their message.
                if not awaited.cancel(*error.args[:1]):
                    self._thrown = error
        if self._timeouts > 1 and not awaited.done():
            _detach(self._driven, awaited, self._loop)
            raise Detached

    def _wake(self, _: object = None) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _cancel(self) -> None:
        if self._awaited is None or not self._awaited.cancel():
            self._thrown = asyncio.CancelledError()
            self._wake()

    def _give_up(self) -> None:
        if self._looks_left > 0:
            self._time_limit = self._loop.call_later(LOOK_S, self._give_up)
            return
        self._looks_left = LEAST_LOOKS
        self._timeouts += 1
        if self._timeouts > 1:
            self._wake()
            return
        self.found.extend(open_underneath((self._driven, self._source), Follow.ALL))
        self._time_limit = self._loop.call_later(GRACE_S, self._give_up)
        self._cancel()

    def _look(self) -> None:
        """Close and cancel again what should have ended."""
        self._look_timer = self._loop.call_later(LOOK_S, self._look)
        roots = (self._driven, self._source, self._awaited)
        for close in open_underneath(roots, Follow.CANCELLED):
            self.has_closed = True
            self._close(close)
        if self._loop.time() - self._began_s < CANCEL_AGAIN_AFTER * self._timeout_s:
            return
        self._looks_left -= 1
        for task in lost_tasks(roots):
            # Counted once: asyncio.timeout() and asyncio.TaskGroup know their own cancellations by the number.
            task.cancel()
            task.uncancel()  # type: ignore[attr-defined]  # Python 3.10 finds none
            self.lost.add(task)
        # Python 3.10 does not count cancellations: there, what is awaited is cancelled again whatever it is.
        tasks = [] if self._awaited is None else [self._awaited, *(getattr(self._awaited, "_children", None) or ())]
        coroutines = [task.get_coro() for task in tasks if hasattr(task, "get_coro")]
        is_own = not coroutines and len(tasks) < 2
        has_to_end = (is_own or not COUNTS_CANCELLATIONS) and (self.is_cancelled or self._timeouts)
        if has_to_end and not any(is_cleaning_up(driven) for driven in (self._driven, *coroutines)):
            self._cancel()

    def _close(self, close: Closer) -> None:
        """Close a response in a task of its own: this one waits for what reads it."""

        async def finish(closing: Awaitable[Any]) -> None:
            try:
                await Ending(iter_of(closing), GRACE_S)
            except Exception as error:
                log.debug("closing a response underneath failed: %s: %s", type(error).__name__, error)

        try:
            closing = close(None)
        except Exception as error:
            log.debug("closing a response underneath failed: %s: %s", type(error).__name__, error)
            return
        if closing is not None and inspect.isawaitable(closing):
            _keep(self._loop.create_task(finish(closing)))


def open_underneath(roots: object, follow: Follow) -> list[Closer]:
    """Return what closes the open responses that this thread may close: those that a thread reads it closes itself."""
    return [close for close in closers_underneath(roots, follow) if not getattr(close, "blocks", False)]


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
            if awaited is not None:
                yield from asyncio.wait([awaited]).__await__()
            return (yield from driven)

    async def run() -> None:
        try:
            await Rest()
        except Exception as error:
            log.info("what was left to itself ended: %s: %s", type(error).__name__, error)

    _keep(loop.create_task(run()))


def _keep(task: asyncio.Task[None]) -> None:
    detached.add(task)
    task.add_done_callback(detached.discard)
