"""`print` of user code, which waits for no reader."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from se_server.telemetry.printing import unstall_prints

LINE = "x" * 999


@contextmanager
def pipe() -> Iterator[int]:
    """Make `sys.stdout` a pipe, and yield its other end."""
    reader, writer = os.pipe()
    with open(writer, "w", encoding="latin-1") as stream, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        patch.setattr(sys, "stderr", None)
        unstall_prints()
        yield reader
    os.close(reader)


def test_a_print_is_written_at_once() -> None:
    with pipe() as reader:
        sys.stdout.write("größer")
        sys.stdout.flush()
        assert os.read(reader, 100) == "größer".encode("latin-1")


def test_a_slow_reader_loses_nothing() -> None:
    with pipe() as reader:
        found = bytearray()

        def read() -> None:
            while len(found) < 4000 * 1000:
                found.extend(os.read(reader, 1 << 16))
                time.sleep(0.001)

        thread = threading.Thread(target=read)
        thread.start()
        for number in range(4000):
            sys.stdout.write(f"{number:04}{LINE[4:]}\n")
        sys.stdout.flush()
        thread.join(20)
        assert [int(line[:4]) for line in found.splitlines()] == list(range(4000))


def test_a_reader_that_stalls_holds_nobody_up() -> None:
    with pipe() as reader:
        began = time.monotonic()
        for _ in range(4000):
            sys.stdout.write(LINE + "\n")
        sys.stdout.flush()
        assert time.monotonic() - began < 10
        found = bytearray()
        while b" writes to stdout were lost: nobody read them\n" not in found:
            found += os.read(reader, 1 << 16)
        assert len(found) > 1 << 20


def test_other_streams_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stream:
        pass

    mine = Stream()
    monkeypatch.setattr(sys, "stdout", mine)
    monkeypatch.setattr(sys, "stderr", None)
    unstall_prints()
    assert (sys.stdout, sys.stderr) == (mine, None)
