"""Rings that are handed on: one reader at a time, and an end when nobody writes to them any more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

if sys.platform == "win32":
    pytest.skip("needs fork", allow_module_level=True)

from se_server.server.observer._timelines import Timelines
from se_server.server.shared import former_rings
from se_server.server.shared.former_rings import FormerRings, lock_for_reading
from se_server.server.shared.rings import Rings


@pytest.fixture
def handed() -> Iterator[FormerRings]:
    """The rings of another supervisor, as they arrive."""
    own = Rings(4)
    (former,) = own.handed()
    former.descriptor = os.dup(former.descriptor)
    taken = FormerRings.take(former.handed())
    assert taken is not None
    yield taken
    taken.close()


def test_rings_of_another_layout_are_closed(handed: FormerRings) -> None:
    other = os.dup(handed.descriptor)
    assert FormerRings.take({**handed.handed(), "rings": other, "layout": "0"}) is None
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(other)


def test_rings_wait_for_the_end_of_another_reader(handed: FormerRings) -> None:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        lock_for_reading(handed.descriptor)
        os.write(writer, b"x")
        signal.pause()
        os._exit(0)
    os.read(reader, 1)
    Rings.writer(_rings_of(handed), 0)
    assert list(handed.memories()) == []
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert [number for number, _, _ in handed.memories()] == [0]


def test_a_killed_worker_of_a_gone_supervisor_is_noted(handed: FormerRings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(former_rings, "LOOK_S", 0.0)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    pid = os.fork()
    if pid == 0:
        ring = _rings_of(handed).writer(0)
        ring.opened(time.monotonic())
        os._exit(0)
    os.waitpid(pid, 0)
    timelines = Timelines()
    ((number, memory, _),) = handed.memories()
    timelines.read(number, memory)
    assert len(timelines.live) == 1
    assert handed.look(timelines.pid_of)  # its supervisor, this process, lives
    assert len(timelines.live) == 1
    handed.supervisor = ended.pid
    assert handed.look(timelines.pid_of)
    _, gone = timelines.read(number, memory)
    assert len(gone) == 1
    assert not handed.look(timelines.pid_of)


def _rings_of(handed: FormerRings) -> Rings:
    rings = Rings(4)
    os.dup2(handed.descriptor, rings._descriptor)
    return rings
