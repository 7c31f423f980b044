"""The pool forks, reports and releases real processes."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator

import pytest

from se_server.server.config.config import load_config
from se_server.server.shared.control import ControlChannel
from se_server.server.shared.scoreboard import Slot, State
from se_server.server.supervisor.generation import MAX_BOOT_FAILURES, Generation
from se_server.server.supervisor.pool import SLOW_START_S, Pool
from se_server.server.worker.spec import WorkerSpec


def sleep(_spec: WorkerSpec, slot: Slot, channel: ControlChannel) -> int:
    slot.state = State.STARTING
    poll = select.poll()
    poll.register(channel.fileno(), select.POLLIN)
    poll.poll()
    return 0


@pytest.fixture
def pool() -> Iterator[Pool]:
    made = Pool()
    yield made
    for record in made:
        os.kill(record.pid, signal.SIGKILL)
        os.waitpid(record.pid, 0)
        record.channel.close()


def generation(workers: int = 1) -> Generation:
    return Generation(1, WorkerSpec(load_config({}, {}), sleep), time.monotonic(), workers)


def test_a_slow_start_is_logged(pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    """The line names the worker and its age."""
    pool.fork(generation(), 0)
    (record,) = pool
    begun = record.started_at
    pool.report_slow_starts(begun + SLOW_START_S - 0.1)
    assert not caplog.records
    for age_s in (10, 15, 20, 39, 40):
        pool.report_slow_starts(begun + age_s)
    said = [entry.getMessage() for entry in caplog.records]
    assert said == [
        f"worker 0 (pid {record.pid}) is not ready after {age_s} s: the import of APP still runs"
        for age_s in (10, 20, 40)
    ]
    caplog.clear()
    record.slot.heartbeat_ns = 1  # its loop runs
    pool.report_slow_starts(begun + 80)
    assert caplog.records[0].getMessage().endswith("is not ready after 80 s: on_startup still runs")
    record.state = State.READY
    pool.report_slow_starts(begun + 1000)
    assert len(caplog.records) == 1


def test_a_released_worker_frees_descriptor_and_slot(pool: Pool) -> None:
    free = os.dup(0)
    os.close(free)
    pool.fork(generation(), 0)
    (record,) = pool
    assert len(list(pool.scoreboard.live())) == 1
    os.kill(record.pid, signal.SIGKILL)
    os.waitid(os.P_PID, record.pid, os.WEXITED | os.WNOWAIT)
    ((pid, reaped, code),) = pool.reap()
    assert (pid, reaped, code) == (record.pid, record, -signal.SIGKILL)
    pool.kill(record, "being dead")  # no signal is sent: the pid may belong to another process by now
    pool.release(record)
    assert not list(pool.scoreboard.live())
    assert len(pool) == 0
    assert os.dup(0) == free
    os.close(free)


def test_pauses_between_boot_failures_grow() -> None:
    """The fifth failure is the last."""
    made = generation()
    pauses = [made.pause_after_failure() for _ in range(MAX_BOOT_FAILURES)]
    assert pauses == [0.5, 1.0, 2.0, 4.0, None]


def test_only_young_deaths_delay_the_next_worker() -> None:
    made = generation(workers=2)
    assert [made.pause_after_death(1.0) for _ in range(5)] == [0.0, 0.0, 0.5, 1.0, 2.0]
    assert made.pause_after_death(60.0) == 0.0
    assert [made.pause_after_death(1.0) for _ in range(20)][-1] == 30.0
