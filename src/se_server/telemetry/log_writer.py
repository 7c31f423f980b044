"""Writes lines to a descriptor without making the caller wait: a reader that stalls must stop no process.

`put` tries a write that returns at once, in the caller's thread, so that a crash loses no line in the usual case. Lines
that cannot be written wait in a bounded queue, for a thread that exists from then on. The supervisor forks and
therefore has no threads: it polls (`backlogs`). Polling tells nothing about files, so that it writes to those in a
thread that ends at once, unless the disk hangs. A line that does not fit into the queue is lost; as soon as lines can
be written again, one line reports the number of lost ones.

O_NONBLOCK on an inherited descriptor would change it for all processes that share it. So a pipe or a terminal is opened
a second time through /proc, and sockets take MSG_DONTWAIT. Where that is impossible (macOS, a pipe of another user),
`poll` is asked first, which leaves a moment in which another process may fill the pipe.
"""

from __future__ import annotations

import os
import select
import socket
import stat
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable

MAX_QUEUED_BYTES = 1 << 20
# A pipe takes larger writes in several pieces (POSIX guarantees 512 bytes, Linux 4096), which would mix with the lines
# of other processes.
LINE_BYTES = getattr(select, "PIPE_BUF", 512)
LOOK_S = 0.25
"""Interval at which a thread that waits looks whether the descriptor has become another file."""
PATIENCE_S = 0.1
"""Time for a line on a disk, in a process that forks. Beyond it the disk hangs, and lines wait for it."""
FLUSH_S = 1.0
"""Time for the last lines of a process that exits."""

_NO_WAIT = getattr(socket, "MSG_DONTWAIT", 0) | getattr(socket, "MSG_NOSIGNAL", 0)
_FAILED, _BLOCKED = -1, -2


class _Output:
    """A descriptor, opened in the way that suits its kind of file, for as long as one burst of lines.

    Attributes:
        never_blocks: whether `write` returns at once in every case.
        is_file: whether it is a file on a disk, which may hang.
    """

    def __init__(self, descriptor: int) -> None:
        self.never_blocks = True
        self.is_file = False
        self._descriptor = descriptor
        self._own: int | None = None
        self._socket: socket.socket | None = None
        self._asks = False
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISSOCK(mode) and _NO_WAIT:
            self._socket = socket.socket(fileno=os.dup(descriptor))
        elif stat.S_ISREG(mode):
            self.never_blocks, self.is_file = False, True
        elif stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or os.isatty(descriptor):
            self._open_again()

    def _open_again(self) -> None:
        # Only on Linux is the result an open file of its own; /dev/fd of macOS duplicates the descriptor.
        if sys.platform == "linux":
            try:
                flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_APPEND
                self._own = os.open(f"/proc/self/fd/{self._descriptor}", flags)
                return
            except OSError:  # another user's pipe, a pipe without a reader, or no /proc
                pass
        self._asks, self.never_blocks = True, False

    def write(self, data: bytes) -> int:
        """Return how many bytes were written, or `_FAILED` or `_BLOCKED`."""
        try:
            if self._socket is not None:
                return self._socket.send(data, _NO_WAIT)
            if self._asks and not wait_writable(self._descriptor, 0):
                return _BLOCKED
            return os.write(self._descriptor if self._own is None else self._own, data)
        except BlockingIOError:
            return _BLOCKED
        except OSError:  # nobody reads, or the disk is full
            return _FAILED

    def close(self) -> None:
        if self._own is not None:
            os.close(self._own)
        if self._socket is not None:
            self._socket.close()


class LogWriter:
    """Writes whole lines to a descriptor, which it does not own, in the order of `put`.

    Args:
        descriptor: may become another file at any time, by `dup2`.
        max_bytes: the size of the queue.

    Attributes:
        lost: the number of lost lines that no line has reported yet.
        describe_loss: makes the line about lost lines from their number.
    """

    def __init__(self, descriptor: int, max_bytes: int = MAX_QUEUED_BYTES) -> None:
        self.describe_loss: Callable[[int], bytes] = _describe_loss
        self._descriptor = descriptor
        self._max_bytes = max_bytes
        self._forget()
        _writers.add(self)

    def _forget(self) -> None:
        """Begin without lines and without a thread. In a forked child both are its parent's."""
        self.lost = 0
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        # Reentrant: a signal handler or a finalizer may log while this thread logs.
        self._lock = threading.RLock()
        self._is_writing = False
        self._is_rest = False  # whether the first line is the rest of one
        self._ends_in_part = False  # whether a part of a line was written last
        self._thread: threading.Thread | None = None
        self._brief: threading.Thread | None = None  # in a process that forks
        self._news = threading.Event()
        self._progress = threading.Event()

    def put(self, *lines: bytes) -> None:
        """Write lines, or have them written. Never waits for their reader.

        Args:
            lines: each ends with a line feed.
        """
        is_left_to_disk = False
        with self._lock:
            for line in lines:
                if self._queued_bytes + len(line) > self._max_bytes:
                    self.lost += 1
                else:
                    self._queue.append(line)
                    self._queued_bytes += len(line)
            if not self._is_writing:
                is_left_to_disk = self._write_queue(only_at_once=_may_start_threads)
            if self._queue and _may_start_threads:
                if self._thread is None:
                    self._thread = _start(self._run)
                self._news.set()
        if is_left_to_disk and not _may_start_threads:
            self._write_to_disk(PATIENCE_S)

    def queued_bytes(self) -> int:
        """Return the size of the lines that wait."""
        return self._queued_bytes

    def flush(self, timeout_s: float = FLUSH_S, left_bytes: int = 0) -> bool:
        """Wait until all lines are written; return whether they are.

        Args:
            timeout_s: give up after this time.
            left_bytes: so many may wait still.
        """
        deadline = time.monotonic() + timeout_s
        while self._queued_bytes > left_bytes or (self._is_writing and not left_bytes):
            left_s = min(deadline - time.monotonic(), LOOK_S)
            if left_s <= 0:
                return False
            if self._thread is None:
                wait_writable(self._descriptor, left_s)
                self.write_backlog()
                if self._brief is not None:
                    self._brief.join(left_s)
            else:
                self._progress.clear()
                if self._queue or self._is_writing:
                    self._progress.wait(left_s)
        return True

    # --- without a thread ---

    def has_backlog(self) -> bool:
        """Whether lines wait that only `write_backlog` can write."""
        return bool(self._queue) and self._thread is None and not (self._brief and self._brief.is_alive())

    def fileno(self) -> int:
        """Return the descriptor, to poll it."""
        return self._descriptor

    def write_backlog(self) -> None:
        """Write as many lines as can be written now."""
        is_left_to_disk = False
        with self._lock:
            if not self._is_writing:
                is_left_to_disk = self._write_queue(only_at_once=False)
        if is_left_to_disk:
            self._write_to_disk(PATIENCE_S)

    def _write_queue(self, *, only_at_once: bool) -> bool:
        """Write lines until one would block; with `only_at_once` nothing if a write could. The caller has the lock.

        Returns:
            Whether lines are left because they go to a file.
        """
        output = self._opened()
        if output is None:
            return False
        self._is_writing = True
        may_wait = not (only_at_once or output.is_file)
        try:
            while self._queue and (output.never_blocks or may_wait):
                line = self._first()
                count = output.write(line)
                if count == _BLOCKED:
                    return False
                self._note(line, count)
            return output.is_file and bool(self._queue)
        finally:
            self._is_writing = False
            output.close()

    def _opened(self) -> _Output | None:
        try:
            return _Output(self._descriptor)
        except OSError:  # the descriptor is closed
            self.lost += len(self._queue)
            self._queue.clear()
            self._queued_bytes = 0
            return None

    def _first(self) -> bytes:
        """Return the first line. After a part of another one, whose rest could not be written, it begins on its own."""
        if self._ends_in_part and not self._is_rest and not self._queue[0].startswith(b"\n"):
            self._queue[0] = b"\n" + self._queue[0]
            self._queued_bytes += 1
        return self._queue[0]

    def _note(self, line: bytes, count: int) -> None:
        """Remove the written part of the first line from the queue. The caller has the lock."""
        if 0 <= count < len(line):  # a terminal, a socket or a disk: nothing may come between the parts of a line
            self._queue[0] = line[count:]
            self._queued_bytes -= count
            self._is_rest = True
            self._ends_in_part = self._ends_in_part or count > 0
            return
        self._queue.popleft()
        self._queued_bytes -= len(line)
        self._is_rest = False
        if count == _FAILED:
            self.lost += 1
            return
        self._ends_in_part = False
        if self.lost:
            # Lines are lost while the queue is full, so the report stands behind the lines that wait.
            notice = self.describe_loss(self.lost)
            self.lost = 0
            self._queue.append(notice)
            self._queued_bytes += len(notice)

    # --- the thread ---

    def _run(self) -> None:
        while True:
            self._news.wait()
            self._news.clear()
            while self._queue:
                self._write_first()
                self._progress.set()

    def _run_briefly(self) -> None:
        while self._queue:
            self._write_first()

    def _write_to_disk(self, patience_s: float) -> None:
        """Write to a file in a thread, and wait for its end, no longer than `patience_s`. The caller has no lock."""
        if self._brief is None or not self._brief.is_alive():
            self._brief = _start(self._run_briefly)
        if self._brief is not None:
            self._brief.join(patience_s)

    def _write_first(self) -> None:
        """Write the first line, without the lock: the disk may be slow, and `put` goes on meanwhile."""
        with self._lock:
            if self._is_writing or not self._queue:
                return
            output = self._opened()
            if output is None:
                return
            self._is_writing = True
            line = self._first()
        count = _BLOCKED
        try:
            count = output.write(line)
        finally:
            with self._lock:
                self._is_writing = False
                output.close()
                if count != _BLOCKED:
                    self._note(line, count)
        if count == _BLOCKED:
            wait_writable(self._descriptor, LOOK_S)


def _start(run: Callable[[], None]) -> threading.Thread | None:
    thread = threading.Thread(target=run, name="se-server-log", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # too many threads, or the interpreter is shutting down
        return None
    return thread


def _describe_loss(count: int) -> bytes:
    return b"%d log lines were lost: they could not be written\n" % count


def wait_writable(descriptor: int, timeout_s: float) -> bool:
    """Wait until a write to a descriptor returns at once, or fails; return whether it does."""
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return bool(poll.poll(timeout_s * 1000))


_writers: weakref.WeakSet[LogWriter] = weakref.WeakSet()


def backlogs() -> list[LogWriter]:
    """Return the writers of this process whose lines wait for `write_backlog`."""
    return [writer for writer in _writers if writer.has_backlog()]


def flush_logs(timeout_s: float = FLUSH_S) -> None:
    """Write the last lines of this process, all within `timeout_s`; called before it exits."""
    deadline = time.monotonic() + timeout_s
    for writer in list(_writers):
        writer.flush(max(0.0, deadline - time.monotonic()))


def allow_threads(allowed: bool) -> None:
    """Have the writers of this process start threads, or not: the supervisor forks, its workers do not."""
    global _may_start_threads
    _may_start_threads = allowed


_may_start_threads = True


def _forget_all() -> None:
    for writer in list(_writers):
        writer._forget()


# A child of user code, too, would otherwise wait for a lock that a thread of its parent held.
os.register_at_fork(after_in_child=_forget_all)
