"""Work outside an event loop: threads that may wake it, and the far ends of its sockets.

Nothing reports that a thread has work. A thread is taken to work unless its innermost frame waits for something to do.
"""

from __future__ import annotations

import contextvars
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

IDLE_MODULES = frozenset(
    {"threading", "queue", "selectors", "socketserver", "concurrent.futures.thread", "multiprocessing.connection"}
)
IDLE_FUNCTIONS = frozenset({"wait", "get", "put", "join", "select", "_worker", "_wait_for_tstate_lock", "result"})
# Real seconds for which a thread at work is waited for; then it is taken for one that never ends.
PATIENCE_S = 5.0


class Threads:
    """The threads that were not at work yet when this object was made."""

    def __init__(self) -> None:
        self._unrelated = _busy()
        self._busy_since: dict[object, float] = {}

    def may_work(self) -> bool:
        """Return whether there is such a thread, idle or not."""
        return not self._unrelated.issuperset(_others())

    def are_busy(self) -> bool:
        """Return whether a thread works, at most `PATIENCE_S` after it was first seen at it."""
        busy = _busy()
        self._unrelated.intersection_update(busy)
        now = time.monotonic()
        self._busy_since = {thread: self._busy_since.get(thread, now) for thread in busy - self._unrelated}
        return any(now - since < PATIENCE_S for since in self._busy_since.values())


def _others() -> dict[object, FrameType]:
    """Return the frames of the threads but this one and the server's own, which log and watch the loop.

    The key is the thread's object, or its number if Python has not made it: a number is used again.
    """
    frames = sys._current_frames()
    frames.pop(threading.get_ident(), None)
    if not frames:
        return {}
    threads = {thread.ident: thread for thread in threading.enumerate()}
    found: dict[object, FrameType] = {}
    for number, frame in frames.items():
        thread = threads.get(number)
        if thread is None or not thread.name.startswith("se-server"):
            found[number if thread is None else thread] = frame
    return found


def _busy() -> set[object]:
    return {thread for thread, frame in _others().items() if not _is_idle(frame)}


def _is_idle(frame: FrameType) -> bool:
    return frame.f_code.co_name in IDLE_FUNCTIONS and frame.f_globals.get("__name__") in IDLE_MODULES


def ends_of(fd: int) -> tuple[object, object | None] | None:
    """Return the near and far address of an internet socket, the far one None if it listens; None for other files."""
    try:
        with _borrowed(fd) as sock:
            if sock.family not in (socket.AF_INET, socket.AF_INET6):
                return None
            near = sock.getsockname()[:2]
            if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                return near, None
            return near, sock.getpeername()[:2]
    except OSError:  # not a socket, or not connected yet
        return None


@contextmanager
def _borrowed(fd: int) -> Iterator[socket.socket]:
    sock = socket.socket(fileno=fd)
    try:
        yield sock
    finally:
        sock.detach()


def anyio_jobs() -> int:
    """Count the running jobs of `anyio.to_thread`, whose threads belong to no executor."""
    to_thread = sys.modules.get("anyio.to_thread")
    if to_thread is None:
        return 0
    sniffio = sys.modules.get("sniffio")

    def count() -> int:
        if sniffio is not None:  # sniffio detects asyncio only inside a task
            sniffio.current_async_library_cvar.set("asyncio")
        return int(to_thread.current_default_thread_limiter().borrowed_tokens)

    return contextvars.copy_context().run(count)
