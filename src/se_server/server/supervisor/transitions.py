"""The transitions of a server: reload, upgrade and stop, by a signal or by an operator's order.

A server that ends reloads and upgrades no more, and neither does one that is being upgraded.
"""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Sequence

from se_server.errors import ConfigError
from se_server.server.shared.former_rings import FormerRings
from se_server.server.supervisor.announcer import Announcer
from se_server.server.supervisor.pool import IMMEDIATE_STOP, Pool
from se_server.server.supervisor.rollout import Rollout
from se_server.server.supervisor.upgrade import Upgrade
from se_server.server.worker.spec import WorkerSpec

logger = logging.getLogger("se_server.server.supervisor")

# timeout(1), service managers and terminals signal the process and its group: one order to stop arrives twice.
SAME_STOP_S = 0.1

ReloadSpec = Callable[[], WorkerSpec]
BeginUpgrade = Callable[[Sequence[FormerRings]], Upgrade]


class Transitions:
    """Reloads, upgrades and stops the server.

    Args:
        pool: the workers.
        rollout: decides which workers the server needs.
        announcer: reports the state of the server.
        reload_spec: makes the spec of a reload; raises ConfigError to refuse it.
        begin_upgrade: starts another supervisor on the same sockets; raises OSError or ConfigError if it cannot. None
            if there is no such supervisor.
        leave_to_other: ends what another supervisor has, too, when it has taken over the listen sockets.

    Attributes:
        listen_sockets: closed when the server ends.
        ending: whether no more workers start, because the server stops or another supervisor serves.
        upgrade: the upgrade that is under way; None if there is none.
        handed_over: whether another supervisor has taken over the listen sockets.
    """

    def __init__(
        self,
        pool: Pool,
        rollout: Rollout,
        announcer: Announcer,
        *,
        reload_spec: ReloadSpec,
        begin_upgrade: BeginUpgrade | None,
        leave_to_other: Callable[[], None],
    ) -> None:
        self.listen_sockets: Sequence[socket.socket] = rollout.spec.listen_sockets
        self.ending = False
        self.upgrade: Upgrade | None = None
        self.handed_over = False
        self._pool = pool
        self._rollout = rollout
        self._announcer = announcer
        self._reload_spec = reload_spec
        self._begin_upgrade = begin_upgrade
        self._leave_to_other = leave_to_other
        self._stop_signal_at: float | None = None

    def reload(self) -> str:
        """Begin a reload; return why that is impossible, or an empty string."""
        if self.ending or self.upgrade is not None:
            why = "the server is ending or being upgraded"
            logger.info("no reload: %s", why)
            return f"no reload: {why}"
        try:
            spec = self._reload_spec()
        except ConfigError as error:
            logger.error("no reload, the server goes on unchanged: %s", error)
            return f"no reload, the server goes on unchanged: {error}"
        self._rollout.begin(spec)
        return ""

    def stop(self, name: str, came_at: float) -> None:
        """Stop gracefully; a second time, after `SAME_STOP_S`, at once.

        Args:
            name: the signal or the order, for the log.
            came_at: the time at which it came, in monotonic seconds.
        """
        if self._stop_signal_at is None:
            logger.info(
                "%s: taking no new conversations, waiting up to %g s for running ones; repeat to stop immediately",
                name,
                self._rollout.spec.lifecycle.drain_timeout_s,
            )
            self._stop_signal_at = came_at
            if self.upgrade is not None:
                self.upgrade.abandon()
            self.end(self._rollout.spec.lifecycle.drain_timeout_s, self._rollout.spec.lifecycle.drain_notice_s)
        elif came_at - self._stop_signal_at > SAME_STOP_S:
            logger.warning("%s again: stopping immediately", name)
            for record in self._pool:
                self._pool.kill(record, IMMEDIATE_STOP)

    def end(self, drain_timeout_s: float, notice_s: float = 0.0) -> None:
        """Order every worker to drain after `notice_s`, and start no more workers."""
        if not self.ending and not self.handed_over:
            self._announcer.stopping()
        self.ending = True
        self._rollout.end()
        self.close_listen_sockets()  # an open socket would go on queueing connections that no worker accepts
        for record in self._pool:
            self._pool.drain(record, drain_timeout_s, notice_s)

    def stop_by_order(self) -> str:
        """Stop gracefully; return why that is impossible, or an empty string."""
        if self.ending:
            return "the server is already draining"
        self.stop("se-ctl stop", time.monotonic())
        return ""

    def close_listen_sockets(self) -> None:
        """Close the listen sockets, in this process only."""
        for sock in self.listen_sockets:
            sock.close()

    def start_upgrade(self) -> None:
        """Start another supervisor on the same sockets, if it may be started now."""
        if self._begin_upgrade is None or self.ending or self.upgrade is not None or self._rollout.serving is None:
            logger.warning("SIGUSR2: no upgrade, the server is starting, ending or already being upgraded")
            return
        try:
            rings = self._pool.scoreboard.rings
            self.upgrade = self._begin_upgrade(() if rings is None else rings.handed())
        except (OSError, ConfigError) as error:
            logger.error("no upgrade, the server goes on unchanged: %s", error)
            return
        logger.info("upgrade: supervisor %d starts on the same sockets; this one serves until then", self.upgrade.pid)

    def watch_upgrade(self) -> None:
        """Take note of an upgrade that has succeeded or failed."""
        upgrade = self.upgrade
        if upgrade is None or not upgrade.is_settled():
            return
        self.upgrade = None
        upgrade.close()
        if not upgrade.is_ready:
            self._pool.scoreboard.meters.upgraded("failed")
            self._announcer.upgrade_failed()
            logger.error("the upgrade has failed, the server goes on unchanged")
        elif not self.ending:
            self.handed_over = True
            self._leave_to_other()
            logger.info("upgrade: supervisor %d serves, the workers of this one drain", upgrade.pid)
            self._announcer.handed_over(upgrade.pid)
            self.end(self._rollout.spec.lifecycle.reload_drain_timeout_s)
