"""The supervisor: the process that forks, watches and replaces workers.

It has no event loop and runs no user code, so neither can hang it. A signal handler only queues the number of the
signal and wakes the loop of this module. The loop uses `poll` to wait for signals, for the control channels of the
workers, and for the next timed work. `rollout` decides which workers the server needs, `pool` forks and ends them,
`transitions` reloads, upgrades and stops the server, and this module passes signals and messages on to all three.
"""

from __future__ import annotations

import gc
import logging
import select
import signal
import time
from collections.abc import Callable, Sequence

from se_server.errors import ConfigError
from se_server.server.shared.control_messages import Failed
from se_server.server.shared.exit_codes import EXIT_BOOT, EXIT_OK, EXIT_USAGE
from se_server.server.shared.former_rings import FormerRings
from se_server.server.shared.liveness import MAX_LOOK_S
from se_server.server.shared.recording import NO_RECORDING, Recording
from se_server.server.shared.scoreboard import State
from se_server.server.shared.seats import SeatTable
from se_server.server.shared.signals import STOP, SignalQueue, has_terminal
from se_server.server.supervisor.agent_check import AgentCheck
from se_server.server.supervisor.announcer import Announcer
from se_server.server.supervisor.children import WorkerRecord
from se_server.server.supervisor.control_socket import ControlSocket
from se_server.server.supervisor.forking import Closable
from se_server.server.supervisor.observer_process import ObserverProcess
from se_server.server.supervisor.observer_questions import ObserverQuestions
from se_server.server.supervisor.orders import Orders
from se_server.server.supervisor.orphans import Orphans
from se_server.server.supervisor.pool import Pool
from se_server.server.supervisor.rollout import Rollout
from se_server.server.supervisor.transitions import BeginUpgrade, ReloadSpec, Transitions
from se_server.server.supervisor.worker_events import WorkerEvents, signal_name
from se_server.server.worker.spec import WorkerSpec
from se_server.telemetry.log_writer import backlogs

logger = logging.getLogger("se_server.server.supervisor")

MAX_WAIT_S = 3600.0  # poll takes a C int of milliseconds, and a drain may last longer

OpenSockets = Callable[[Sequence[object]], WorkerSpec]


class Supervisor:
    """Keeps workers running on shared listen sockets.

    Args:
        spec: describes the first workers. Its listen sockets are owned by the supervisor from now on.
        announcer: reports the state of the server.
        reload_spec: makes the spec of a reload; raises ConfigError to refuse it. None keeps the spec.
        begin_upgrade: starts another supervisor on the same sockets; raises OSError or ConfigError if it cannot.
        reopen_log: reopens the log file of this process; returns why that is impossible, or an empty string.
        not_inherited: closed in each worker.
        control_socket: receives the requests of `se-ctl`.
        seats: the seats of conversations, shared with other supervisors.
        replaces_another: whether this supervisor is an upgrade of another one.
        observer: serves metrics and the page for operators.
        recording: what workers hand over to the observer beside their events.
        agent_check: answers HAProxy's agent checks.
        open_sockets: opens the listen sockets of a program, which are known when its first worker has come to
            `serve()`, and returns the spec with them; raises ConfigError. None if they are open.
        former_rings: the rings of earlier supervisors, whose workers may drain; for the observer.
    """

    def __init__(
        self,
        spec: WorkerSpec,
        *,
        announcer: Announcer,
        reload_spec: ReloadSpec | None = None,
        begin_upgrade: BeginUpgrade | None = None,
        reopen_log: Callable[[], str] | None = None,
        not_inherited: Sequence[Closable] = (),
        control_socket: ControlSocket | None = None,
        seats: SeatTable | None = None,
        replaces_another: bool = False,
        observer: ObserverProcess | None = None,
        recording: Recording = NO_RECORDING,
        agent_check: AgentCheck | None = None,
        open_sockets: OpenSockets | None = None,
        former_rings: Sequence[FormerRings] = (),
    ) -> None:
        self._open_sockets = open_sockets
        self._announcer = announcer
        self._signals = SignalQueue()
        self._had_terminal = has_terminal()
        self._control_socket = control_socket or ControlSocket(None)
        self._observer = observer
        self._questions = ObserverQuestions(observer)
        self._agent_check = agent_check or AgentCheck("", [])
        self._checked_when_ready = replaces_another  # until then the other supervisor answers on the same sockets
        self._not_inherited: list[Closable] = [self._signals, self._control_socket, self._agent_check, *not_inherited]
        self._pool = Pool([*self._not_inherited, *([] if observer is None else [observer])], seats)
        self._rollout = Rollout(self._pool, announcer, spec)
        self._transitions = Transitions(
            self._pool,
            self._rollout,
            announcer,
            reload_spec=reload_spec or (lambda: spec),
            begin_upgrade=begin_upgrade,
            leave_to_other=self._leave_to_other,
        )
        self._orders = Orders(
            self._control_socket,
            self._pool,
            self._rollout,
            reload=self._transitions.reload,
            stop=self._transitions.stop_by_order,
            reopen_log=reopen_log or (lambda: "there is no log file"),
            admin=None if observer is None or observer.admin is None else observer.admin.url,
            observer_orders=self._questions.orders(),
        )
        self._worker_events = WorkerEvents(self._pool, self._rollout, self._orders.take_reply, self._take_addresses)
        if observer is not None:
            self._pool.scoreboard.make_rings(recording, former_rings)
        else:
            for rings in former_rings:
                rings.close()
        if replaces_another:
            self._pool.scoreboard.meters.upgraded("succeeded")
        self._orphans = Orphans()
        self._look_at = self._alive_at = 0.0

    @property
    def handed_over(self) -> bool:
        """Whether another supervisor has taken over the listen sockets."""
        return self._transitions.handed_over

    def run(self) -> int:
        """Run until stopped by SIGTERM or SIGINT, or until the workers cannot start.

        Called once: the process ends afterwards.

        Returns:
            The exit code: 0 after a stop, 3 if the workers could not start, 2 if that was for an option.
        """
        self._signals.catch()
        self._orphans.adopt()
        # Keep memory shared with the workers: a collection would write to the page of every object.
        gc.collect()
        gc.freeze()
        self._rollout.begin(self._rollout.spec)
        try:
            while self._is_needed():
                for number, came_at in self._signals.take():
                    self._act(number, came_at)
                for record in self._pool:
                    self._worker_events.receive(record)
                for pid, ended, code in self._pool.reap():
                    self._reaped(pid, ended, code)
                self._rollout.keep_zygotes()
                if self._rollout.failed and not self._transitions.ending:
                    self._transitions.end(self._rollout.spec.lifecycle.drain_timeout_s)
                self._transitions.watch_upgrade()
                self._keep_observer()
                if self._answers_checks():
                    self._agent_check.serve(self._pool.scoreboard, ending=self._transitions.ending)
                self._orders.serve()  # after those who answer clients: it forgets the clients that have their answer
                self._rollout.fill_places()
                self._run_timed()
                self._wait()
        finally:
            self._signals.release()
            self._end_observer()
            self._agent_check.close()
            self._pool.zygotes.keep(())
            self._pool.close_channels()
            self._transitions.close_listen_sockets()
        return self._rollout.exit_code if self._rollout.failed else EXIT_OK

    # --- waiting ---

    def _is_needed(self) -> bool:
        return (
            len(self._pool) > 0
            or self._rollout.has_vacancies
            or self._rollout.waits_for_repair
            or self._transitions.upgrade is not None
        )

    def _wait(self) -> None:
        """Sleep until a signal, a message of a worker, or the next timed work."""
        if not self._is_needed():
            return
        due = self._pool.next_due() + self._rollout.next_due() + self._orders.next_due()
        due += self._agent_check.next_due()
        due += [time_s for zygote in self._pool.zygotes for time_s in zygote.next_due()]
        due += [] if self._observer is None else self._observer.next_due() + self._questions.next_due()
        if any(record.state is not State.STARTING for record in self._pool):
            due.append(self._look_at)
        if self._announcer.alive_s is not None and not self.handed_over:
            due.append(self._alive_at)
        timeout_ms = None
        if due:
            timeout_ms = max(0.0, min(min(due) - time.monotonic(), MAX_WAIT_S) * 1000 + 1)
        poll = select.poll()
        poll.register(self._signals, select.POLLIN)
        if self._observer is not None and self._observer.fileno() >= 0:
            poll.register(self._observer, select.POLLIN)
        self._control_socket.register(poll)
        if self._answers_checks():
            self._agent_check.register(poll)
        if self._transitions.upgrade is not None:
            poll.register(self._transitions.upgrade, select.POLLIN)
        for zygote in self._pool.zygotes:
            if zygote.fileno() >= 0:
                poll.register(zygote, select.POLLIN)
        for record in self._pool:
            if not record.channel.ended:
                poll.register(record.channel, select.POLLIN | (select.POLLOUT if record.channel.has_unsent else 0))
        waiting = backlogs()
        for log in waiting:
            poll.register(log, select.POLLOUT)
        poll.poll(timeout_ms)
        for record in self._pool:
            if record.channel.has_unsent:
                record.channel.flush()
        for log in waiting:
            log.write_backlog()

    def _run_timed(self) -> None:
        """Do the timed work that is due."""
        now = time.monotonic()
        self._pool.kill_overdue(now)
        self._pool.report_slow_starts(now)
        if self._announcer.alive_s is not None and not self.handed_over and self._alive_at <= now:
            self._alive_at = now + self._announcer.alive_s
            self._announcer.alive()
        if self._look_at <= now:
            self._look_at = now + min([MAX_LOOK_S, *(record.silence.look_s for record in self._pool)])
            self._pool.find_hung(now)
            self._pool.scoreboard.sweep()
            self._rollout.recycle(now)

    # --- orders ---

    def _act(self, number: signal.Signals, came_at: float) -> None:
        if number in STOP:
            self._transitions.stop(number.name, came_at)
        elif number == signal.SIGHUP:
            # A terminal that was closed sends SIGHUP, too. Without a terminal nobody can start the server again.
            if not self._had_terminal or has_terminal():
                self._transitions.reload()
            elif not self._signals.hangup_ignored:
                self._transitions.stop("SIGHUP of a closed terminal", came_at)
        elif number == signal.SIGUSR1:
            self._orders.reopen_log()
        elif number == signal.SIGUSR2:
            self._transitions.start_upgrade()
        else:
            self._rollout.scale(1 if number == signal.SIGTTIN else -1)

    def _take_addresses(self, addresses: Sequence[object]) -> None:
        """Open the listen sockets of a program, so that its other workers can start."""
        if self._open_sockets is None or self._transitions.ending:
            return
        open_sockets, self._open_sockets = self._open_sockets, None
        try:
            spec = open_sockets(addresses)
        except ConfigError as error:
            self._rollout.fail(Failed(str(error), code=EXIT_USAGE))
            return
        self._transitions.listen_sockets = spec.listen_sockets
        self._rollout.take_sockets(spec)

    # --- what another supervisor has, too ---

    def _leave_to_other(self) -> None:
        self._end_observer()  # the other one has an observer, which answers alone from now on
        self._agent_check.close()

    def _answers_checks(self) -> bool:
        if self._checked_when_ready and self._rollout.serving is not None:
            self._checked_when_ready = False
        return not self._checked_when_ready

    # --- the observer ---

    def _keep_observer(self) -> None:
        observer = self._observer
        if observer is None:
            return
        if self._rollout.serving is not None and not self.handed_over:
            observer.begin()  # not earlier: an upgrade that fails must not have answered a scrape
        observer.run_due(
            self._pool.scoreboard,
            [
                *self._not_inherited,
                *self._transitions.listen_sockets,
                *(record.channel for record in self._pool),
                *self._pool.zygotes,
            ],
            self._rollout.spec.lifecycle.hang_timeout_s,
        )
        self._questions.serve()

    def _end_observer(self) -> None:
        if self._observer is not None:
            self._observer.end()
            self._observer = None

    # --- workers ---

    def _reaped(self, pid: int, record: WorkerRecord | None, code: int) -> None:
        how = f"was killed by {signal_name(-code)}" if code < 0 else f"ended with exit code {code}"
        if record is None and self._observer is not None and self._observer.reaped(pid, code, how):
            return
        if record is None and self._pool.zygotes.reaped(pid, how):
            self._settle_orphans(is_orderly=False)
            return
        if record is None:
            if self._transitions.upgrade is not None and pid == self._transitions.upgrade.pid:
                self._transitions.upgrade.has_ended = True
            elif self._orphans.has_ended(pid):
                self._settle_orphans(is_orderly=True, of_orphan=True)
            return
        self._worker_events.ended(record, code, how)
        self._settle_orphans(is_orderly=code in (EXIT_OK, EXIT_BOOT))

    def _settle_orphans(self, *, is_orderly: bool, of_orphan: bool = False) -> None:
        own = {record.pid for record in self._pool} | {zygote.pid for zygote in self._pool.zygotes}
        if self._transitions.upgrade is not None:
            own.add(self._transitions.upgrade.pid)
        if self._observer is not None:
            own.add(self._observer.pid)
        self._orphans.settle(own, is_orderly=is_orderly, of_orphan=of_orphan)
