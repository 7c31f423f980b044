"""The watch over plain functions loses none that begins at an inconvenient moment."""

from __future__ import annotations

import logging
import threading

import pytest

from se_server.conversation import blocking
from se_server.conversation.blocking import BlockWatch


class ClearedLate(threading.Event):
    """An event that is cleared only after a plain function began, which found it set."""

    def __init__(self) -> None:
        super().__init__()
        self.is_idle = threading.Event()
        self.has_begun = threading.Event()

    def clear(self) -> None:
        self.is_idle.set()
        assert self.has_begun.wait(10)
        super().clear()


def test_a_function_that_begins_as_the_watch_pauses_is_reported(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocking, "_IDLE_ROUNDS", 0)
    watch = BlockWatch()
    watch._wake = wake = ClearedLate()
    caplog.set_level(logging.WARNING, blocking.log.name)
    is_reported = threading.Event()
    reports: list[str] = []

    class Reports(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            reports.append(record.getMessage())
            is_reported.set()

    def sleepy() -> bool:
        wake.has_begun.set()
        return is_reported.wait(10)

    handler = Reports()
    blocking.log.addHandler(handler)
    try:
        watch.call(int)
        assert wake.is_idle.wait(10)
        assert watch.call(sleepy)
    finally:
        blocking.log.removeHandler(handler)
    assert "sleepy blocks the event loop" in reports[0]
