"""The supervisor: forks, waits, reaps. It has no event loop and runs no user code, so nothing of these can hang it.

A signal handler only queues its number and wakes the loop below up, by the wake-up descriptor. The loop waits for
that and for the control channels of the workers with `poll`, and for the next thing that is due; it never looks busily.

A slot is a place for one worker. The first worker of a slot that cannot start ends the whole, with its error shown
once. After that, a slot whose worker ended gets another one: at once, or after a growing pause if workers keep dying
young. Five that cannot start, in a row, end the whole too: no crash loop burns the machine.
"""

from __future__ import annotations

import gc
import logging
import os
import select
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from se_server.server.children import WATCHED, Closable, State, WorkerRecord, fork_worker
from se_server.server.control import ControlChannel, ControlError, Drain, Draining, Failed, Message, Ready
from se_server.server.worker import EXIT_BOOT, EXIT_OK

logger = logging.getLogger(__name__)

# What a worker may need after its drain time: closing the sessions, on_shutdown and left-over tasks, each bounded.
EXIT_MARGIN_S = 20.0
BOOT_STOP_S = 2.0  # a worker that has not started yet has nothing to finish
STEADY_S = 5.0  # a worker that lived this long did not die of how it started
MAX_BOOT_FAILURES = 5
MAX_PAUSE_S = 30.0
FORK_RETRY_S = 1.0
MAX_WAIT_S = 3600.0  # poll takes no more than a C int of milliseconds, and a drain may last longer
# timeout(1), service managers and terminals signal the process and its group: one wish to stop, come twice.
SAME_STOP_S = 0.1

RunWorker = Callable[[Sequence[socket.socket], ControlChannel], int]


class Announcer(Protocol):
    """What the command line shows of the supervisor's life."""

    def ready(self, workers: int) -> None:
        """All workers are ready, for the first time."""

    def failed(self, reason: str, details: str) -> None:
        """The server cannot start: one sentence, and the traceback of user code or nothing."""


class Supervisor:
    """Keeps a number of workers running on shared listen sockets.

    Args:
        listen_sockets: bound and listening; owned from now on.
        workers: how many.
        run_worker: what a worker does after the fork; returns its exit code.
        announcer: told once when all are ready, and once when the server cannot start.
        drain_timeout_s: how long conversations may go on after a stop.
    """

    def __init__(
        self,
        listen_sockets: Sequence[socket.socket],
        *,
        workers: int,
        run_worker: RunWorker,
        announcer: Announcer,
        drain_timeout_s: float,
    ) -> None:
        self._listen_sockets = list(listen_sockets)
        self._count = workers
        self._run_worker = run_worker
        self._announcer = announcer
        self._drain_timeout_s = drain_timeout_s
        self._workers: dict[int, WorkerRecord] = {}  # by pid
        self._vacant: dict[int, float] = {}  # slot -> when its next worker is due
        self._signals: deque[tuple[int, float]] = deque()  # and when it came
        self._wake_in, self._wake_out = socket.socketpair()
        self._exit_code = EXIT_OK
        self._announced = False
        self._stopping = False
        self._stop_signal_at = 0.0
        self._boot_failures = 0  # in a row
        self._young_deaths = 0  # in a row

    def run(self) -> int:
        """Run until stopped by SIGTERM or SIGINT, or until the workers cannot start; once, as the process's last deed.

        Returns:
            The exit code: 0 after a stop, 3 if the workers could not start.
        """
        self._catch_signals()
        # What the workers share stays shared: a collection would write to every object's page.
        gc.collect()
        gc.freeze()
        now = time.monotonic()
        self._vacant = dict.fromkeys(range(self._count), now)
        try:
            while self._workers or self._vacant:
                self._take_signals()
                self._hear_workers()
                self._reap()
                self._fill_slots()
                self._kill_overdue()
                self._wait()
        finally:
            self._close()
        return self._exit_code

    # --- waiting ---

    def _wait(self) -> None:
        """Sleep until a signal, a message of a worker, or the next thing that is due."""
        if not self._workers and not self._vacant:
            return
        due = [record.kill_at for record in self._workers.values() if record.kill_at is not None]
        due += self._vacant.values()
        timeout_ms = None
        if due:
            timeout_ms = max(0.0, min(min(due) - time.monotonic(), MAX_WAIT_S) * 1000 + 1)
        poll = select.poll()
        poll.register(self._wake_in, select.POLLIN)
        for record in self._workers.values():
            if not record.channel.ended:
                poll.register(record.channel.fileno(), select.POLLIN)
        poll.poll(timeout_ms)
        try:
            self._wake_in.recv(4096)
        except BlockingIOError:
            return

    def _catch_signals(self) -> None:
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        signal.set_wakeup_fd(self._wake_out.fileno(), warn_on_full_buffer=False)
        for number in WATCHED:
            signal.signal(number, self._queue_signal)

    def _queue_signal(self, number: int, _frame: object) -> None:
        self._signals.append((number, time.monotonic()))

    def _close(self) -> None:
        # The process is about to exit: one more wish to stop must not turn its exit code into a death by signal.
        for number in WATCHED:
            signal.signal(number, signal.SIG_DFL if number == signal.SIGCHLD else signal.SIG_IGN)
        signal.set_wakeup_fd(-1)
        # After an exception here, this tells workers that are left to drain.
        for record in self._workers.values():
            record.channel.close()
        self._wake_in.close()
        self._wake_out.close()
        for sock in self._listen_sockets:
            sock.close()

    # --- stopping ---

    def _take_signals(self) -> None:
        while self._signals:
            number, came_at = self._signals.popleft()
            if number == signal.SIGCHLD:
                continue  # it only wakes us up: several deaths may come as one
            name = signal.Signals(number).name
            if not self._stopping:
                logger.info(
                    "%s: taking no new conversations, waiting up to %g s for running ones; once more stops at once",
                    name,
                    self._drain_timeout_s,
                )
                self._stop_signal_at = came_at
                self._stop()
            elif came_at - self._stop_signal_at > SAME_STOP_S:
                logger.warning("%s again: stopping at once", name)
                for record in self._workers.values():
                    self._kill(record)

    def _stop(self) -> None:
        """Let every worker drain and end; start no more."""
        self._stopping = True
        self._vacant.clear()
        for sock in self._listen_sockets:
            sock.close()  # or the kernel would go on queueing connections that nobody takes
        for record in self._workers.values():
            self._drain(record)

    def _drain(self, record: WorkerRecord) -> None:
        if record.state is State.STARTING:
            self._signal(record, signal.SIGTERM)  # it may be importing, and hear nothing
            self._end_by(record, BOOT_STOP_S)
        else:
            record.channel.send(Drain(self._drain_timeout_s))
            self._end_by(record, self._drain_timeout_s + EXIT_MARGIN_S)

    @staticmethod
    def _end_by(record: WorkerRecord, time_s: float) -> None:
        kill_at = time.monotonic() + time_s
        record.kill_at = kill_at if record.kill_at is None else min(record.kill_at, kill_at)

    def _kill_overdue(self) -> None:
        now = time.monotonic()
        for record in self._workers.values():
            if record.kill_at is not None and record.kill_at <= now:
                logger.error("worker %d (pid %d) did not end in time: killed", record.slot, record.pid)
                self._kill(record)

    def _kill(self, record: WorkerRecord) -> None:
        record.kill_at = None
        self._signal(record, signal.SIGKILL)

    @staticmethod
    def _signal(record: WorkerRecord, number: signal.Signals) -> None:
        # Only of processes that were not reaped yet: the pid cannot be anybody else's.
        os.kill(record.pid, number)

    # --- what workers say ---

    def _hear_workers(self) -> None:
        for record in list(self._workers.values()):
            self._hear(record)

    def _hear(self, record: WorkerRecord) -> None:
        try:
            messages = record.channel.receive()
        except ControlError as error:
            logger.error("worker %d (pid %d) cannot be understood, killed: %s", record.slot, record.pid, error)
            record.channel.close()
            self._kill(record)
            return
        for message in messages:
            self._take_message(record, message)
        if record.channel.ended:
            # It exits now, or user code has closed the channel, and then it can no longer be told anything.
            self._end_by(record, EXIT_MARGIN_S)

    def _take_message(self, record: WorkerRecord, message: Message) -> None:
        if isinstance(message, Ready):
            if record.state is not State.STARTING:
                return
            record.state = State.READY
            self._boot_failures = 0
            logger.debug("worker %d (pid %d) is ready", record.slot, record.pid)
            if self._stopping:
                self._drain(record)
            self._announce()
        elif isinstance(message, Draining):
            record.state = State.DRAINING
            if not self._stopping:
                # It was told so from outside. Its conversations may last: the next worker need not wait for them.
                logger.info(
                    "worker %d (pid %d) drains, %d conversations to end", record.slot, record.pid, message.sessions
                )
                self._end_by(record, self._drain_timeout_s + EXIT_MARGIN_S)
                self._vacant[record.slot] = time.monotonic()
        elif isinstance(message, Failed):
            record.failure = message

    def _announce(self) -> None:
        ready = sum(record.state is State.READY for record in self._workers.values())
        if not self._announced and not self._stopping and ready == self._count:
            self._announced = True
            self._announcer.ready(ready)

    # --- ends of workers ---

    def _reap(self) -> None:
        """Collect every child that has ended; as a container's first process we inherit those of others, too."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            record = self._workers.get(pid)
            if record is not None:
                self._hear(record)  # its last words
                del self._workers[pid]
                record.channel.close()
                self._ended(record, os.waitstatus_to_exitcode(status))

    def _ended(self, record: WorkerRecord, code: int) -> None:
        how = f"was killed by {_signal_name(-code)}" if code < 0 else f"ended with exit code {code}"
        if record.state is State.STARTING:
            if not self._stopping:
                self._boot_failed(record, how)
        elif record.state is State.READY:
            if not self._stopping:
                logger.error("worker %d (pid %d) %s; another one takes its place", record.slot, record.pid, how)
                self._vacant[record.slot] = time.monotonic() + self._pause(record)
            elif code != EXIT_OK:
                logger.error("worker %d (pid %d) %s instead of draining", record.slot, record.pid, how)
        elif code != EXIT_OK:
            logger.error("worker %d (pid %d) %s while it drained", record.slot, record.pid, how)

    def _pause(self, record: WorkerRecord) -> float:
        """Return how long to wait before the next worker: 0 unless they die young, one after another."""
        young = time.monotonic() - record.started_at < STEADY_S
        self._young_deaths = self._young_deaths + 1 if young else 0
        return 0.0 if self._young_deaths <= self._count else self._backoff(self._young_deaths - self._count)

    @staticmethod
    def _backoff(failures: int) -> float:
        return float(min(MAX_PAUSE_S, 0.25 * 2 ** min(failures, 10)))

    def _boot_failed(self, record: WorkerRecord, how: str) -> None:
        failure = record.failure or Failed(f"a worker {how} before it was ready")
        self._boot_failures += 1
        if self._announced and self._boot_failures < MAX_BOOT_FAILURES:
            pause_s = self._backoff(self._boot_failures)
            logger.error("worker %d cannot start, next try in %g s: %s", record.slot, pause_s, failure.reason)
            if failure.details:
                logger.error("%s", failure.details)
            self._vacant[record.slot] = time.monotonic() + pause_s
            return
        self._announcer.failed(failure.reason, failure.details)
        self._exit_code = EXIT_BOOT
        self._stop()

    # --- starting workers ---

    def _fill_slots(self) -> None:
        now = time.monotonic()
        for slot, due in list(self._vacant.items()):
            if due <= now:
                del self._vacant[slot]
                self._fork(slot)

    def _fork(self, slot: int) -> None:
        # An end kept open in a child would hide the supervisor's death from a sister, or hers from the supervisor.
        inherited: list[Closable] = [
            self._wake_in,
            self._wake_out,
            *(record.channel for record in self._workers.values()),
        ]
        try:
            pid, channel = fork_worker(lambda end: self._run_worker(self._listen_sockets, end), inherited)
        except OSError as error:  # out of processes, memory or descriptors: the other workers can do without
            logger.error("cannot fork a worker, next try in %g s: %s", FORK_RETRY_S, error)
            self._vacant[slot] = time.monotonic() + FORK_RETRY_S
            return
        self._workers[pid] = WorkerRecord(slot, pid, channel, time.monotonic())


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
