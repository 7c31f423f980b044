"""Reports handlers that block the event loop: their name, for how long, and at which line.

A blocked loop cannot check itself, so a daemon thread does. A plain function is noted when it is called. Coroutines
have too many steps for that: the thread looks for a task that is in a step, and asks the loop for a sign of life. The
thread sleeps while no handler runs.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Callable
from contextlib import suppress
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE
from types import CodeType, FrameType
from typing import Any, Protocol

from se_server.conversation.naming import handler_name, is_users_file

BLOCKED_S = 0.1
_ROUND_S = BLOCKED_S / 4
_IDLE_ROUNDS = 20

log = logging.getLogger("se_server.session")

coroutine_names: dict[CodeType, str] = {}
"""The names of handlers that are coroutine functions, by their code, which is all that a frame shows."""


class Pulse(Protocol):
    """The notes of a loop's lanes for the watch, in a compiled object."""

    running: int
    begun: int
    is_watched: bool


class BlockWatch:
    """Watches the handlers that one event loop runs, one at a time. Make one per loop's thread.

    Attributes:
        loop: a weak reference to the loop whose tasks are watched, the thread's latest; None before the first.
        pulse: what its lanes note.
    """

    def __init__(self) -> None:
        self.loop: weakref.ref[asyncio.AbstractEventLoop] | None = None
        self.pulse: Pulse | None = None
        self._running: tuple[Callable[..., Any], float] | None = None
        # A task that was in a step with the handlers begun by then, and when the thread saw it.
        self._suspect: tuple[tuple[int, int], float] | None = None
        self._has_asked = self._has_answered = False
        self._thread_id = threading.get_ident()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._reported: set[str] = set()
        self.block: tuple[float, str] | None = None

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a plain function under watch and return its result."""
        outer = self._running
        self._running = (function, time.monotonic())
        if not self._wake.is_set():
            self.wake()
        try:
            return function(*args)
        finally:
            self._running = outer

    def attach(self, loop: asyncio.AbstractEventLoop, pulse: Pulse) -> None:
        """Watch the tasks of another loop, which runs in this thread from now on."""
        self._suspect = None
        self.pulse, self.loop = pulse, weakref.ref(loop)

    def wake(self) -> None:
        """Have the thread look while handlers run."""
        if self.pulse is not None:
            self.pulse.is_watched = True
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="se-server-block-watch", daemon=True)
            self._thread.start()
        self._wake.set()

    def _watch(self) -> None:
        idle_rounds = 0
        while True:
            running, pulse = self._running, self.pulse
            if running is not None:
                idle_rounds = 0
                function, since = running
                if time.monotonic() - since > BLOCKED_S:
                    self._report_function(function, since)
            elif pulse is not None and pulse.running > 0:
                idle_rounds = 0
                self._look_at_task(pulse)
            else:
                idle_rounds += 1
                if idle_rounds > _IDLE_ROUNDS:
                    self._wake.clear()
                    if pulse is not None:
                        pulse.is_watched = False
                    # A handler that began before the lines above found the watch awake, and did not wake it.
                    if self._running is None and (pulse is None or not pulse.running):
                        self._wake.wait()
                    idle_rounds = 0
            time.sleep(_ROUND_S if running or self._suspect else 2 * _ROUND_S)

    # --- plain functions ---

    def _report_function(self, function: Callable[..., Any], since: float) -> None:
        name = handler_name(function)
        frame = sys._current_frames().get(self._thread_id)
        if frame is not None and self._running is not None and self._running[0] is function:
            self._report(f"plain function {name}", "Make it a coroutine, or run", since, frame)

    # --- tasks ---

    def _look_at_task(self, pulse: Pulse) -> None:
        """See whether the loop has been in one step of one task since an earlier look."""
        loop, now = None if self.loop is None else self.loop(), time.monotonic()
        if loop is None or loop.is_closed():
            return
        task = asyncio.current_task(loop)
        if task is None:
            self._suspect = None
            return
        seen = (id(task), pulse.begun)
        if self._suspect is None or self._suspect[0] != seen or (self._has_asked and self._has_answered):
            self._suspect = (seen, now)
            self._has_asked = False
        elif not self._has_asked:
            self._has_asked, self._has_answered = True, False
            with suppress(RuntimeError):  # closed meanwhile
                loop.call_soon_threadsafe(self._answer)
        elif now - self._suspect[1] > BLOCKED_S:
            self._report_task(loop, task, self._suspect[1])

    def _answer(self) -> None:
        self._has_answered = True

    def _report_task(self, loop: asyncio.AbstractEventLoop, task: object, since: float) -> None:
        frame = sys._current_frames().get(self._thread_id)
        if frame is None or asyncio.current_task(loop) is not task:
            return
        name = _coroutine_name(frame)
        if name is not None:
            self._report(f"coroutine {name}", "Await an asynchronous client in it, or run", since, frame)

    def _report(self, what: str, advice: str, since: float, frame: FrameType) -> None:
        place = traceback.extract_stack(_own_frame(frame), limit=1)[-1]
        self.block = (time.monotonic(), f"{what} at {os.path.basename(place.filename)}:{place.lineno}")
        if what not in self._reported:
            self._reported.add(what)
            log.warning(
                "%s blocks the event loop, for %.1f s so far, and with it every conversation of this worker; "
                "it stands at %s. %s its slow part with asyncio.to_thread.",
                what,
                time.monotonic() - since,
                where(_own_frame(frame)),
                advice,
            )


def _coroutine_name(frame: FrameType) -> str | None:
    """Name the handler on a stack, or the user's outermost coroutine, such as that of a handler's child task."""
    handler = other = None
    step: FrameType | None = frame
    while step is not None:
        code = step.f_code
        handler = coroutine_names.get(code, handler)
        if code.co_flags & (CO_COROUTINE | CO_ASYNC_GENERATOR) and is_users_file(code.co_filename):
            other = f"{step.f_globals.get('__name__')}.{getattr(code, 'co_qualname', code.co_name)}"
        step = step.f_back
    return handler or other


def _own_frame(frame: FrameType) -> FrameType:
    """Return the innermost frame of the user's own code; the innermost of all if there is none."""
    step: FrameType | None = frame
    while step is not None:
        if is_users_file(step.f_code.co_filename):
            return step
        step = step.f_back
    return frame


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
