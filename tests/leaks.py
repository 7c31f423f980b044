"""Checks that a test leaves nothing behind: descriptors, processes, tasks, write buffers, objects of a connection.

Nothing here sleeps for a fixed time: a check waits until resources are gone, at most `GRACE_S`.
"""

from __future__ import annotations

import asyncio
import asyncio.selector_events
import asyncio.sslproto
import gc
import os
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import picows.picows
import uvloop
import uvloop.loop

from se_server.conversation._listener import Connection, FrameGate, SocketOutbox
from se_server.conversation._outbox import buffers_out
from se_server.conversation.session import SpeechEngineSession
from se_server.server.door.door import Door
from se_server.server.door.http_connection import HttpConnection
from se_server.streams._stream import Stream

GRACE_S = 15.0
POLL_S = 0.01

HAS_PROC = Path("/proc/self/fd").exists()

# Every descendant of a test process inherits the mark, even a worker whose supervisor has ended.
# Each process that runs tests has a mark of its own, even if pytest-xdist started it from a marked process.
_MARK_NAME = "RUN_OF_THE_TESTS"
_MARK = os.environ[_MARK_NAME] = uuid.uuid4().hex

# libuv opens a pipe and a spare descriptor with its first loop, and keeps them.
uvloop.new_event_loop().close()

_CONNECTION_TYPES = frozenset(
    {
        asyncio.selector_events._SelectorSocketTransport,  # type: ignore[attr-defined]
        asyncio.sslproto._SSLProtocolTransport,
        asyncio.sslproto.SSLProtocol,
        uvloop.loop.TCPTransport,  # type: ignore[attr-defined]
        uvloop.loop.UnixTransport,  # type: ignore[attr-defined]
        uvloop.loop.SSLProtocol,  # type: ignore[attr-defined]
        picows.picows.WSProtocol,  # type: ignore[attr-defined]
        picows.picows.WSTransport,
        Connection,
        Door,
        FrameGate,
        HttpConnection,
        SocketOutbox,
        SpeechEngineSession,
        Stream,
    }
)


class Leak(AssertionError):
    """A test left something behind."""


class Before:
    """The state before a test. Make it before the test, and call `check` after it.

    Args:
        objects: also look for objects of connections, which takes a garbage collection of a tenth of a second.
        grace_s: seconds for resources to be released.
    """

    def __init__(self, *, objects: bool = False, grace_s: float = GRACE_S) -> None:
        self._grace_s = grace_s
        self._objects = connection_objects() if objects else None
        self._buffers = buffers_out()
        self._descriptors = open_descriptors()
        self._processes = set(processes())

    def check(self) -> None:
        """Wait until nothing is left behind.

        Raises:
            Leak: something remains; the text names it.
        """
        deadline = time.monotonic() + self._grace_s
        collected = False
        while left := self._left():
            if not collected:
                collected = True
                gc.collect()  # garbage that waits for a collection is no leak
            elif time.monotonic() > deadline:
                raise Leak("left behind: " + "; ".join(left))
            else:
                time.sleep(POLL_S)  # other processes need time to end

    def _left(self) -> list[str]:
        left = []
        if (buffers := buffers_out()) != self._buffers:
            left.append(f"{buffers - self._buffers} buffers are not back in the pool")
        left += [f"descriptor {fd}, {name}" for fd, name in sorted(open_descriptors() - self._descriptors)]
        left += [f"process {pid}, {name}" for pid, name in sorted(set(processes()) - self._processes)]
        if self._objects is not None:
            more = connection_objects() - self._objects
            left += [f"{number} {kind.__name__} of {kind.__module__}" for kind, number in more.items()]
        return left


def open_descriptors() -> set[tuple[int, str]]:
    """Return the descriptors of this process and their targets; empty without /proc."""
    found = set()
    for entry in os.listdir("/proc/self/fd") if HAS_PROC else ():
        if int(entry) < 3:
            continue  # pytest changes them between a test and its end
        try:
            found.add((int(entry), os.readlink(f"/proc/self/fd/{entry}")))
        except FileNotFoundError:  # the descriptor of the listing itself
            continue
    return found


def processes() -> Iterator[tuple[int, str]]:
    """Yield (process id, command) of every descendant of this process, even if its parent has ended."""
    for entry in os.listdir("/proc") if HAS_PROC else ():
        if entry.isdigit() and int(entry) != os.getpid():
            try:
                stat = Path("/proc", entry, "stat").read_text(encoding="utf-8", errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue  # ended and reaped
            name, _, rest = stat.rpartition(") ")
            if int(rest.split()[1]) == os.getpid() or _is_marked(entry):
                yield int(entry), name.partition("(")[2]


def _is_marked(pid: str) -> bool:
    try:
        return f"{_MARK_NAME}={_MARK}".encode() in Path("/proc", pid, "environ").read_bytes()
    except OSError:
        return False  # it has ended, or is another user's


def connection_objects() -> Counter[type]:
    """Count the objects of connections by type, after a garbage collection."""
    gc.collect()
    return Counter(kind for kind in map(type, gc.get_objects()) if kind in _CONNECTION_TYPES)


async def no_tasks_left(grace_s: float = GRACE_S) -> None:
    """Wait until this task is the only one on the loop.

    Raises:
        Leak: another one remains; the text names it.
    """
    left = asyncio.all_tasks() - {asyncio.current_task()}
    if left:
        _, left = await asyncio.wait(left, timeout=grace_s)
    if left:
        raise Leak("left behind: " + "; ".join(map(repr, left)))
