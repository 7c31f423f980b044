"""Acts on what workers report over their control channels, and on their ends."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable, Sequence

from se_server.server.shared.control_messages import Draining, Dumped, Failed, Message, Ready, Reply, Serves
from se_server.server.shared.exit_codes import EXIT_OK
from se_server.server.shared.scoreboard import State
from se_server.server.supervisor.children import WorkerRecord
from se_server.server.supervisor.pool import Pool
from se_server.server.supervisor.rollout import Rollout
from se_server.spelling import counted

logger = logging.getLogger("se_server.server.supervisor")


class WorkerEvents:
    """Updates pool and rollout after the messages and the ends of workers.

    Args:
        pool: the workers.
        rollout: decides which workers the server needs.
        take_reply: takes a worker's reply to a question.
        open_sockets: opens the listen sockets that the first worker of a program asks for, and passes them on.
    """

    def __init__(
        self,
        pool: Pool,
        rollout: Rollout,
        take_reply: Callable[[WorkerRecord, Reply], None],
        open_sockets: Callable[[Sequence[object]], None],
    ) -> None:
        self._open_sockets = open_sockets
        self._pool = pool
        self._rollout = rollout
        self._take_reply = take_reply

    def receive(self, record: WorkerRecord) -> None:
        """Act on the messages that a worker has sent."""
        for message in self._pool.receive(record):
            self._take(record, message)

    def _take(self, record: WorkerRecord, message: Message) -> None:
        if isinstance(message, Ready) and record.state is State.STARTING:
            record.state = State.READY
            record.generation.ready_message = message
            logger.debug("%s is ready after %.3f s", record, time.monotonic() - record.started_at)
            if record.drain_ordered:
                record.kill_at = None  # it has taken conversations since, and they get their drain time
                self._pool.drain(record, self._rollout.spec.lifecycle.drain_timeout_s)
            else:
                self._rollout.became_ready(record)
        elif isinstance(message, Draining) and record.state in (State.STARTING, State.READY):
            record.state = State.DRAINING
            level = logging.DEBUG if record.drain_ordered else logging.INFO
            logger.log(level, "%s drains, %s to end", record, counted(message.sessions, "conversation"))
            if not record.drain_ordered:
                # Another process has signalled the worker. Start the next one without waiting for its conversations.
                self._pool.expect_end(record, record.generation.lifecycle.drain_timeout_s)
                self._rollout.refill(record)
        elif isinstance(message, Serves) and record.state is State.STARTING:
            self._open_sockets(message.addresses)
        elif isinstance(message, Failed):
            record.failure = message
        elif isinstance(message, Reply):
            self._take_reply(record, message)
        elif isinstance(message, Dumped) and record.stacks_by is not None:
            self._pool.kill(record, record.killed_for)

    def ended(self, record: WorkerRecord, code: int, how: str) -> None:
        """Act on the end of a worker that was reaped.

        Args:
            code: the exit code, or the negative number of the signal that killed it.
            how: the same in words, for the log.
        """
        self.receive(record)  # its last messages
        has_stopped = record.slot.state == State.STOPPED
        self._pool.release(record)
        if record.state is State.STARTING:
            if not record.drain_ordered:
                self._rollout.could_not_start(record, how)
        elif record.drain_ordered or record.state is State.DRAINING:
            if has_stopped and code == -signal.SIGTERM:
                logger.debug("%s %s after it had drained", record, how)  # by a program that passes the signal on
            elif code != EXIT_OK and not record.killed_for:
                logger.error("%s %s while it drained", record, how)
            elif code != EXIT_OK:
                logger.info("%s %s, for %s", record, how, record.killed_for)
        else:
            logger.error("%s %s; another one takes its place", record, how)
            self._rollout.died(record)


def signal_name(number: int) -> str:
    """Return the name of a signal."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
