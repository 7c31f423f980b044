"""Fakes for the supervisor: a pool without processes, an announcer that keeps its events, and a stage for rollouts."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator, Sequence

from se_server.server.config.config import load_config
from se_server.server.shared.control import ControlChannel
from se_server.server.shared.control_messages import Message, Ready
from se_server.server.shared.liveness import Silence
from se_server.server.shared.scoreboard import Scoreboard, Slot, State
from se_server.server.supervisor.children import WorkerRecord
from se_server.server.supervisor.generation import Generation
from se_server.server.supervisor.pool import Pool
from se_server.server.supervisor.rollout import Rollout
from se_server.server.supervisor.zygotes import Zygotes
from se_server.server.worker.spec import WorkerSpec


def never_run(_spec: WorkerSpec, _slot: Slot, _channel: ControlChannel) -> int:
    raise AssertionError("a fake pool forks no process")


def make_spec(**options: object) -> WorkerSpec:
    return WorkerSpec(load_config(options, {}), never_run)


class FakePool(Pool):
    """Keeps records of workers that have no process, and the orders to drain and kill them.

    Attributes:
        drained: (place, generation number, timeout in seconds) of every order to drain.
        killed: the pids of workers that were killed.
        fork_error: raised by the next fork, once.
        ends: the workers' ends of the control channels, by pid.
    """

    def __init__(self) -> None:
        self.scoreboard = Scoreboard(slots=64)
        self._not_inherited = ()
        self._records = {}
        self.zygotes = Zygotes(self.scoreboard, self.descriptors)
        self._pids = itertools.count(1_000_000)
        self.drained: list[tuple[int, int, float]] = []
        self.killed: list[int] = []
        self.fork_error: OSError | None = None
        self.ends: dict[int, ControlChannel] = {}

    def fork(self, generation: Generation, place: int) -> None:
        error, self.fork_error = self.fork_error, None
        if error is not None:
            raise error
        slot = self.scoreboard.take(generation.number, time.monotonic_ns())
        assert slot is not None
        slot.pid = os.getpid()
        pid, (ours, theirs) = next(self._pids), ControlChannel.pair()
        self.ends[pid] = theirs
        now = time.monotonic()
        self._records[pid] = WorkerRecord(place, pid, ours, slot, generation, now, Silence(pid, 30.0), now + 10)

    def drain(self, record: WorkerRecord, timeout_s: float, notice_s: float = 0.0) -> None:
        record.drain_ordered = True
        self.drained.append((record.place, record.generation.number, timeout_s + notice_s))

    def kill(self, record: WorkerRecord, reason: str) -> None:
        record.killed_for = reason
        self.killed.append(record.pid)

    def remove(self, record: WorkerRecord) -> None:
        """Remove a record, as reaping and `release` do."""
        del self._records[record.pid]
        self.ends.pop(record.pid).close()
        self.release(record)

    def sent_to(self, record: WorkerRecord) -> list[Message]:
        """Return the messages that the supervisor has sent to a worker."""
        return self.ends[record.pid].receive()

    def close(self) -> None:
        for record in self:
            self.remove(record)


class FakeAnnouncer:
    """Keeps the names of the reported events."""

    alive_s = None

    def __init__(self) -> None:
        self.events: list[str] = []

    def ready(self, workers: int, path: str, addresses: Sequence[str]) -> None:
        self.events.append(f"ready {workers}{path}")

    def failed(self, reason: str, details: str) -> None:
        self.events.append(f"failed: {reason}{details}")

    def reloading(self) -> None:
        self.events.append("reloading")

    def reloaded(self) -> None:
        self.events.append("reloaded")

    def handed_over(self, pid: int) -> None:
        raise AssertionError("a rollout hands nothing over")

    def upgrade_failed(self) -> None:
        raise AssertionError("a rollout has no upgrade")

    def stopping(self) -> None:
        raise AssertionError("a rollout does not stop the server")

    def alive(self) -> None:
        raise AssertionError("a rollout has no loop")


class Stage:
    """A rollout with a fake pool. Each step is an event in the life of the server, written as text."""

    def __init__(self, **options: object) -> None:
        self.pool = FakePool()
        self.announcer = FakeAnnouncer()
        self.rollout = Rollout(self.pool, self.announcer, make_spec(**options))

    def worker(self, place: int, number: int) -> WorkerRecord:
        """Return the newest worker of a place in a generation."""
        return [record for record in self.pool if (record.place, record.generation.number) == (place, number)][-1]

    def alive(self) -> Iterator[str]:
        """Yield `place.generation state` of every worker that was not ordered to drain."""
        for record in self.pool:
            if record.serves:
                yield f"{record.place}.{record.generation.number} {record.state.name.lower()}"

    def make_ready(self, place: int, number: int) -> None:
        record = self.worker(place, number)
        record.state = State.READY
        record.generation.ready_message = Ready("/ws")
        self.rollout.became_ready(record)
        self.rollout.fill_places()

    def fail(self, place: int, number: int) -> None:
        """End a worker that is not ready yet."""
        record = self.worker(place, number)
        self.pool.remove(record)
        self.rollout.could_not_start(record, "ended")
        self.rollout.fill_places()

    def crash(self, place: int, number: int) -> None:
        """End a worker that is ready."""
        record = self.worker(place, number)
        self.pool.remove(record)
        self.rollout.died(record)
        self.rollout.fill_places()

    def begin(self, **options: object) -> None:
        self.rollout.begin(make_spec(**options))
        self.rollout.fill_places()

    def scale(self, change: int) -> None:
        self.rollout.scale(change)
        self.rollout.fill_places()

    def play(self, *steps: str) -> None:
        """Carry out steps such as `begin 2`, `ready 0.1`, `fail 0.1`, `crash 0.1`, `scale 1` and `repairing`."""
        for step in steps:
            name, _, given = step.partition(" ")
            if name == "begin":
                self.begin(workers=int(given))
            elif name == "repairing":
                self.begin(workers=int(given), reload=True)
            elif name == "scale":
                self.scale(int(given))
            else:
                place, _, number = given.partition(".")
                {"ready": self.make_ready, "fail": self.fail, "crash": self.crash}[name](int(place), int(number))
