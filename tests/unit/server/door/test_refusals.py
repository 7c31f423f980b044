"""The log of refusals: one line per kind and second, and nothing forgotten."""

from __future__ import annotations

import pytest

from se_server.server.door.refusals import RefusalLog


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_first_of_each_kind_is_logged_at_once(caplog: pytest.LogCaptureFixture) -> None:
    refusals = RefusalLog(Clock())
    refusals.add("token refused", "a")
    refusals.add("no such path", "b")
    assert caplog.messages == ["token refused: a", "no such path: b"]


def test_flood_is_one_line_a_second(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    refusals = RefusalLog(clock)
    for n in range(1000):
        refusals.add("token refused", str(n))
    clock.now_s += 1.0
    refusals.add("token refused", "later")
    assert caplog.messages == ["token refused: 0", "token refused: later; 999 more of these since the last line"]


def test_flush_tells_what_no_line_has_told(caplog: pytest.LogCaptureFixture) -> None:
    refusals = RefusalLog(Clock())
    for _ in range(3):
        refusals.add("token refused", "x")
    refusals.flush()
    refusals.flush()
    assert caplog.messages == ["token refused: x", "token refused: 2 more of these since the last line"]


def test_no_line_has_a_key_of_a_peer(caplog: pytest.LogCaptureFixture) -> None:
    RefusalLog(Clock()).add("no such path", "path '/sk_0123456789abcdef'")
    assert caplog.messages == ["no such path: path '/***'"]
