"""The scoreboard, written to by real processes."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from se_server.server.scoreboard import CELL_BYTES, COUNTERS, LINE_BYTES, SLOT_BYTES, Scoreboard, Slot, State
from se_server.types import Counters


def in_child(work: Callable[[], None]) -> None:
    """Run `work` in a forked process, to its end."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0


def taken(board: Scoreboard, generation: int = 1) -> Slot:
    slot = board.take(generation, now_ns=7)
    assert slot is not None
    return slot


def counted(**counts: int) -> Counters:
    counters = Counters()
    for name, count in counts.items():
        setattr(counters, name, count)
    return counters


def test_what_a_worker_writes_the_supervisor_reads() -> None:
    board = Scoreboard(4)
    slot = taken(board, generation=3)

    def work() -> None:
        slot.pid = os.getpid()
        slot.state = State.READY
        slot.sessions = 5
        slot.heartbeat_ns = 2**62
        slot.publish(counted(turns_started=9, turns_ended=7, chunks_sent=1))

    in_child(work)
    assert slot.pid not in (0, os.getpid())
    assert (slot.generation, State(slot.state), slot.sessions, slot.heartbeat_ns) == (3, State.READY, 5, 2**62)
    assert (slot.started_ns, slot.turns, slot.count("chunks_sent")) == (7, 2, 1)
    assert [found.index for found in board.live()] == [slot.index]


def test_totals_never_go_backwards_when_a_worker_is_gone() -> None:
    board = Scoreboard(4)
    first, second = taken(board), taken(board)
    in_child(lambda: first.publish(counted(sessions_opened=8, sessions_closed=5, turns_started=4, turns_ended=3)))
    in_child(lambda: second.publish(counted(sessions_opened=1)))
    before = board.totals()
    board.give_back(first)
    after = board.totals()
    assert all(after[name] >= before[name] for name in COUNTERS)
    assert (after["sessions_opened"], after["turns_started"]) == (9, 4)
    # The conversations and turns of a dead worker have ended.
    assert after["sessions_opened"] - after["sessions_closed"] == 1
    assert after["turns_started"] == after["turns_ended"]
    in_child(lambda: None)
    again = taken(board)
    assert (again.index, again.count("sessions_opened"), again.pid) == (first.index, 0, 0)
    in_child(lambda: again.publish(counted(sessions_opened=2)))
    assert board.totals()["sessions_opened"] == 11


def test_a_reader_in_another_process_sees_totals_that_only_grow() -> None:
    board = Scoreboard(2)
    stop = taken(board)
    ready_out, ready_in = os.pipe()
    pid = os.fork()
    if pid == 0:
        code, last, reads = 1, 0, 0
        try:
            while not stop.sessions or not reads:
                total = board.totals()["chunks_sent"]
                assert total >= last, (total, last)
                last, reads = total, reads + 1
                if reads == 1:
                    os.write(ready_in, b"1")
            code = 0
        finally:
            os._exit(code)
    os.read(ready_out, 1)
    for _ in range(2_000):
        slot = taken(board)
        slot.publish(counted(chunks_sent=1))
        board.give_back(slot)
    stop.sessions = 1
    assert os.waitpid(pid, 0)[1] == 0
    for descriptor in (ready_out, ready_in):
        os.close(descriptor)
    assert board.totals()["chunks_sent"] == 2_000


def test_every_slot_has_cache_lines_of_its_own() -> None:
    board = Scoreboard(3)
    assert SLOT_BYTES % LINE_BYTES == 0
    assert {slot.cells.nbytes for slot in board.slots} == {SLOT_BYTES}
    assert Slot.FIRST_COUNTER * CELL_BYTES % LINE_BYTES == 0
    for place, slot in enumerate(board.slots):
        slot.cells[0] = slot.cells[-1] = place + 1
    assert [(slot.cells[0], slot.cells[-1]) for slot in board.slots] == [(1, 1), (2, 2), (3, 3)]


def test_there_are_no_more_slots_than_there_are() -> None:
    board = Scoreboard(2)
    taken(board)
    last = taken(board)
    assert board.take(1, 0) is None
    board.give_back(last)
    assert board.take(1, 0) is last


def test_a_supervisor_killed_while_it_counted_does_not_hold_readers_up(monkeypatch: pytest.MonkeyPatch) -> None:
    board = Scoreboard(1)
    slot = taken(board)
    slot.publish(counted(chunks_sent=3))
    board._retired.version += 1  # odd: it got no further
    assert board.totals()["chunks_sent"] == 3
