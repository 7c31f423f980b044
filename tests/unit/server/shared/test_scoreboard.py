"""The scoreboard, written to by real processes."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable

import pytest

from se_server.server.shared.scoreboard import CELL_BYTES, LINE_BYTES, SLOT_BYTES, Scoreboard, Slot, State
from se_server.telemetry.counters import COUNTERS


def in_child(work: Callable[[], None]) -> None:
    """Run `work` in a forked process until it ends."""
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


def count(slot: Slot, **counts: int) -> None:
    counters = slot.counters()
    for name, value in counts.items():
        setattr(counters, name, value)


def test_the_supervisor_reads_the_values_of_a_worker() -> None:
    board = Scoreboard(4)
    slot = taken(board, generation=3)

    def work() -> None:
        slot.occupy()
        slot.state = State.READY
        slot.sessions = 5
        slot.heartbeat_ns = 2**62
        count(slot, turns_started=9, turns_ended=7, chunks_sent=1)

    in_child(work)
    assert slot.pid not in (0, os.getpid())
    assert (slot.generation, State(slot.state), slot.sessions, slot.heartbeat_ns) == (3, State.READY, 5, 2**62)
    assert (slot.started_ns, slot.turns, slot.count("chunks_sent")) == (7, 2, 1)
    assert [found.index for found in board.live()] == [slot.index]


def test_totals_include_workers_that_have_ended() -> None:
    board = Scoreboard(4)
    first, second = taken(board), taken(board)
    in_child(lambda: count(first, sessions_opened=8, sessions_closed=5, turns_started=4, turns_ended=3))
    in_child(lambda: count(second, sessions_opened=1))
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
    in_child(lambda: count(again, sessions_opened=2))
    assert board.totals()["sessions_opened"] == 11


def test_totals_only_grow_for_other_processes() -> None:
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
        count(slot, chunks_sent=1)
        board.give_back(slot)
    stop.sessions = 1
    assert os.waitpid(pid, 0)[1] == 0
    for descriptor in (ready_out, ready_in):
        os.close(descriptor)
    assert board.totals()["chunks_sent"] == 2_000


def test_every_slot_has_cache_lines_of_its_own() -> None:
    board = Scoreboard(3)
    assert SLOT_BYTES % LINE_BYTES == 0
    assert 0 <= SLOT_BYTES - (Slot.FIRST_COUNTER + len(COUNTERS)) * CELL_BYTES < LINE_BYTES
    assert {slot.cells.nbytes for slot in board.slots} == {SLOT_BYTES}
    assert Slot.FIRST_COUNTER * CELL_BYTES % LINE_BYTES == 0
    for place, slot in enumerate(board.slots):
        slot.cells[0] = slot.cells[-1] = place + 1
    assert [(slot.cells[0], slot.cells[-1]) for slot in board.slots] == [(1, 1), (2, 2), (3, 3)]


def test_a_full_scoreboard_gives_no_slot() -> None:
    board = Scoreboard(2)
    taken(board)
    last = taken(board)
    assert board.take(1, 0) is None
    board.give_back(last)
    assert board.take(1, 0) is last


def test_an_interrupted_addition_does_not_block_readers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The supervisor was killed while it added the counters of a dead worker."""
    board = Scoreboard(1)
    slot = taken(board)
    count(slot, chunks_sent=3)
    board._retired.version += 1  # odd: the addition was interrupted
    assert board.totals()["chunks_sent"] == 3


# --- seats ----------------------------------------------------------------------------------------------------------


def test_the_seats_of_a_dead_worker_are_freed() -> None:
    board = Scoreboard(4)
    first, second = taken(board), taken(board)
    assert first.claim(2)
    assert second.claim(2)
    first.hold(1)
    second.hold(1)
    assert not first.claim(2)
    assert first.claimed() == 2
    board.give_back(second)
    assert first.claim(2)


def test_the_last_seat_is_never_given_twice() -> None:
    """Several processes claim one seat repeatedly; its holder writes its name and has to read the same name."""
    board = Scoreboard(4)
    slots = [taken(board) for _ in range(4)]
    times = 3_000
    with mmap.mmap(-1, CELL_BYTES) as memory, memoryview(memory) as raw, raw.cast("q") as name:

        def work(slot: Slot) -> None:
            had = 0
            while had < times:
                if slot.claim(1):
                    name[0] = slot.index
                    for _ in range(20):
                        if name[0] != slot.index:
                            os._exit(2)
                    had += 1
                    slot.hold(0)
            os._exit(0)

        pids = []
        for slot in slots:
            pid = os.fork()
            if pid == 0:
                work(slot)
            pids.append(pid)
        assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids] == [0, 0, 0, 0]
    assert slots[0].claimed() == 0


def test_the_least_loaded_worker_accepts_and_beats() -> None:
    board = Scoreboard(4)
    own, idle, stale, closed = (taken(board) for _ in range(4))
    for slot, load, heartbeat_ns, accepting in (
        (own, 9, 100, 1),
        (idle, 5, 100, 1),
        (stale, 1, 99, 1),
        (closed, 1, 100, 0),
    ):
        slot.load, slot.heartbeat_ns, slot.accepting = load, heartbeat_ns, accepting
    assert own.least(100) == (5, idle.index)
    assert own.least(101) == (9, own.index)
    assert own.workers_accepting() == 3
