"""The supervisor's signals: a handler only queues the number of the signal and wakes the loop up."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress

from se_server.forks import reset_in_children

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

# A terminal or `pkill` sends these to workers as well, although they are meant for the supervisor. Workers have a
# handler that does nothing: programs that user code starts would inherit SIG_IGN.
_NOT_FOR_WORKERS = (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
_FROM_TERMINALS = (signal.SIGTTIN, signal.SIGTTOU)


class SignalQueue:
    """The signals that have arrived and were not taken yet.

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
        """Start to queue signals."""
        signal.set_wakeup_fd(self._wake_out.fileno(), warn_on_full_buffer=False)
        for number in WATCHED:
            signal.signal(number, self._put)

    def _put(self, number: int, _frame: object) -> None:
        self._queue.append((signal.Signals(number), time.monotonic()))

    def fileno(self) -> int:
        """Return a descriptor that is readable when a signal has arrived."""
        return self._wake_in.fileno()

    def take(self) -> Iterator[tuple[signal.Signals, float]]:
        """Yield each new signal and its time of arrival. SIGCHLD is left out: it only wakes the loop up."""
        with suppress(BlockingIOError):
            self._wake_in.recv(4096)
        while self._queue:
            number, came_at = self._queue.popleft()
            if number != signal.SIGCHLD:
                yield number, came_at

    def close(self) -> None:
        """Close the descriptors; in a child, its copies of them."""
        self._wake_in.close()
        self._wake_out.close()

    def release(self) -> None:
        """Ignore signals from now on: another signal must not change the exit code of the process that is ending."""
        for number in WATCHED:
            signal.signal(number, signal.SIG_DFL if number == signal.SIGCHLD else signal.SIG_IGN)
        signal.set_wakeup_fd(-1)
        self.close()


def settle_worker_signals() -> None:
    """Reset the signals of a forked child: SIGTERM ends it until its loop has a handler, the others have no effect."""
    signal.set_wakeup_fd(-1)
    for number in _NOT_FOR_WORKERS:
        signal.signal(number, _do_nothing)
    for number in _FROM_TERMINALS:
        signal.signal(number, _ignore_terminal)
    reset_in_children(_do_nothing, _ignore_terminal)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _do_nothing(_number: int, _frame: object) -> None:
    return


def _ignore_terminal(number: int, _frame: object) -> None:
    """Ignore the signal from now on if this is a background process: its write to a terminal is retried for ever."""
    if _is_in_background():
        signal.signal(number, signal.SIG_IGN)


def _is_in_background() -> bool:
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) != os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)


def has_terminal() -> bool:
    """Whether the process has a controlling terminal that is still open."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK))
    except OSError:
        return False
    return True
