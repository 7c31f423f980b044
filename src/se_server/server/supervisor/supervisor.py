"""The supervisor: forks, waits, reaps. It has no event loop and runs no user code, so nothing of these can hang it.

A signal handler only queues its number and wakes the loop below up. The loop waits for that and for the control
channels of the workers with `poll`, and for the next thing that is due; it never looks busily. `rollout` says which
workers there shall be, `crew` brings them to life and to their end, and this module gives the orders.
"""

from __future__ import annotations

import gc
import logging
import select
import signal
import socket
import time
from collections.abc import Callable, Sequence

from se_server.errors import ConfigError
from se_server.server.shared.control import Draining, Dumped, Failed, Message, Ready, Told
from se_server.server.shared.liveness import MAX_LOOK_S
from se_server.server.shared.scoreboard import State
from se_server.server.shared.seats import SeatTable
from se_server.server.shared.signals import STOP, SignalQueue, has_terminal
from se_server.server.supervisor.children import Closable, WorkerRecord
from se_server.server.supervisor.control_socket import Desk
from se_server.server.supervisor.orders import Orders
from se_server.server.supervisor.plan import Announcer, Plan
from se_server.server.supervisor.pool import AT_ONCE, Crew
from se_server.server.supervisor.rollout import Rollout
from se_server.server.supervisor.upgrade import Upgrade
from se_server.server.worker.worker import EXIT_BOOT, EXIT_OK

logger = logging.getLogger("se_server.server.supervisor")

MAX_WAIT_S = 3600.0  # poll takes no more than a C int of milliseconds, and a drain may last longer
# timeout(1), service managers and terminals signal the process and its group: one wish to stop, come twice.
SAME_STOP_S = 0.1

Replan = Callable[[], Plan]
BeginUpgrade = Callable[[], Upgrade]


class Supervisor:
    """Keeps workers running on shared listen sockets.

    Args:
        listen_sockets: bound and listening; owned from now on.
        plan: what the first workers are made from.
        announcer: told what happens to the whole.
        replan: makes the plan of a reload; raises ConfigError to refuse it. None reloads the APP by the same plan.
        begin_upgrade: starts another supervisor on the same sockets; raises OSError or ConfigError if it cannot.
        reopen_log: opens the log file of this process anew; returns why not, or nothing.
        private: what workers must not keep open.
        desk: where operators ask.
        seats: what sessions take, shared with other supervisors.

    Attributes:
        handed_over: whether another supervisor has taken the listen sockets over.
    """

    def __init__(
        self,
        listen_sockets: Sequence[socket.socket],
        *,
        plan: Plan,
        announcer: Announcer,
        replan: Replan | None = None,
        begin_upgrade: BeginUpgrade | None = None,
        reopen_log: Callable[[], str] | None = None,
        private: Sequence[Closable] = (),
        desk: Desk | None = None,
        seats: SeatTable | None = None,
    ) -> None:
        self._listen_sockets = list(listen_sockets)
        self._announcer = announcer
        self._replan = replan or (lambda: plan)
        self._begin_upgrade = begin_upgrade
        self._signals = SignalQueue()
        self._had_terminal = has_terminal()
        self._desk = desk or Desk(None)
        self._crew = Crew(self._listen_sockets, [self._signals, self._desk, *private], seats)
        self._rollout = Rollout(self._crew, announcer, plan)
        self._orders = Orders(
            self._desk,
            self._crew,
            self._rollout,
            reload=self._reload,
            stop=self._stop_by_order,
            reopen_log=reopen_log or (lambda: "there is no log file"),
        )
        self._upgrade: Upgrade | None = None
        self._ending = False
        self._stop_signal_at: float | None = None
        self._look_at = self._alive_at = 0.0
        self.handed_over = False

    def run(self) -> int:
        """Run until stopped by SIGTERM or SIGINT, or until the workers cannot start; once, as the process's last deed.

        Returns:
            The exit code: 0 after a stop, 3 if the workers could not start.
        """
        self._signals.catch()
        # What the workers share stays shared: a collection would write to every object's page.
        gc.collect()
        gc.freeze()
        self._rollout.begin(self._rollout.plan)
        try:
            while self._is_needed():
                for number, came_at in self._signals.take():
                    self._act(number, came_at)
                for record in self._crew:
                    self._hear(record)
                for pid, ended, code in self._crew.reap():
                    self._reaped(pid, ended, code)
                if self._rollout.failed and not self._ending:
                    self._end(self._rollout.plan.drain_timeout_s)
                self._watch_upgrade()
                self._orders.serve()
                self._rollout.fill_places()
                self._look()
                self._wait()
        finally:
            self._signals.release()
            self._crew.leave()
            self._close_listen_sockets()
        return EXIT_BOOT if self._rollout.failed else EXIT_OK

    # --- waiting ---

    def _is_needed(self) -> bool:
        return (
            len(self._crew) > 0
            or self._rollout.has_vacancies
            or self._rollout.waits_for_repair
            or self._upgrade is not None
        )

    def _wait(self) -> None:
        """Sleep until a signal, a message of a worker, or the next thing that is due."""
        if not self._is_needed():
            return
        due = self._crew.next_due() + self._rollout.next_due() + self._orders.next_due()
        if any(record.state is not State.STARTING for record in self._crew):
            due.append(self._look_at)
        if self._announcer.alive_s is not None and not self.handed_over:
            due.append(self._alive_at)
        timeout_ms = None
        if due:
            timeout_ms = max(0.0, min(min(due) - time.monotonic(), MAX_WAIT_S) * 1000 + 1)
        poll = select.poll()
        poll.register(self._signals, select.POLLIN)
        self._desk.register(poll)
        if self._upgrade is not None:
            poll.register(self._upgrade, select.POLLIN)
        for record in self._crew:
            if not record.channel.ended:
                poll.register(record.channel, select.POLLIN)
        poll.poll(timeout_ms)

    def _look(self) -> None:
        """Do what is due by the clock."""
        now = time.monotonic()
        self._crew.kill_overdue(now)
        self._crew.report_slow_starts(now)
        if self._announcer.alive_s is not None and not self.handed_over and self._alive_at <= now:
            self._alive_at = now + self._announcer.alive_s
            self._announcer.alive()
        if self._look_at <= now:
            self._look_at = now + min([MAX_LOOK_S, *(record.silence.look_s for record in self._crew)])
            self._crew.find_hung(now)
            self._crew.scoreboard.seats.sweep()
            self._rollout.recycle(now)

    # --- orders ---

    def _act(self, number: signal.Signals, came_at: float) -> None:
        if number in STOP:
            self._take_stop(number.name, came_at)
        elif number == signal.SIGHUP:
            # A terminal that was closed sends it, too, and the session that could start us anew is gone with it.
            if not self._had_terminal or has_terminal():
                self._reload()
            elif not self._signals.hangup_ignored:
                self._take_stop("SIGHUP of a closed terminal", came_at)
        elif number == signal.SIGUSR1:
            self._orders.reopen_log()
        elif number == signal.SIGUSR2:
            self._start_upgrade()
        else:
            self._rollout.scale(1 if number == signal.SIGTTIN else -1)

    def _take_stop(self, name: str, came_at: float) -> None:
        if self._stop_signal_at is None:
            logger.info(
                "%s: taking no new conversations, waiting up to %g s for running ones; once more stops at once",
                name,
                self._rollout.plan.drain_timeout_s,
            )
            self._stop_signal_at = came_at
            if self._upgrade is not None:
                self._upgrade.abandon()
            self._end(self._rollout.plan.drain_timeout_s, self._rollout.plan.drain_notice_s)
        elif came_at - self._stop_signal_at > SAME_STOP_S:
            logger.warning("%s again: stopping at once", name)
            for record in self._crew:
                self._crew.kill(record, AT_ONCE)

    def _end(self, drain_timeout_s: float, notice_s: float = 0.0) -> None:
        """Let every worker drain and end, after it has gone on for `notice_s`; start no more."""
        if not self._ending and not self.handed_over:
            self._announcer.stopping()
        self._ending = True
        self._rollout.end()
        self._close_listen_sockets()  # or the kernel would go on queueing connections that nobody takes
        for record in self._crew:
            self._crew.drain(record, drain_timeout_s, notice_s)

    def _close_listen_sockets(self) -> None:
        for sock in self._listen_sockets:
            sock.close()

    def _reload(self) -> str:
        """Begin a reload; return why not, or nothing."""
        if self._ending or self._upgrade is not None:
            why = "the server is about to end or to be upgraded"
            logger.info("no reload: %s", why)
            return f"no reload: {why}"
        try:
            plan = self._replan()
        except ConfigError as error:
            logger.error("no reload, everything goes on as before: %s", error)
            return f"no reload, everything goes on as before: {error}"
        self._rollout.begin(plan)
        return ""

    def _stop_by_order(self) -> str:
        if self._ending:
            return "the server drains already"
        self._take_stop("se-ctl drain", time.monotonic())
        return ""

    # --- another supervisor ---

    def _start_upgrade(self) -> None:
        if self._begin_upgrade is None or self._ending or self._upgrade is not None or self._rollout.serving is None:
            logger.warning("SIGUSR2: no upgrade, the server is not ready for one, or one is under way")
            return
        try:
            self._upgrade = self._begin_upgrade()
        except (OSError, ConfigError) as error:
            logger.error("no upgrade, everything goes on as before: %s", error)
            return
        logger.info("upgrade: supervisor %d starts on the same sockets; this one serves until then", self._upgrade.pid)

    def _watch_upgrade(self) -> None:
        upgrade = self._upgrade
        if upgrade is None or not upgrade.is_settled():
            return
        self._upgrade = None
        upgrade.close()
        if not upgrade.is_ready:
            logger.error("the upgrade has failed, everything goes on as before")
        elif not self._ending:
            logger.info("upgrade: supervisor %d serves, the workers of this one drain", upgrade.pid)
            self.handed_over = True
            self._announcer.handed_over(upgrade.pid)
            self._end(self._rollout.plan.reload_drain_timeout_s)

    # --- workers ---

    def _hear(self, record: WorkerRecord) -> None:
        for message in self._crew.hear(record):
            self._take_message(record, message)

    def _take_message(self, record: WorkerRecord, message: Message) -> None:
        if isinstance(message, Ready) and record.state is State.STARTING:
            record.state = State.READY
            record.generation.told = message
            logger.debug("%s is ready", record)
            if record.told:
                record.kill_at = None  # it has begun to take conversations, and gets their time
                self._crew.drain(record, self._rollout.plan.drain_timeout_s)
            else:
                self._rollout.became_ready(record)
        elif isinstance(message, Draining) and record.state in (State.STARTING, State.READY):
            record.state = State.DRAINING
            level = logging.DEBUG if record.told else logging.INFO
            logger.log(level, "%s drains, %d conversations to end", record, message.sessions)
            if not record.told:
                # It was told so from outside. Its conversations may last: the next worker need not wait for them.
                self._crew.expect_end(record, record.generation.plan.drain_timeout_s)
                self._rollout.refill(record)
        elif isinstance(message, Failed):
            record.failure = message
        elif isinstance(message, Told):
            self._orders.told(record, message)
        elif isinstance(message, Dumped) and record.stacks_by is not None:
            self._crew.kill(record, record.killed_for)

    def _reaped(self, pid: int, record: WorkerRecord | None, code: int) -> None:
        if record is None:
            if self._upgrade is not None and pid == self._upgrade.pid:
                self._upgrade.has_ended = True
            return
        self._hear(record)  # its last words
        self._crew.bury(record)
        how = f"was killed by {_signal_name(-code)}" if code < 0 else f"ended with exit code {code}"
        if record.state is State.STARTING:
            if not record.told:
                self._rollout.could_not_start(record, how)
        elif record.told or record.state is State.DRAINING:
            if code != EXIT_OK and not record.killed_for:
                logger.error("%s %s while it drained", record, how)
            elif code != EXIT_OK:
                logger.info("%s %s, for %s", record, how, record.killed_for)
        else:
            logger.error("%s %s; another one takes its place", record, how)
            self._rollout.died(record)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
