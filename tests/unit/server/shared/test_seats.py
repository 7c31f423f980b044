"""Seats that several supervisors and their workers share, as real processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from se_server.errors import ConfigError
from se_server.server.shared.scoreboard import Scoreboard, Slot
from se_server.server.shared.seats import BLOCKS, SeatTable


@contextmanager
def another_process(work: Callable[[], None]) -> Iterator[int]:
    """Run `work` in a process that stays alive until the end of the block, or until it is killed."""
    done_out, done_in = os.pipe()
    stay_out, stay_in = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(stay_in)
            work()
            os.write(done_in, b"1")
            os.read(stay_out, 1)
        finally:
            os._exit(0)
    os.close(done_in)
    os.close(stay_out)
    said = os.read(done_out, 1)
    os.close(done_out)
    try:
        assert said, "the other process failed"
        yield pid
    finally:
        os.close(stay_in)
        os.waitpid(pid, 0)


def worker_of(table: SeatTable) -> Slot:
    slot = Scoreboard(1, table).take(1, now_ns=7)
    assert slot is not None
    return slot


def test_the_workers_of_two_supervisors_share_the_seats() -> None:
    table = SeatTable()
    ours = worker_of(table)
    assert ours.claim(2)
    ours.hold(1)
    kept = []

    def be_another_supervisor() -> None:
        kept.append(SeatTable(table.fileno()))
        theirs = worker_of(kept[0])
        assert theirs.claim(2)
        theirs.hold(1)
        assert not theirs.claim(2)

    with another_process(be_another_supervisor):
        assert ours.claimed() == 2
        assert not ours.claim(2)


def test_seats_are_freed_with_the_last_process() -> None:
    """A supervisor's seats stay taken while one of its workers lives."""
    table = SeatTable()
    ours = worker_of(table)

    def be_another_supervisor() -> None:
        other = SeatTable(table.fileno())
        theirs = worker_of(other)
        if os.fork() == 0:  # a worker that outlives the supervisor
            other.join()
            theirs.hold(1)
            os.write(joined_in, b"1")
            os.read(end_out, 1)
            os._exit(0)
        os.read(joined_out, 1)

    joined_out, joined_in = os.pipe()
    end_out, end_in = os.pipe()
    gone_out, gone_in = os.pipe()
    with another_process(be_another_supervisor):
        table.sweep()
        assert not ours.claim(1)
    table.sweep()
    assert not ours.claim(1)
    os.close(gone_in)
    os.write(end_in, b"1")
    os.read(gone_out, 1)  # returns when the process has died and its end of the pipe is closed
    table.sweep()
    assert ours.claim(1)
    for descriptor in (joined_out, joined_in, end_out, end_in, gone_out):
        os.close(descriptor)


def test_too_many_supervisors_are_one_sentence() -> None:
    first = SeatTable()
    tables = []

    def be_one() -> None:
        tables.append(SeatTable(first.fileno()))  # kept open: closing a table drops the locks

    with ExitStack() as stack:
        for _ in range(BLOCKS - 1):
            stack.enter_context(another_process(be_one))

        def be_one_too_many() -> None:
            with pytest.raises(ConfigError, match=f"{BLOCKS} supervisors have conversations"):
                be_one()

        stack.enter_context(another_process(be_one_too_many))


def test_a_table_of_another_version_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    table = SeatTable()
    ours = worker_of(table)
    ours.hold(1)
    os.pwrite(table.fileno(), b"se-server seats 9", os.fstat(table.fileno()).st_size - 64)
    theirs = worker_of(SeatTable(os.dup(table.fileno())))
    assert "does not count the conversations that still run on the previous version" in caplog.text
    assert theirs.claimed() == 0
    assert ours.claimed() == 1
