"""A writer of lines that waits for no reader."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from se_server.telemetry.log_writer import LogWriter, allow_threads, backlogs

LINE = b"x" * 999 + b"\n"
WAIT_S = 10.0


@pytest.fixture(params=[True, False], ids=["thread", "poll"])
def threads(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Run a test as in a worker and as in the supervisor."""
    allow_threads(request.param)
    yield request.param
    allow_threads(True)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for descriptor in (reader, writer):
        with contextlib.suppress(OSError):
            os.close(descriptor)


def read_lines(reader: int, writer: LogWriter, until: bytes) -> list[bytes]:
    """Read until a line contains `until`; write the backlog as the supervisor does."""
    os.set_blocking(reader, False)
    data, deadline = b"", time.monotonic() + WAIT_S
    while until not in data:
        assert time.monotonic() < deadline, data[-2000:]
        with contextlib.suppress(BlockingIOError):
            data += os.read(reader, 1 << 16)
        if writer.has_backlog():
            writer.write_backlog()
    return data.splitlines(keepends=True)


def test_a_line_is_there_at_once(pipe: tuple[int, int], threads: bool) -> None:
    """The crash that follows may leave no time for a thread."""
    reader, writer = pipe
    before = threading.active_count()
    LogWriter(writer).put(b"one\n", b"two\n")
    assert os.read(reader, 100) == b"one\ntwo\n"
    assert threading.active_count() == before
    assert os.get_blocking(writer)  # the mode is shared with other processes


def test_order_is_kept_and_losses_are_counted(pipe: tuple[int, int], threads: bool) -> None:
    reader, writer = pipe
    log = LogWriter(writer, max_bytes=50_000)
    lines = [b"%d " % number + LINE for number in range(500)]
    began = time.monotonic()
    for line in lines:
        log.put(line)
    assert time.monotonic() - began < WAIT_S / 2
    assert log.lost > 300
    assert (log in backlogs()) is not threads
    got = read_lines(reader, log, b"lines were lost")
    kept = len(got) - 1
    assert got[:-1] == lines[:kept]
    assert got[-1] == b"%d log lines were lost: they could not be written\n" % (len(lines) - kept)
    log.put(b"afterwards\n")
    assert log.flush()
    assert os.read(reader, 1000) == b"afterwards\n"


def test_a_flush_has_a_limit(pipe: tuple[int, int], threads: bool) -> None:
    reader, writer = pipe
    log = LogWriter(writer)
    for _ in range(200):
        log.put(LINE)
    began = time.monotonic()
    assert not log.flush(0.2)
    assert 0.1 < time.monotonic() - began < WAIT_S / 2
    got = bytearray()

    def read() -> None:
        while len(got) < 200 * len(LINE):
            got.extend(os.read(reader, 1 << 16))

    thread = threading.Thread(target=read)
    thread.start()
    assert log.flush(WAIT_S)
    thread.join()


def test_a_reader_that_has_gone_loses_lines_only(pipe: tuple[int, int], threads: bool) -> None:
    reader, writer = pipe
    os.close(reader)
    log = LogWriter(writer)
    for _ in range(10):
        log.put(LINE)
    assert log.flush()
    assert log.lost == 10


def test_a_closed_descriptor_loses_lines_only(threads: bool) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    os.close(writer)
    log = LogWriter(writer)
    log.put(LINE)
    assert log.flush()
    assert log.lost == 1


def test_a_full_disk_loses_lines_only(threads: bool) -> None:
    with open("/dev/full", "wb") as full:
        log = LogWriter(full.fileno())
        log.put(LINE)
        assert log.flush()
    assert log.lost == 1


def test_lines_of_a_socket_stay_whole(threads: bool) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        log = LogWriter(theirs.fileno(), max_bytes=3_000_000)
        lines = [b"%d " % number + b"y" * 200_000 + b"\n" for number in range(10)]
        log.put(*lines, b"end\n")
        assert b"".join(read_lines(ours.fileno(), log, b"end")) == b"".join(lines) + b"end\n"
        assert theirs.gettimeout() is None


def test_a_file_gets_all_lines_in_order(tmp_path: Path, threads: bool) -> None:
    with open(tmp_path / "log", "wb") as file:
        log = LogWriter(file.fileno())
        for number in range(300):
            log.put(b"%d\n" % number)
        assert log.flush()
    assert (tmp_path / "log").read_bytes() == b"".join(b"%d\n" % number for number in range(300))


def test_a_backlog_follows_its_descriptor(pipe: tuple[int, int], tmp_path: Path, threads: bool) -> None:
    """A rotation replaces the file of a descriptor while lines wait."""
    _, writer = pipe
    log = LogWriter(writer)
    for number in range(200):
        log.put(b"%d " % number + LINE)
    with open(tmp_path / "log", "wb") as file:
        os.dup2(file.fileno(), writer)
    assert log.flush(WAIT_S)
    last = (tmp_path / "log").read_bytes().splitlines(keepends=True)
    assert last[-1] == b"199 " + LINE
    assert len(last) > 100


def test_a_forked_child_has_neither_lock_nor_backlog(pipe: tuple[int, int], threads: bool) -> None:
    """A thread of the parent holds the lock at the moment of the fork."""
    _, writer = pipe
    log = LogWriter(writer)
    for _ in range(200):
        log.put(LINE)
    held, go = threading.Event(), threading.Event()

    def hold() -> None:
        with log._lock:
            held.set()
            go.wait(WAIT_S)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(WAIT_S)
    pid = os.fork()
    if pid == 0:
        signal.alarm(5)  # kills a child that hangs
        log.put(LINE)
        os._exit(0 if len(log._queue) <= 1 and log.lost == 0 else 1)
    _, status = os.waitpid(pid, 0)
    go.set()
    holder.join()
    assert status == 0


def test_a_signal_handler_may_log_while_a_line_is_written(pipe: tuple[int, int], threads: bool) -> None:
    reader, writer = pipe
    log = LogWriter(writer, max_bytes=10_000_000)
    before = signal.signal(signal.SIGALRM, lambda *_: log.put(b"signal\n"))
    try:
        for number in range(3000):
            if number % 30 == 0:
                signal.setitimer(signal.ITIMER_REAL, 0.0001)
            log.put(b"line\n")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    log.put(b"end\n")
    lines = read_lines(reader, log, b"end")
    assert lines.count(b"line\n") == 3000
    assert set(lines) <= {b"line\n", b"signal\n", b"end\n"}


FILLS = """
import os, resource, sys
from se_server.telemetry.log_writer import LogWriter, allow_threads
allow_threads(sys.argv[2] == "True")
descriptor = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
writer = LogWriter(descriptor)
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (25, hard))  # as a disk that fills up within a line
for number in range(5):
    writer.put(b"line %d....\\n" % number)
    writer.flush()
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
writer.put(b"the end\\n")
writer.flush()
"""


def test_a_line_that_did_not_fit_ends_alone(tmp_path: Path, threads: bool) -> None:
    """A disk that fills up takes a part of a line; the next line does not continue it."""
    path = tmp_path / "log"
    subprocess.run([sys.executable, "-c", FILLS, str(path), str(threads)], check=True, timeout=30)
    whole, others = "line 0....\nline 1....\n", path.read_text().removeprefix("line 0....\nline 1....\n").splitlines()
    assert path.read_text().startswith(whole)
    assert others == ["lin", "the end", "3 log lines were lost: they could not be written"]


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, threading.Event]]:
    """A file on a disk that hangs until the event is set."""
    goes_on, write = threading.Event(), os.write

    def hang(descriptor: int, data: bytes) -> int:
        if os.path.samestat(os.fstat(descriptor), os.stat(tmp_path / "log")):
            goes_on.wait(WAIT_S)
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", hang)
    yield tmp_path / "log", goes_on
    goes_on.set()


def test_a_disk_that_hangs_holds_up_nobody(disk: tuple[Path, threading.Event], threads: bool) -> None:
    path, goes_on = disk
    lines = [b"%d\n" % number for number in range(1000)]
    with open(path, "wb", 0) as file:
        writer, began = LogWriter(file.fileno()), time.monotonic()
        for line in lines:
            writer.put(line)
        assert not writer.flush(0.1)
        assert not writer.has_backlog()  # the supervisor would look at it all the time
        assert time.monotonic() - began < WAIT_S / 2
        goes_on.set()
        assert writer.flush(WAIT_S)
    assert path.read_bytes().splitlines(keepends=True) == lines


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_child_can_be_forked_while_the_disk_hangs(disk: tuple[Path, threading.Event]) -> None:
    path, goes_on = disk
    allow_threads(False)
    try:
        with open(path, "wb", 0) as file:
            writer = LogWriter(file.fileno())
            writer.put(b"of the parent\n")
            pid = os.fork()
            if pid == 0:
                allow_threads(True)
                goes_on.set()
                writer.put(b"of the child\n")
                os._exit(0 if writer.flush(WAIT_S) else 1)
            assert os.waitpid(pid, 0)[1] == 0
            goes_on.set()
            assert writer.flush(WAIT_S)
    finally:
        allow_threads(True)
    assert path.read_bytes() == b"of the child\nof the parent\n"


def test_a_process_that_forks_has_no_thread_afterwards(tmp_path: Path) -> None:
    allow_threads(False)
    try:
        with open(tmp_path / "log", "wb", 0) as file:
            writer, before = LogWriter(file.fileno()), threading.active_count()
            for number in range(100):
                writer.put(b"%d\n" % number)
                assert threading.active_count() == before
                assert file.tell() == sum(len(b"%d\n" % each) for each in range(number + 1))
    finally:
        allow_threads(True)
