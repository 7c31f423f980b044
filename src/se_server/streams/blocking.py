"""Iterates over what blocks, in a thread of its own: the events reach the event loop through a bounded queue.

Only the thread touches the object, its closing included: a generator that runs cannot be closed by another thread. A
thread that waits for a socket is woken by shutting that socket down.
"""

from __future__ import annotations

import asyncio
import contextvars
import socket
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any

from se_server.streams import aws, responses, results
from se_server.streams.underneath import closers_underneath

# Items that wait for the event loop; a provider that is faster waits itself.
QUEUE_ITEMS = 64
# Seconds between two looks whether a thread that has to stop is in a read.
HURRY_S = 0.02
MAX_STEPS = 16

_waiters: set[asyncio.Future[None]] = set()


class Stopped(BaseException):
    """The stream is closed: leave the iteration. No code of a package is to catch it."""


class BlockingIterator:
    """The async iterator of an object that blocks. The thread starts with the first event."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self._items: deque[Any] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._over = False
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiter: asyncio.Future[None] | None = None

    def __aiter__(self) -> BlockingIterator:
        return self

    async def __anext__(self) -> Any:
        if self._thread is None:
            self._start()
        while not self._items:
            if self._over:
                error, self._error = self._error, None
                if error is not None:
                    raise error
                raise StopAsyncIteration
            await self._wait()
        item = self._items.popleft()
        if len(self._items) == QUEUE_ITEMS // 2:
            with self._changed:
                self._changed.notify()
        return item

    @property
    def is_running(self) -> bool:
        """Whether the thread runs still."""
        return self._thread is not None and not self._over

    async def aclose(self) -> None:
        """Have the thread close the object and end, and wait for it."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread is None:
            close_blocking(self._source)
            return
        while not self._over:
            self._hurry()
            waiting = asyncio.get_running_loop().call_later(HURRY_S, self._wake)
            try:
                await self._wait()
            finally:
                waiting.cancel()

    def _start(self) -> None:
        self._loop = asyncio.get_running_loop()
        context = contextvars.copy_context()
        run = lambda: context.run(self._run)  # noqa: E731
        # A daemon: a provider that never answers must not keep the process from ending.
        self._thread = threading.Thread(target=run, name="se-server stream", daemon=True)
        self._thread.start()

    async def _wait(self) -> None:
        assert self._loop is not None
        waiter = self._waiter = self._loop.create_future()
        if not self._items and not self._over:
            _waiters.add(waiter)
            try:
                await waiter
            finally:
                _waiters.discard(waiter)

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _post(self) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(self._wake)
        except RuntimeError:  # the event loop is closed, and nobody waits
            self._stopping = True

    # --- in the thread ---

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            with ExitStack() as stack:
                for event in blocking_events(self._source, stack):
                    try:
                        self._put(event)
                    except Stopped:
                        # Looked for first: a generator that is closed forgets what it held.
                        for close in closers_underneath(self._source):
                            stack.callback(close, None)
                        raise
        except Stopped:
            pass
        except BaseException as raised:
            # A read that was shut down fails; nobody is to hear of it.
            error = None if self._stopping else raised
            if isinstance(error, StopIteration):
                error = RuntimeError("the stream raised StopIteration")
        self._error = error
        self._over = True
        self._post()

    def _put(self, event: Any) -> None:
        with self._changed:
            while len(self._items) >= QUEUE_ITEMS and not self._stopping:
                self._changed.wait()
            if self._stopping:
                raise Stopped
            self._items.append(event)
        if len(self._items) == 1:
            self._post()

    def _hurry(self) -> None:
        """Shut down the socket that the thread reads, if it reads one."""
        thread = self._thread
        assert thread is not None
        frame = sys._current_frames().get(thread.ident or 0)
        while frame is not None:
            for value in list(frame.f_locals.values()):
                found = value if isinstance(value, socket.socket) else getattr(value, "_sock", None)
                if isinstance(found, socket.socket):
                    with suppress(OSError):
                        # Not SSLSocket's own, which takes the TLS state away from the thread that uses it.
                        socket.socket.shutdown(found, socket.SHUT_RDWR)
                    return
            frame = frame.f_back


def is_awaited(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether a task of the loop waits for a thread that reads a stream."""
    return any(waiter.get_loop() is loop for waiter in _waiters)


def blocking_events(source: Any, stack: ExitStack) -> Iterator[Any]:
    """Return the events of an object that blocks; what it opens is closed with the stack."""
    value = source
    for _ in range(MAX_STEPS):
        stack.callback(close_blocking, value)
        kind = type(value)
        if aws.is_event_stream(value):
            return aws.read_blocking(value)
        body = responses.blocking_body(value)
        if body is not None:
            return body
        unwrapped = results.unwrap_blocking(value)
        if unwrapped is not None:
            value = unwrapped
        elif hasattr(kind, "__iter__"):
            return iter(value)
        elif hasattr(kind, "__next__"):
            return iter(value.__next__, stack)  # a sentinel that never comes
        elif hasattr(kind, "__enter__"):
            value = stack.enter_context(value)
        else:
            break
    raise TypeError(f"{type(value).__name__} gave nothing to iterate over")


def close_blocking(value: Any) -> None:
    """Close an object that blocks, by its own `close`."""
    close = getattr(value, "close", None)
    if close is not None and not isinstance(value, type):
        close()
