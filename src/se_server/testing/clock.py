"""Virtual time on an asyncio loop: when nothing is ready, the clock jumps to the next timer.

A loop asks its selector to sleep until the next timer is due. The replacement selector does not sleep; it moves the
loop's clock forward. Work outside the loop cannot be accelerated, so time runs at its real pace while any is pending:
see `VirtualClock.outside_work`.
"""

from __future__ import annotations

import asyncio
import math
import selectors
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from se_server.errors import VirtualTimeError
from se_server.streams.blocking import is_awaited
from se_server.testing.outside import Threads, anyio_jobs, ends_of

BUDGET_S = 3600.0

_LOOPBACK_S = 0.005  # the time for data written to a loopback socket to become readable
_UNKNOWN_THREADS_S = 0.5  # the time for uncounted threads to wake a loop without timers
_HAND_OVER_S = 0.002, 0.02  # the time for a thread that was given work to begin it: before a short jump, a long one
_LONG_JUMP_S = 1.0
_LOOK_S = 0.02  # the time between two looks at threads that are at work
_OUTSIDE_S = 60.0  # the same for counted threads and connections
_CLEAN_UP_S = 2.0  # the time for cancelled tasks to end, in real seconds

_T = TypeVar("_T")

_clocks: WeakKeyDictionary[asyncio.AbstractEventLoop, VirtualClock] = WeakKeyDictionary()


class VirtualClock:
    """The clock of one loop. Use `virtual_time`, which creates it on demand.

    Raises:
        VirtualTimeError: the loop is not one of asyncio's own.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        if not isinstance(loop, asyncio.SelectorEventLoop):
            name = f"{type(loop).__module__}.{type(loop).__qualname__}"
            raise VirtualTimeError(
                f"virtual time needs asyncio's own event loop, and this one is {name}: let the test run on the default "
                "loop, or without another plugin's mark, so that it gets a loop of its own"
            )
        own: Any = loop  # untyped for `_selector`: a loop has no public way to replace it
        self._loop = own
        self._selector: selectors.BaseSelector = own._selector
        self._own_fds = {own._ssock.fileno()}  # the socket by which other threads wake the loop
        self._now = 0.0
        self._ahead_s = 0.0  # of real time, after virtual time has ended
        self._began = 0.0
        self._budget_s = BUDGET_S
        self._jobs = 0
        self._users: list[asyncio.Task[Any] | None] = []
        self._problem: VirtualTimeError | None = None
        self._settling: list[asyncio.Future[None]] = []
        self._threads = Threads()
        self._real_run_in_executor = loop.run_in_executor

    # --- entering and leaving ---------------------------------------------------------------------------------------

    def enter(self, task: asyncio.Task[Any] | None, budget_s: float) -> None:
        """Make time virtual until `leave`; calls nest.

        Args:
            task: the task to cancel when time cannot go on; None raises from the loop's runner instead.
            budget_s: the limit of virtual seconds from now on; of nested calls the outermost one's applies.
        """
        if not self._users:
            # A whole number keeps the fractions of a long uptime out of measured times.
            self._now = self._began = float(math.ceil(self._loop.time()))
            self._budget_s = budget_s
            self._threads = Threads()
            self._loop.time = self._time
            self._loop.run_in_executor = self._run_in_executor
            self._loop._selector = _JumpingSelector(self._selector, self._select)
        self._users.append(task)

    def leave(self) -> VirtualTimeError | None:
        """End one use. Return the error that cancelled its task, if any."""
        self._users.pop()
        problem, self._problem = self._problem, None
        if not self._users:
            # Pending timers stay valid: the clock continues from its current time at the real pace.
            self._ahead_s = self._now - time.monotonic()
            self._loop.time = self._time_after
            self._loop.run_in_executor = self._real_run_in_executor
            self._loop._selector = self._selector
            self._settle()
        return problem

    def _time(self) -> float:
        return self._now

    def _time_after(self) -> float:
        return time.monotonic() + self._ahead_s

    # --- moving -----------------------------------------------------------------------------------------------------

    def _select(self, timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return the ready events; without any, let real or virtual time pass up to `timeout`."""
        events = self._selector.select(0)
        if events or (timeout is not None and timeout <= 0):
            return events
        if self._settling:
            self._settle()
            return []
        outside, has_sockets = self.outside_work()
        if outside:
            return self._really_wait(timeout, outside, _OUTSIDE_S)
        if has_sockets and (events := self._selector.select(_LOOPBACK_S)):
            return events
        if self._threads.may_work():
            if events := self._selector.select(_HAND_OVER_S[timeout is None or timeout >= _LONG_JUMP_S]):
                return events
            if self._threads.are_busy():
                return self._really_wait(_LOOK_S if timeout is None else timeout, "a thread", _LOOK_S)
        if timeout is None:
            if not (events := self._selector.select(_UNKNOWN_THREADS_S)):
                self._give_up("nothing can happen any more: no timer, thread or peer will end the test's wait")
            return events
        if self._now + timeout - self._began > self._budget_s:
            self._give_up(
                f"more than {self._budget_s:g} virtual seconds would pass: does a loop that sleeps run for ever? "
                "If the test needs that long, give it a larger time_budget_s"
            )
            return []
        self._now += timeout
        return []

    async def settled(self) -> None:
        """Wait until everything that can happen at this instant has happened."""
        if self._users:
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._settling.append(waiter)
            await waiter

    def _settle(self) -> None:
        waiters, self._settling = self._settling, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _really_wait(
        self, timeout: float | None, outside: str, at_most_s: float
    ) -> list[tuple[selectors.SelectorKey, int]]:
        began = time.monotonic()
        events = self._selector.select(at_most_s if timeout is None else min(timeout, at_most_s))
        self._now += time.monotonic() - began
        if not events and timeout is None:
            self._give_up(f"nothing happened for {at_most_s:g} s of real time, in which {outside} was waited for")
        return events

    def outside_work(self) -> tuple[str, bool]:
        """Look for pending work whose end the loop's timers do not decide.

        This is a job in an executor (`asyncio.to_thread`, a host name lookup) or in a thread of anyio, a stream that
        blocks and is read in a thread, or an open connection, pipe or other file with its far end outside this loop. A
        listening socket does not count, and neither does a connection with both ends in this loop, since it only waits
        for timers.

        Returns:
            A description of the work, or an empty string; and whether sockets have to be polled.
        """
        if self._jobs:
            return "a job in a thread", True
        if is_awaited(self._loop):
            return "a stream that is read in a thread", True
        fds = [key.fd for key in self._selector.get_map().values() if key.fd not in self._own_fds]
        here, peers = set(), []
        for fd in fds:
            ends = ends_of(fd)
            if ends is None:
                return "a connection or pipe to somewhere outside the loop", True
            here.add(ends[0])
            if ends[1] is not None:
                peers.append(ends[1])
        if not here.issuperset(peers):
            return "a connection to somewhere outside the loop", True
        return ("a job in a thread" if anyio_jobs() else ""), bool(fds)

    def _run_in_executor(self, executor: Any, function: Callable[..., _T], *args: Any) -> asyncio.Future[_T]:
        future: asyncio.Future[_T] = self._real_run_in_executor(executor, function, *args)
        self._jobs += 1
        future.add_done_callback(self._job_done)
        return future

    def _job_done(self, _: asyncio.Future[Any]) -> None:
        self._jobs -= 1

    def _give_up(self, why: str) -> None:
        """Cancel the test where it waits. If it waits again afterwards, raise from the loop."""
        error = VirtualTimeError(why)
        task = self._users[-1] if self._users else None
        if task is None or task.done() or self._problem is not None:
            raise error
        self._problem = error
        self._budget_s += BUDGET_S  # for cleaning up
        task.cancel()


class _JumpingSelector:
    """The loop's selector with another `select`."""

    def __init__(
        self,
        selector: selectors.BaseSelector,
        select: Callable[[float | None], list[tuple[selectors.SelectorKey, int]]],
    ) -> None:
        self._selector = selector
        self.select = select

    def __getattr__(self, name: str) -> Any:
        return getattr(self._selector, name)


@contextmanager
def virtual_time(time_budget_s: float = BUDGET_S) -> Iterator[None]:
    """Make time virtual on the running loop, within the block. Use it in a coroutine.

    `asyncio.sleep` and all other timers of the loop then take no real time, except while something outside the loop is
    awaited. Only the loop's own clock is virtual: `time.monotonic()` and `time.time()` stay real.

    Args:
        time_budget_s: the limit of virtual seconds.

    Raises:
        VirtualTimeError: the loop is not one of asyncio's own; nothing can happen any more; the budget is spent.
    """
    __tracebackhide__ = True
    loop = asyncio.get_running_loop()
    clock = _clocks.get(loop)
    if clock is None:
        clock = _clocks[loop] = VirtualClock(loop)
    task = asyncio.current_task()
    clock.enter(task, time_budget_s)
    problem = cancelled = None
    try:
        yield
    except asyncio.CancelledError as error:
        cancelled = error
        raise
    finally:
        problem = clock.leave()
        if problem is not None:
            if task is not None and sys.version_info >= (3, 11):
                task.uncancel()
            raise problem from cancelled


async def settled() -> None:
    """Wait until everything possible at this instant of virtual time has happened; return at once in real time."""
    clock = _clocks.get(asyncio.get_running_loop())
    if clock is not None:
        await clock.settled()


def run(main: Coroutine[Any, Any, _T], time_budget_s: float = BUDGET_S) -> _T:
    """Run a coroutine in virtual time on a new loop, as `asyncio.run` does in real time.

    Raises:
        VirtualTimeError: see `virtual_time`.
    """

    async def within() -> _T:
        with virtual_time(time_budget_s):
            return await main

    return run_on_new_loop(within())


def run_on_new_loop(main: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine on a new loop; the coroutine makes time virtual itself, if it needs to."""
    __tracebackhide__ = True
    loop = new_loop()
    try:
        return loop.run_until_complete(main)
    finally:
        close_loop(loop)


def new_loop() -> asyncio.SelectorEventLoop:
    """Create a loop that supports virtual time under any loop policy, and make it the thread's current one."""
    loop = asyncio.SelectorEventLoop()
    asyncio.set_event_loop(loop)
    return loop


def close_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel a loop's remaining tasks and close it as `asyncio.run` does, but with a timeout.

    Raises:
        VirtualTimeError: a task continues although it was cancelled.
    """
    __tracebackhide__ = True
    try:
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            tasks, deaf = loop.run_until_complete(asyncio.wait(tasks, timeout=_CLEAN_UP_S))
            if deaf:
                raise VirtualTimeError(
                    f"{len(deaf)} handler(s) or task(s) still run {_CLEAN_UP_S:g} s after they were cancelled; the log "
                    f"names the lines of handlers: let asyncio.CancelledError pass there"
                )
        for task in tasks:
            if not task.cancelled() and task.exception() is not None:
                text = "a remaining task raised while it was cancelled"
                loop.call_exception_handler({"message": text, "exception": task.exception(), "task": task})
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        asyncio.set_event_loop(None)
        loop.close()
