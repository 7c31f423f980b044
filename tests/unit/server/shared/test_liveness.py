"""Real processes count as hung or not, with much, little or no CPU time."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from se_server.server.shared.liveness import Silence

pytestmark = pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="looks at processes in /proc")

SPIN = "print('on', flush=True)\nwhile True: pass"
SLEEP = "import time\nprint('on', flush=True)\ntime.sleep(3600)"
TIMEOUT_S = 0.5


@contextlib.contextmanager
def process(source: str, cpu: int | None = None, *, idle: bool = False) -> Iterator[int]:
    def settle() -> None:
        if cpu is not None:
            os.sched_setaffinity(0, {cpu})
        if idle:
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))

    with subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, preexec_fn=settle) as child:  # noqa: PLW1509
        try:
            assert child.stdout is not None
            child.stdout.readline()
            yield child.pid
        finally:
            child.kill()


def looked(silence: Silence, *, until: float, heartbeat_ns: int = 1) -> bool:
    """Look as the supervisor does, for `until` seconds or until the process is hung."""
    end = time.monotonic() + until
    while (now := time.monotonic()) < end:
        if silence.is_hung(heartbeat_ns, now):
            return True
        time.sleep(silence.look_s)
    return False


def test_a_process_that_sleeps_without_a_heartbeat_hangs() -> None:
    with process(SLEEP) as pid:
        began = time.monotonic()
        assert looked(Silence(pid, TIMEOUT_S), until=20)
        assert time.monotonic() - began >= TIMEOUT_S


def test_a_spinning_process_hangs_after_its_cpu_time() -> None:
    with process(SPIN) as pid:
        assert looked(Silence(pid, TIMEOUT_S), until=30)


def test_a_starved_process_does_not_hang() -> None:
    cpu = min(os.sched_getaffinity(0))
    with process(SPIN, cpu, idle=True) as starved, process(SPIN, cpu):
        silence = Silence(starved, TIMEOUT_S)
        assert not looked(silence, until=4 * TIMEOUT_S)
        assert silence.silent_s < TIMEOUT_S / 2


def test_a_process_stopped_by_a_signal_hangs() -> None:
    with process(SPIN) as pid:
        os.kill(pid, signal.SIGSTOP)
        assert looked(Silence(pid, TIMEOUT_S), until=20)


def test_a_heartbeat_resets_the_silence() -> None:
    with process(SLEEP) as pid:
        silence = Silence(pid, TIMEOUT_S)
        assert looked(silence, until=20)
        assert not silence.is_hung(2, time.monotonic())
        assert silence.silent_s == 0


def test_time_between_late_looks_does_not_count() -> None:
    with process(SLEEP) as pid:
        silence = Silence(pid, TIMEOUT_S)
        now = time.monotonic()
        assert not silence.is_hung(1, now)
        assert not silence.is_hung(1, now + 3600)  # the machine was suspended


def test_a_process_that_is_gone_raises_nothing() -> None:
    with process(SLEEP) as pid:
        pass
    silence = Silence(pid, TIMEOUT_S)
    assert not silence.is_hung(1, 1.0)
    assert not silence.is_hung(1, 1.01)
