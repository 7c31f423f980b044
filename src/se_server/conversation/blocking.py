"""Reports plain functions that block the event loop: their name, for how long, and at which line.

A blocked loop cannot check itself, so a daemon thread does. The thread sleeps while no plain function runs.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any

from se_server.conversation.handlers import handler_name

BLOCKED_S = 0.1
_IDLE_ROUNDS = 20

log = logging.getLogger("se_server.session")


class BlockWatch:
    """Watches the plain functions that one event loop runs, one at a time. Make one per loop's thread."""

    def __init__(self) -> None:
        self._running: tuple[Callable[..., Any], float] | None = None
        self._thread_id = threading.get_ident()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._reported: set[str] = set()

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a plain function under watch and return its result."""
        outer = self._running
        self._running = (function, time.monotonic())
        if self._thread is None:
            self._thread = threading.Thread(target=self._look, name="se-server-block-watch", daemon=True)
            self._thread.start()
        if not self._wake.is_set():
            self._wake.set()
        try:
            return function(*args)
        finally:
            self._running = outer

    def _look(self) -> None:
        idle_rounds = 0
        while True:
            running = self._running
            if running is None:
                idle_rounds += 1
                if idle_rounds > _IDLE_ROUNDS:
                    self._wake.clear()
                    self._wake.wait()
                    idle_rounds = 0
            else:
                idle_rounds = 0
                function, since = running
                if time.monotonic() - since > BLOCKED_S:
                    self._report(function, since)
            time.sleep(BLOCKED_S / 4)

    def _report(self, function: Callable[..., Any], since: float) -> None:
        name = handler_name(function)
        if name in self._reported:
            return
        frame = sys._current_frames().get(self._thread_id)
        if frame is None or self._running is None or self._running[0] is not function:
            return
        self._reported.add(name)
        log.warning(
            "plain function %s blocks the event loop, for %.1f s so far, and with it every call of this worker; "
            "it stands at %s. Make it a coroutine, or run its slow part with asyncio.to_thread.",
            name,
            time.monotonic() - since,
            where(frame),
        )


def where(frame: FrameType) -> str:
    """Name the place where a frame stands: `file:line in function`."""
    place = traceback.extract_stack(frame, limit=1)[-1]
    return f"{place.filename}:{place.lineno} in {place.name}"


def where_raised(error: BaseException) -> str:
    """Name the place where an exception was raised: `file:line in function`."""
    stack = traceback.extract_tb(error.__traceback__)
    return f"{stack[-1].filename}:{stack[-1].lineno} in {stack[-1].name}" if stack else "an unknown place"


_watches = threading.local()


def block_watch() -> BlockWatch:
    """Return the watch of this thread's loop."""
    watch: BlockWatch | None = getattr(_watches, "watch", None)
    if watch is None:
        watch = _watches.watch = BlockWatch()
    return watch
