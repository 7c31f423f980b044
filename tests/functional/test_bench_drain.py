"""The short form of `python -m bench.drain`: reloads and an upgrade under conversations, judged by the callers."""

from __future__ import annotations

import sys

import pytest

from bench import drain


def test_reloads_and_an_upgrade_lose_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    if sys.platform != "linux":
        pytest.skip("the supervisor's upgrade is proved on Linux")
    code = drain.main(["--conversations", "20", "--reloads", "2", "--workers", "2", "--scale", "0.05"])
    said = capsys.readouterr().out
    assert code == 0, said
    assert "0 handshakes refused, 0 conversations cut, 0 answers not whole" in said
