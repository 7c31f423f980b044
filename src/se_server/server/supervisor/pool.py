"""The pool: all worker processes that are alive, of every generation, and the ways in which they end."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial

from se_server.server.config.scripts import Script
from se_server.server.shared.control import ControlChannel
from se_server.server.shared.control_messages import ControlError, Drain, Message, Stacks
from se_server.server.shared.exit_codes import EXIT_OK
from se_server.server.shared.liveness import Silence
from se_server.server.shared.scoreboard import Scoreboard, Slot, State
from se_server.server.shared.seats import SeatTable
from se_server.server.supervisor.children import WorkerRecord
from se_server.server.supervisor.forking import STACKS_SIGNAL, Closable, fork_process
from se_server.server.supervisor.generation import Generation
from se_server.server.supervisor.zygote_process import INHERITS_WORKERS, ZygoteGone
from se_server.server.supervisor.zygotes import Zygotes

logger = logging.getLogger("se_server.server.crew")

# A worker may need this after its drain time: closing sessions, on_shutdown and left-over tasks are each bounded.
# Exit hooks have their own time on top, `--exit-timeout-s`.
EXIT_MARGIN_S = 20.0
BOOT_STOP_S = 2.0  # a worker that has not started yet has nothing to finish
SLOW_START_S = 10.0
WATCHDOG_ANSWER_S = 1.0  # for a hung worker's watchdog to write the stacks; after it, STACKS_SIGNAL omits the tasks
STACKS_S = 2.0
NO_HURRY_S = 1e8  # a drain that cuts nothing: three years; JSON has no infinity
ORPHAN_LOOK_S = 0.05
"""Interval at which a worker is looked for whose end nobody may report."""
IMMEDIATE_STOP = "stopping at once"
HANGING = "hanging"


class Pool:
    """Forks, drains, kills and reaps workers.

    Args:
        not_inherited: closed in each worker, besides the control channels of the other workers.
        seats: the seats of conversations, shared with the pools of other supervisors.

    Attributes:
        scoreboard: has the slots of the workers.
        zygotes: fork the workers of generations that preload.
    """

    def __init__(self, not_inherited: Sequence[Closable] = (), seats: SeatTable | None = None) -> None:
        self.scoreboard = Scoreboard(seats=seats)
        self._not_inherited = not_inherited
        self._records: dict[int, WorkerRecord] = {}  # by pid
        self.zygotes = Zygotes(self.scoreboard, self.descriptors)

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[WorkerRecord]:
        return iter(list(self._records.values()))

    def of(self, generation: Generation | None, *states: State) -> list[WorkerRecord]:
        """Return the workers of a generation that are in one of the states and were not ordered to drain."""
        return [
            record for record in self if record.generation is generation and record.serves and record.state in states
        ]

    def fork(self, generation: Generation, place: int) -> None:
        """Fork a worker.

        Raises:
            OSError: there are too many processes or descriptors, or too little memory.
        """
        now = time.monotonic()
        slot = self.scoreboard.take(generation.number, time.monotonic_ns())
        if slot is None:
            raise OSError("there are too many workers, including those that drain")
        slot.place = place
        self.scoreboard.routes.add(route.name for route in generation.spec.config.routes)
        try:
            pid, channel = self._start(generation, slot)
        except OSError:
            self.scoreboard.give_back(slot)
            raise
        silence = Silence(pid, generation.lifecycle.hang_timeout_s)
        self._records[pid] = WorkerRecord(place, pid, channel, slot, generation, now, silence, now + SLOW_START_S)

    def _start(self, generation: Generation, slot: Slot) -> tuple[int, ControlChannel]:
        zygote = generation.zygote
        if zygote is not None and zygote.is_ready:
            try:
                return zygote.fork(slot)
            except ZygoteGone:  # another one starts; this worker does not wait for it
                logger.warning("a worker starts without the zygote, and imports by itself")
        return fork_process(partial(generation.spec.main, generation.spec, slot), self.descriptors())

    def descriptors(self) -> list[Closable]:
        """Return what no other process of the server may have, besides listen sockets.

        A leaked copy of a channel would keep another worker from seeing EOF when the supervisor dies, and the
        supervisor from seeing EOF when that worker dies.
        """
        return [*self._not_inherited, *(record.channel for record in self), *self.zygotes]

    # --- messages of workers ---

    def receive(self, record: WorkerRecord) -> list[Message]:
        """Return the messages that a worker has sent. A worker that sends an invalid message is killed."""
        try:
            messages = record.channel.receive()
        except ControlError as error:
            logger.error("%s sent an invalid control message, killed: %s", record, error)
            record.channel.close()
            self.kill(record, "an invalid control message")
            return []
        if record.channel.ended:
            # The worker exits now, or user code has closed the channel, and then no order can reach the worker.
            _end_by(record, EXIT_MARGIN_S + record.generation.lifecycle.exit_timeout_s)
        return messages

    # --- ends of workers ---

    def drain(self, record: WorkerRecord, timeout_s: float, notice_s: float = 0.0) -> None:
        """Order a worker to drain and end. Of several orders, the one that ends first counts.

        Args:
            timeout_s: how long running conversations may go on.
            notice_s: how long the worker goes on serving before the drain, while readiness is denied.
        """
        record.drain_ordered = True
        if record.state is State.STARTING:
            _signal(record, signal.SIGTERM)  # it may be importing the APP, and reads no message meanwhile
            _end_by(record, BOOT_STOP_S + record.generation.lifecycle.exit_timeout_s)
        else:
            record.channel.send(Drain(timeout_s, notice_s))
            self.expect_end(record, notice_s + timeout_s)

    def expect_end(self, record: WorkerRecord, timeout_s: float) -> None:
        """Kill a worker that drains if it has not ended some time after its drain timeout."""
        lifecycle = record.generation.lifecycle
        _end_by(record, timeout_s + lifecycle.drain_turn_grace_s + EXIT_MARGIN_S + lifecycle.exit_timeout_s)

    def kill(self, record: WorkerRecord, reason: str) -> None:
        """Kill a worker."""
        record.kill_at = record.stacks_by = None
        record.killed_for = record.killed_for or reason
        _signal(record, signal.SIGKILL)

    def _kill_hung(self, record: WorkerRecord) -> None:
        """Make a worker that hangs write its stacks, then kill it."""
        if record.killed_for:
            return
        logger.error(
            "%s hangs, its event loop stood still for %.1f s: its stacks follow, then it is killed",
            record,
            record.silence.silent_s,
        )
        record.killed_for = HANGING
        record.channel.send(Stacks())
        record.stacks_by = time.monotonic() + WATCHDOG_ANSWER_S
        _end_by(record, STACKS_S)

    def find_hung(self, now: float) -> None:
        """Kill workers that hang, after they have written their stacks."""
        for record in self:
            if record.state is State.STARTING or record.slot.state == State.STOPPED:
                continue  # no loop runs: the worker is booting, or its exit hooks run, in a limited time
            if record.silence.is_hung(record.slot.heartbeat_ns, now):
                self._kill_hung(record)

    def report_slow_starts(self, now: float) -> None:
        """Log the workers that have not started after 10 s, 20 s, 40 s and so on."""
        for record in self:
            if record.state is State.STARTING and not record.drain_ordered and record.report_at <= now:
                age_s = now - record.started_at
                record.report_at = now + age_s
                script = Script.of(record.generation.spec.config.program.app)
                doing = "on_startup still runs" if record.slot.heartbeat_ns else "the import of APP still runs"
                if script is not None:
                    doing = f"{script.file} has not come to serve()"
                logger.warning("%s is not ready after %.0f s: %s", record, age_s, doing)

    def kill_overdue(self, now: float) -> None:
        """Kill the workers that did not end in time."""
        for record in self:
            if record.stacks_by is not None and record.stacks_by <= now:
                record.stacks_by = None
                _signal(record, STACKS_SIGNAL)
            if record.kill_at is not None and record.kill_at <= now:
                if not record.killed_for:
                    logger.error("%s did not end in time: killed", record)
                self.kill(record, "being late")

    def next_due(self) -> list[float]:
        """Return the times at which a worker has to be killed, signalled or reported, in monotonic seconds."""
        times = [time for record in self for time in (record.kill_at, record.stacks_by) if time is not None]
        starting = [record for record in self if record.state is State.STARTING and not record.drain_ordered]
        if not INHERITS_WORKERS and any(record.channel.ended for record in self):
            times.append(time.monotonic() + ORPHAN_LOOK_S)
        return times + [record.report_at for record in starting]

    def reap(self) -> Iterator[tuple[int, WorkerRecord | None, int]]:
        """Yield pid, record and exit code of every child that has ended.

        The caller reads the last messages of the record, then calls `release`. A child that is not a worker has no
        record: another supervisor, or an orphan that the first process of a container has inherited.
        """
        for pid, code in self._ended():
            record = self._records.pop(pid, None)
            if record is not None:
                record.reaped = True
            yield pid, record, code

    def _ended(self) -> Iterator[tuple[int, int]]:
        """Yield pid and exit code of every process that has ended."""
        with suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                yield found[0], os.waitstatus_to_exitcode(found[1])
        if INHERITS_WORKERS:
            return
        yield from self.zygotes.take_ended()
        # The zygote of these is gone, and with it their exit codes. An orderly worker has reported its end before.
        for record in self:
            if record.channel.ended and record.generation.zygote is not None and not _is_alive(record.pid):
                yield record.pid, EXIT_OK if record.slot.state == State.STOPPED else -signal.SIGKILL

    def release(self, record: WorkerRecord) -> None:
        """Close the channel and free the slot of a worker that was reaped."""
        record.channel.close()
        self.scoreboard.give_back(record.slot)

    def close_channels(self) -> None:
        """Close the channels; workers that are still alive drain on their own then."""
        for record in self:
            record.channel.close()


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _end_by(record: WorkerRecord, time_s: float) -> None:
    kill_at = time.monotonic() + time_s
    record.kill_at = kill_at if record.kill_at is None else min(record.kill_at, kill_at)


def _signal(record: WorkerRecord, number: signal.Signals) -> None:
    if not record.reaped:  # the pid of a reaped worker may belong to another process
        os.kill(record.pid, number)
