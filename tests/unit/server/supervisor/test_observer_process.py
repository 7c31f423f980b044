"""The end of the observer: not even one that cannot be killed holds up the supervisor."""

from __future__ import annotations

import os
import signal

import pytest

from se_server.server.shared.control import ControlChannel
from se_server.server.shared.scoreboard import Scoreboard
from se_server.server.supervisor import observer_process
from se_server.server.supervisor.observer_process import ObserverProcess


def _never_ends(_admin: object, _board: Scoreboard, _channel: ControlChannel) -> int:
    while True:
        signal.pause()


def test_an_observer_whose_disk_hangs_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Signals reach a process that waits for a disk when the disk goes on, and no sooner."""
    for name in ("END_S", "KILL_S"):
        monkeypatch.setattr(observer_process, name, 0.05)
    monkeypatch.setattr(ObserverProcess, "_signal", lambda self, number: None)
    observer = ObserverProcess(None, _never_ends)
    observer.begin()
    observer.run_due(Scoreboard(1), [], hang_timeout_s=30.0)
    pid = observer.pid
    try:
        observer.end()
        assert f"the observer (pid {pid}) does not end" in caplog.text
        assert observer.pid == 0
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
