"""The worker processes that are alive, of all generations, and how each is brought to its end."""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from collections.abc import Iterator, Sequence

from se_server.server.shared.control import ControlChannel, ControlError, Drain, Message, Stacks
from se_server.server.shared.liveness import Silence
from se_server.server.shared.scoreboard import Scoreboard, State
from se_server.server.shared.seats import SeatTable
from se_server.server.supervisor.children import STACKS_SIGNAL, Closable, WorkerRecord, fork_worker
from se_server.server.supervisor.generation import Generation

logger = logging.getLogger("se_server.server.crew")

# What a worker may need after its drain time: closing the sessions, on_shutdown and left-over tasks, each bounded.
EXIT_MARGIN_S = 20.0
BOOT_STOP_S = 2.0  # a worker that has not started yet has nothing to finish
SLOW_START_S = 10.0
GUARD_ANSWER_S = 1.0  # for the guard to write the stacks of a hung worker; then the signal does it, without the tasks
STACKS_S = 2.0
NO_HURRY_S = 1e8  # a drain that cuts nothing: three years; JSON has no infinity
AT_ONCE = "stopping at once"


class Crew:
    """Forks, asks, tells, kills and reaps.

    Args:
        listen_sockets: what the workers accept from.
        private: what a worker must not keep open besides its sisters' channels.
        seats: what sessions take, shared with the crews of other supervisors.
    """

    def __init__(
        self, listen_sockets: Sequence[socket.socket], private: Sequence[Closable], seats: SeatTable | None = None
    ) -> None:
        self.scoreboard = Scoreboard(seats=seats)
        self._listen_sockets = listen_sockets
        self._private = private
        self._records: dict[int, WorkerRecord] = {}  # by pid

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[WorkerRecord]:
        return iter(list(self._records.values()))

    def of(self, generation: Generation | None, *states: State) -> list[WorkerRecord]:
        """Return the workers of a generation that serve, or soon will, and are in one of these states."""
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
            raise OSError("there are too many workers, those that drain included")
        plan = generation.plan

        def run(channel: ControlChannel) -> int:
            slot.pid = os.getpid()
            self.scoreboard.seats.join()
            return plan.run_worker(self._listen_sockets, channel, slot)

        # An end kept open in a child would hide the supervisor's death from a sister, or hers from the supervisor.
        inherited = [*self._private, *(record.channel for record in self)]
        try:
            pid, channel = fork_worker(run, inherited)
        except OSError:
            self.scoreboard.give_back(slot)
            raise
        self._records[pid] = WorkerRecord(
            place, pid, channel, slot, generation, now, Silence(pid, plan.hang_timeout_s), now + SLOW_START_S
        )

    # --- what workers say ---

    def hear(self, record: WorkerRecord) -> list[Message]:
        """Return what a worker has said. One that talks nonsense is killed."""
        try:
            messages = record.channel.receive()
        except ControlError as error:
            logger.error("%s cannot be understood, killed: %s", record, error)
            record.channel.close()
            self.kill(record, "talking nonsense")
            return []
        if record.channel.ended:
            # It exits now, or user code has closed the channel, and then it can no longer be told anything.
            _end_by(record, EXIT_MARGIN_S)
        return messages

    # --- how they end ---

    def drain(self, record: WorkerRecord, timeout_s: float, notice_s: float = 0.0) -> None:
        """Tell a worker to end, after it has gone on for `notice_s`; told again, the earlier end counts."""
        record.told = True
        if record.state is State.STARTING:
            _signal(record, signal.SIGTERM)  # it may be importing, and hear nothing
            _end_by(record, BOOT_STOP_S)
        else:
            record.channel.send(Drain(timeout_s, notice_s))
            self.expect_end(record, notice_s + timeout_s)

    def expect_end(self, record: WorkerRecord, timeout_s: float) -> None:
        """Take note that a worker drains by itself."""
        _end_by(record, timeout_s + record.generation.plan.drain_turn_grace_s + EXIT_MARGIN_S)

    def kill(self, record: WorkerRecord, reason: str) -> None:
        """Kill a worker."""
        record.kill_at = record.stacks_by = None
        record.killed_for = record.killed_for or reason
        _signal(record, signal.SIGKILL)

    def _kill_hung(self, record: WorkerRecord) -> None:
        """Have a worker that hangs write its stacks, then kill it."""
        if record.killed_for:
            return
        logger.error(
            "%s hangs, its event loop stood still for %.1f s: its stacks follow, then it is killed",
            record,
            record.silence.silent_s,
        )
        record.killed_for = "hanging"
        record.channel.send(Stacks())
        record.stacks_by = time.monotonic() + GUARD_ANSWER_S
        _end_by(record, STACKS_S)

    def find_hung(self, now: float) -> None:
        """Kill workers that hang, stacks first."""
        for record in self:
            if record.state is not State.STARTING and record.silence.is_hung(record.slot.heartbeat_ns, now):
                self._kill_hung(record)

    def report_slow_starts(self, now: float) -> None:
        """Say which workers take long to start, after 10 s, 20 s, 40 s and so on."""
        for record in self:
            if record.state is State.STARTING and not record.told and record.report_at <= now:
                age_s = now - record.started_at
                record.report_at = now + age_s
                doing = "on_startup" if record.slot.heartbeat_ns else "the import of APP"
                logger.warning("%s is not ready after %.0f s: %s still runs", record, age_s, doing)

    def kill_overdue(self, now: float) -> None:
        """Kill those whose time is up."""
        for record in self:
            if record.stacks_by is not None and record.stacks_by <= now:
                record.stacks_by = None
                _signal(record, STACKS_SIGNAL)
            if record.kill_at is not None and record.kill_at <= now:
                if not record.killed_for:
                    logger.error("%s did not end in time: killed", record)
                self.kill(record, "being late")

    def next_due(self) -> list[float]:
        """Return when something is to be done to or said of a worker."""
        times = [time for record in self for time in (record.kill_at, record.stacks_by) if time is not None]
        return times + [record.report_at for record in self if record.state is State.STARTING and not record.told]

    def reap(self) -> Iterator[tuple[int, WorkerRecord | None, int]]:
        """Give pid, record and exit code of every child that has ended; a record wants to be heard and buried, then.

        As a container's first process we inherit those of others, too; they have no record.
        """
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            record = self._records.pop(pid, None)
            if record is not None:
                record.reaped = True
            yield pid, record, os.waitstatus_to_exitcode(status)

    def bury(self, record: WorkerRecord) -> None:
        """Give back what a worker that was reaped has held."""
        record.channel.close()
        self.scoreboard.give_back(record.slot)

    def leave(self) -> None:
        """Close the channels, upon which workers that are left drain by themselves."""
        for record in self:
            record.channel.close()


def _end_by(record: WorkerRecord, time_s: float) -> None:
    kill_at = time.monotonic() + time_s
    record.kill_at = kill_at if record.kill_at is None else min(record.kill_at, kill_at)


def _signal(record: WorkerRecord, number: signal.Signals) -> None:
    if not record.reaped:  # or the pid could be somebody else's
        os.kill(record.pid, number)
