"""The short form of `python -m bench.overload`: a rush on a full server cuts no conversation, and is refused by 503."""

from __future__ import annotations

import sys

import pytest

if sys.platform != "linux":
    pytest.skip("measured on Linux", allow_module_level=True)

from bench import overload


def test_a_rush_is_refused_and_conversations_continue(capsys: pytest.CaptureFixture[str]) -> None:
    code = overload.main(["--capacity", "20", "--workers", "2", "--runs", "1", "--phase-s", "1"])
    said = capsys.readouterr().out
    # Times are not judged here: that needs more runs, and a calm machine.
    assert code in (0, 1), said
    assert "cut, " not in said
    assert "nobody was refused" not in said
