"""The supervisor's signals: a handler only queues the number and wakes the loop up."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress

STOP = (signal.SIGTERM, signal.SIGINT)
WATCHED = (
    *STOP,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGCHLD,
)
"""The signals that the supervisor handles."""

# Meant for the supervisor, but a terminal or `pkill` sends them to workers as well. A handler that does nothing and not
# SIG_IGN, which programs that user code starts would inherit.
_NOT_FOR_WORKERS = (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
# These two have to be ignored: writing to a terminal from the background would be tried again and again.
_FROM_TERMINALS = (signal.SIGTTIN, signal.SIGTTOU)


class SignalQueue:
    """The signals that came and were not taken yet.

    Attributes:
        hangup_ignored: whether SIGHUP was ignored at the start, as under nohup(1).
    """

    def __init__(self) -> None:
        self._queue: deque[tuple[signal.Signals, float]] = deque()
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self.hangup_ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN

    def catch(self) -> None:
        """Queue signals from now on."""
        signal.set_wakeup_fd(self._wake_out.fileno(), warn_on_full_buffer=False)
        for number in WATCHED:
            signal.signal(number, self._put)

    def _put(self, number: int, _frame: object) -> None:
        self._queue.append((signal.Signals(number), time.monotonic()))

    def fileno(self) -> int:
        """Return a descriptor that is readable when a signal has come."""
        return self._wake_in.fileno()

    def take(self) -> Iterator[tuple[signal.Signals, float]]:
        """Give what came since the last time, and when; deaths of children only wake the loop up."""
        with suppress(BlockingIOError):
            self._wake_in.recv(4096)
        while self._queue:
            number, came_at = self._queue.popleft()
            if number != signal.SIGCHLD:
                yield number, came_at

    def close(self) -> None:
        """Close the descriptors; in a child, of its copies."""
        self._wake_in.close()
        self._wake_out.close()

    def release(self) -> None:
        """Catch no more: the process is about to exit, and one more signal must not become its cause of death."""
        for number in WATCHED:
            signal.signal(number, signal.SIG_DFL if number == signal.SIGCHLD else signal.SIG_IGN)
        signal.set_wakeup_fd(-1)
        self.close()


def settle_worker_signals() -> None:
    """In the forked child: heed SIGTERM until the worker's loop does, and nothing that is meant for the supervisor."""
    signal.set_wakeup_fd(-1)
    for number in _NOT_FOR_WORKERS:
        signal.signal(number, _do_nothing)
    for number in _FROM_TERMINALS:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _do_nothing(_number: int, _frame: object) -> None:
    return


def has_terminal() -> bool:
    """Whether the process has a controlling terminal that is still there."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK))
    except OSError:
        return False
    return True
