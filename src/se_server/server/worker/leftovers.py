"""Leftovers: whatever an import leaves running or open that does not survive a fork, found and described.

A forked process has the thread that forked, and no other; it shares sockets and epoll objects with its parent. So a
thread, an event loop, a socket, a child process and a lock of an ended thread are no use to the workers, and harm them
silently: they wait for ever, or read each other's answers.
"""

from __future__ import annotations

import asyncio
import gc
import os
import re
import signal
import socket
import stat
import sys
import threading
import time
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from se_server.forks import own_fork
from se_server.server.shared.procfs import children_of
from se_server.server.worker.holders import holder_of
from se_server.spelling import counted

SETTLE_S = 0.5
"""Time for threads and processes that are about to end."""
_LOOK_S = 0.01
_SHOWN = 3
# They end with their last user, and a forked process goes on using them.
_HELPERS = ("multiprocessing.resource_tracker", "multiprocessing.semaphore_tracker")
_OWN_THREADS = ("se-server-log",)  # ends at once
_PYTHONS = ("<", os.path.dirname(threading.__file__) + os.sep)
_OURS = str(Path(__file__).parents[2]) + os.sep
_OWNER = re.compile(r"owner=(\d+) count=([1-9]\d*)")
_SQLITE = b"SQLite format 3\0"
_EVENTS = ("anon_inode:[eventpoll]", "anon_inode:[io_uring]")


class Leftovers:
    """Finds what has come up since this object was made, in the process that is about to fork."""

    def __init__(self) -> None:
        self._descriptors = set(_descriptors())
        self._loops = {id(loop) for loop in _loops(_objects_of_interest())}
        self._children = {pid for pid, _ in children_of(os.getpid())}
        self._starts: dict[int, str] = {}
        self._start: Any = threading.Thread.start
        self._noting: Any = None
        self._is_noting = True

    def __enter__(self) -> Leftovers:
        """Note where threads are started, until the end of the block."""
        start = self._start = threading.Thread.start
        starts = self._starts

        def noting_start(thread: threading.Thread) -> None:
            if self._is_noting:
                starts[id(thread)] = _place_of_start()
            start(thread)

        threading.Thread.start = noting_start  # type: ignore[method-assign, assignment]
        self._noting = noting_start
        return self

    def __exit__(self, *_: object) -> None:
        self._is_noting = False
        if threading.Thread.start is self._noting:  # else a library, such as sentry_sdk, has wrapped it
            threading.Thread.start = self._start  # type: ignore[method-assign]

    def find(self) -> str:
        """Describe everything that is left, for a sentence; an empty text if nothing is."""
        found = self._look()
        if found:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ResourceWarning)
                gc.collect()
            found = self._look()
        deadline = time.monotonic() + SETTLE_S
        while found and time.monotonic() < deadline:
            time.sleep(_LOOK_S)
            found = self._look()
        more = [f"{len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
        *first, last = [*found[:_SHOWN], *more] or [""]
        return f"{', '.join(first)} and {last}" if first else last

    def _look(self) -> list[str]:
        threads = self._threads() or _native_threads()
        objects = _objects_of_interest()
        loops = self._open_loops(objects)
        return [
            *threads,
            *loops,
            *self._open_files(objects, with_events=not (loops or threads)),
            *self._processes(),
            *([] if threads else _dead_locks(objects)),
            *_timers(),
        ]

    def _threads(self) -> list[str]:
        named = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
        idents = {thread.ident for thread in named}
        found = [
            f"the thread {thread.name!r}{self._start_of(thread)}"
            for thread in named
            if thread.name not in _OWN_THREADS and not isinstance(thread, threading._DummyThread)
        ]
        for ident, frame in sys._current_frames().items():
            is_dummy = any(thread.ident == ident and isinstance(thread, threading._DummyThread) for thread in named)
            if ident != threading.main_thread().ident and (ident not in idents or is_dummy):
                found.append(f"a thread that runs {_code_of(frame)}")
        return found

    def _start_of(self, thread: threading.Thread) -> str:
        place = self._starts.get(id(thread))
        return f" (started at {place})" if place else ""

    def _open_loops(self, objects: Sequence[Any]) -> list[str]:
        found = []
        for loop in _loops(objects):
            if id(loop) not in self._loops:
                kind = f"{type(loop).__module__.partition('.')[0]}.{type(loop).__name__}"
                found.append(f"an event loop ({kind}) that is not closed{holder_of(loop)}")
        return found

    def _open_files(self, objects: Sequence[Any], *, with_events: bool) -> list[str]:
        found = []
        sockets = {socket.socket.fileno(each): each for each in objects if issubclass(type(each), socket.socket)}
        for descriptor in sorted(set(_descriptors()) - self._descriptors):
            name = _target(descriptor)
            if name.startswith("socket:"):
                text = _describe_socket(descriptor)
                is_pair_of_loop = text is _PAIR and not with_events
                if not is_pair_of_loop:
                    found.append(f"{text}{holder_of(sockets.get(descriptor))}")
            elif name in _EVENTS and with_events:
                found.append("an open epoll object, as of a selector")
            elif name.startswith("/") and _is_database(descriptor):
                found.append(f"a connection to the SQLite database {name}")
        return found

    def end_processes(self) -> None:
        """End the child processes that are left, because this process ends, too."""
        for pid, _ in children_of(os.getpid()):
            if pid not in self._children:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)

    def _processes(self) -> list[str]:
        return [
            f"the child process {pid} ({command[:100]})"
            for pid, command in children_of(os.getpid())
            if pid not in self._children and not any(helper in command for helper in _HELPERS)
        ]


_RLOCK = type(threading.RLock())
_OF_INTEREST = (asyncio.AbstractEventLoop, socket.socket, _RLOCK)


def _objects_of_interest() -> list[Any]:
    """Return all event loops, sockets and reentrant locks; a package has half a million other objects."""
    # The type is asked, and not the object: a proxy would begin to work.
    kinds: dict[type, bool] = {}
    found = []
    for item in gc.get_objects():
        kind = type(item)
        is_found = kinds.get(kind)
        if is_found is None:
            is_found = kinds[kind] = issubclass(kind, _OF_INTEREST)
        if is_found:
            found.append(item)
    return found


def _loops(objects: Sequence[Any]) -> list[asyncio.AbstractEventLoop]:
    return [each for each in objects if issubclass(type(each), asyncio.AbstractEventLoop) and not each.is_closed()]


def _native_threads() -> list[str]:
    """Describe threads of C code. Those whose library ends them before a fork, as OpenBLAS does, are none."""
    if len(_tasks()) < 2:
        return []
    with own_fork(), suppress(OSError):
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)
    # The main thread's own id is that of its process, also where Python remembers the one from before a fork.
    own = {os.getpid(), *(thread.native_id for thread in threading.enumerate())}
    names = [name for task, name in _tasks().items() if task not in own and name]
    if not names:
        return []
    shown = ", ".join(sorted(set(names))[:_SHOWN])
    return [f"{counted(len(names), 'thread')} of C code ({shown})"]


def _tasks() -> dict[int, str]:
    """Return the system's threads of this process, with their names."""
    found = {}
    with suppress(OSError):
        for task in os.listdir("/proc/self/task"):
            with suppress(OSError), open(f"/proc/self/task/{task}/comm", errors="replace") as file:
                found[int(task)] = file.read().strip()
    return found


def _place_of_start() -> str:
    """Return file and line of the code that starts a thread: the user's own, else that of a package, else Python's."""
    frame: FrameType | None = sys._getframe(2)
    places: dict[int, str] = {}
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith(_OURS):
            rank = 1 if "site-packages" in file or "dist-packages" in file else 2 if file.startswith(_PYTHONS) else 0
            places.setdefault(rank, f"{file}:{frame.f_lineno}")
        frame = frame.f_back
    return places[min(places)] if places else ""


def _code_of(frame: FrameType) -> str:
    while frame.f_back is not None:
        frame = frame.f_back
    return f"{frame.f_code.co_name} ({frame.f_code.co_filename}:{frame.f_code.co_firstlineno})"


def _descriptors() -> list[int]:
    for folder in ("/proc/self/fd", "/dev/fd"):
        with suppress(OSError):
            return [int(name) for name in os.listdir(folder) if _target(int(name)) or folder == "/dev/fd"]
    return []


def _target(descriptor: int) -> str:
    """Return the name of an open file; empty if it is closed by now, as the one that lists the others."""
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except OSError:
        pass
    with suppress(OSError):
        return "socket:" if stat.S_ISSOCK(os.fstat(descriptor).st_mode) else "other:"
    return ""


_PAIR = "a pair of sockets"


def _describe_socket(descriptor: int) -> str:
    with socket.socket(fileno=os.dup(descriptor)) as sock:
        if sock.family not in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
            return "an open socket"
        try:
            peer = sock.getpeername()
        except OSError:
            own = _address(sock.family, sock.getsockname())
            is_listening = bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
            if is_listening:
                return f"a socket that listens on {own}"
            return f"an open socket at {own}" if own else "an open socket"
        address = _address(sock.family, peer)
        return f"a connection to {address}" if address else _PAIR


def _address(family: int, name: Any) -> str:
    if family == socket.AF_UNIX:
        text = os.fsdecode(name) if name else ""
        return text.replace("\0", "@", 1)
    host, port = name[:2]
    if not port:
        return ""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_database(descriptor: int) -> bool:
    try:
        return os.pread(descriptor, len(_SQLITE), 0) == _SQLITE
    except OSError:
        return False


def _dead_locks(objects: Sequence[Any]) -> list[str]:
    """Describe reentrant locks whose owner is a thread that has ended: nobody can release them."""
    main = threading.main_thread().ident
    found = []
    for lock in objects:
        owner = _OWNER.search(repr(lock)) if type(lock) is _RLOCK else None
        if owner is not None and int(owner[1]) != main:
            found.append(f"a lock that is held by an ended thread{holder_of(lock)}")
    return found


def _timers() -> list[str]:
    timers = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
    return ["a running timer (signal.setitimer or alarm)"] if any(signal.getitimer(each)[0] for each in timers) else []
