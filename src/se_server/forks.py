"""Forks: a child process that user code starts keeps nothing of the server.

A forked child is a copy of its parent. It has the signal handlers, the descriptor that wakes the event loop up, and
every socket: a caller's connection would stay open as long as the child lives. The hooks of this module run at each
fork and make the child an ordinary process. They replace sockets by /dev/null and leave epoll alone: its registrations
belong to both processes, and a child that closes a registered socket would deafen its parent.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import os
import signal
import socket
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

Descriptors = Callable[[], Iterable[int]]

# A signal that reaches the child before its handlers are reset would wake up the parent's loop.
HELD_BACK = {
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGCHLD,
}

_FORK_WARNING = "is multi-threaded, use of fork"

_owners: list[Descriptors] = []
_loops: list[asyncio.AbstractEventLoop] = []  # those that a server runs on: a child may be forked in another thread
_handlers: set[object] = set()  # signal handlers of the server, besides those of event loops
_in_child: list[Callable[[], object]] = []
copied_loops: set[asyncio.AbstractEventLoop] = set()


class _Fork(threading.local):
    """The fork that this thread is about to do.

    Attributes:
        is_own: whether the server forks a process of its own.
        mask: the blocked signals before the fork; None if this module has blocked none.
        loop: the event loop that the thread runs.
        in_main_thread: whether it is the main thread of the parent.
    """

    is_own = False
    mask: set[Any] | None = None
    loop: asyncio.AbstractEventLoop | None = None
    in_main_thread = False


_fork = _Fork()


@contextmanager
def keep_from_children(descriptors: Descriptors, loop: asyncio.AbstractEventLoop | None = None) -> Iterator[None]:
    """Keep descriptors, and the signal handling of event loops, from processes that are forked meanwhile.

    Args:
        descriptors: called in a forked child; returns the open descriptors that the child must not have.
        loop: the event loop of the server, whose own sockets the child must not have either.
    """
    loops = [] if loop is None else [loop]
    _owners.append(descriptors)
    _loops.extend(loops)
    try:
        yield
    finally:
        with suppress(ValueError):  # in a child the list is empty
            _owners.remove(descriptors)
        for item in loops:
            with suppress(ValueError):
                _loops.remove(item)


def reset_in_children(*handlers: object) -> None:
    """Give children the default action of a signal that has one of these handlers."""
    _handlers.update(handlers)


def call_in_children(function: Callable[[], object]) -> None:
    """Call a function in each child that user code forks."""
    _in_child.append(function)


def is_worth_a_warning(record: logging.LogRecord) -> bool:
    """Whether a log record of Python's warnings is worth a line; a filter.

    Since 3.12, Python warns of a fork beside other threads. A program that has none would be warned of the server's.
    """
    if _FORK_WARNING not in record.getMessage():
        return True
    others = [thread for thread in threading.enumerate() if not thread.name.startswith("se-server")]
    try:
        known = len(os.listdir("/proc/self/task")) <= threading.active_count()
    except OSError:  # not Linux
        known = True
    return len(others) > 1 or not known


@contextmanager
def own_fork() -> Iterator[None]:
    """Fork a process of the server, which keeps everything.

    Python's warning of a fork beside other threads is left out: the server knows its own, and looks for a preload's.
    """
    _fork.is_own = True
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", f".*{_FORK_WARNING}", DeprecationWarning)
            yield
    finally:
        _fork.is_own = False


def is_copied(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether an event loop is the copy that a forked child has of its parent's: it must not run here."""
    return loop in copied_loops


def was_main_thread() -> bool:
    """Whether the main thread of the parent has forked this child; for the functions of `call_in_children`."""
    return _fork.in_main_thread


def end_child(error: BaseException | None = None) -> NoReturn:
    """End a forked child that has come back into code of its parent's server, as the end of its program.

    Args:
        error: the exception that it came back with.
    """
    code: object = 0
    if isinstance(error, SystemExit):
        code = 0 if error.code is None else error.code
    elif error is not None:
        traceback.print_exception(error)
        code = 1
    if not isinstance(code, int):
        print(code, file=sys.stderr)  # noqa: T201  as Python does
        code = 1
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):  # there is none, or nobody reads it
            stream.flush()
    os._exit(code & 0xFF)


def _before() -> None:
    if _fork.is_own:
        return
    _fork.loop = asyncio._get_running_loop()
    _fork.in_main_thread = threading.current_thread() is threading.main_thread()
    if _owners:
        _fork.mask = signal.pthread_sigmask(signal.SIG_BLOCK, HELD_BACK)


def _after_in_parent() -> None:
    _fork.loop = None
    _unblock()


def _after_in_child() -> None:
    loop, _fork.loop = _fork.loop, None
    if _fork.is_own:
        return
    if loop is not None:
        copied_loops.add(loop)
    if _owners:
        loops = {id(item): item for item in (*_loops, loop) if item is not None}
        owners: list[Descriptors] = [*_owners, *(functools.partial(_signal_sockets, item) for item in loops.values())]
        _owners.clear()  # the child's own children have nothing to lose
        _loops.clear()
        steps: list[Callable[[], object]] = [_reset_signals, *_in_child, functools.partial(_replace, owners)]
        for step in steps:
            try:
                step()
            except Exception:
                traceback.print_exc()
    _unblock()


def _unblock() -> None:
    if _fork.mask is not None:
        mask, _fork.mask = _fork.mask, None
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _reset_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in HELD_BACK | signal.valid_signals():
        handler = signal.getsignal(number)
        if number == signal.SIGCHLD and handler == signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)  # libuv has a handler of its own, which Python does not see
        elif _is_of_server(handler):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def _is_of_server(handler: Any) -> bool:
    """Whether a signal handler is the server's or an event loop's; a program's own handlers stay."""
    if isinstance(handler, int) or handler is None:
        return False
    if handler in _handlers:
        return True
    target = handler.func if isinstance(handler, functools.partial) else handler
    owner = getattr(target, "__self__", None)
    if isinstance(owner, (asyncio.AbstractEventLoop, getattr(asyncio, "Runner", ()))):
        return True
    return str(getattr(target, "__module__", "")).partition(".")[0] in ("asyncio", "uvloop")


def _signal_sockets(loop: asyncio.AbstractEventLoop) -> Iterator[int]:
    """Return the pair of sockets by which a loop learns of signals: a child that closes it would deafen its parent.

    uvloop has no name for them, but lets the garbage collector see them.
    """
    found = [getattr(loop, "_ssock", None), getattr(loop, "_csock", None)]
    for item in (*found, *gc.get_referents(loop)):
        if isinstance(item, socket.socket):
            yield item.fileno()


def _replace(owners: Iterable[Descriptors]) -> None:
    """Put /dev/null in the place of the server's descriptors: their numbers stay taken, and the peers see an end."""
    ours = sorted({fd for owner in owners for fd in owner() if fd > 2})
    if not ours:
        return
    try:
        null = os.open(os.devnull, os.O_RDWR)
    except OSError:  # no descriptor is free
        os.close(ours[0])
        null = os.open(os.devnull, os.O_RDWR)
    for fd in ours:
        if fd != null:
            os.dup2(null, fd, inheritable=False)
    if null not in ours:
        os.close(null)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
