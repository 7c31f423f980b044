"""SIGINT and SIGTERM while servers run in this process: each signal tells all of them."""

from __future__ import annotations

import asyncio
import functools
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class _Catcher:
    """The signals of one loop, taken over by its first server and given back by its last."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.stops: list[Callable[[], None]] = []
        self._loop = loop
        self._previous: dict[signal.Signals, Any] = {}
        for number in STOP_SIGNALS:
            handler = signal.getsignal(number)
            if _is_free(handler):
                self._previous[number] = handler
                loop.add_signal_handler(number, self._stop_all)

    def _stop_all(self) -> None:
        for stop in tuple(self.stops):
            stop()

    def give_back(self) -> None:
        for number, handler in self._previous.items():
            self._loop.remove_signal_handler(number)
            signal.signal(number, handler)


_catchers: dict[asyncio.AbstractEventLoop, _Catcher] = {}


@contextmanager
def stop_on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` on the running loop at SIGINT and SIGTERM, and leave the signals as they were in the end.

    A handler that the program has installed itself stays in charge of its signal; that of `asyncio.run` does not. Only
    the main thread gets signals: elsewhere nothing happens.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    catcher = _catchers.get(loop)
    if catcher is None:
        catcher = _catchers[loop] = _Catcher(loop)
    catcher.stops.append(stop)
    try:
        yield
    finally:
        catcher.stops.remove(stop)
        if not catcher.stops:
            del _catchers[loop]
            catcher.give_back()


def _is_free(handler: Any) -> bool:
    """Return whether the program has no handler of its own for a signal."""
    if handler in (signal.SIG_DFL, signal.SIG_IGN, signal.default_int_handler):
        return True
    # asyncio.run, from Python 3.11, cancels the main task at SIGINT: that would end running conversations at once.
    owner = getattr(handler.func, "__self__", None) if isinstance(handler, functools.partial) else None
    return isinstance(owner, getattr(asyncio, "Runner", ()))
