"""The short form of `python -m bench.crowd`: every conversation gets its turns, and faults are reported."""

from __future__ import annotations

import argparse
import dataclasses
import sys

import pytest

if sys.platform != "linux":
    pytest.skip("it looks into processes from outside", allow_module_level=True)

from bench.crowd import hold, main, plans, target
from bench.kernel import running


def test_everybody_gets_every_turn_that_is_due() -> None:
    given = argparse.Namespace(conversations=60, generators=2, turn_every_s=0.5, seconds=1.5, workers=2)
    with running(target(2), None) as server:
        crowd = hold(server, given)
    assert (crowd.errors, crowd.resends) == ({}, 0)
    assert crowd.turns == 60 * 3
    assert 0 < crowd.first_p50_s <= crowd.first_p99_s <= crowd.first_max_s
    good = dataclasses.replace(crowd, first_p99_s=0.049, bytes_early=8999.0)
    assert good.faults() == []
    bad = dataclasses.replace(good, errors={"cut": 2}, first_p99_s=0.05, bytes_early=9001.0)
    assert [fault.partition(";")[0] for fault in bad.faults()] == [
        "2 times: cut",
        "p99 to the first chunk 50.0 ms",
        "9.0 KB for a conversation",
    ]


def test_each_generator_of_a_crowd_has_its_address() -> None:
    shares = plans("ws://127.0.0.1:1/ws", 1001, 4, 20.0)
    assert [plan.conversations for plan in shares] == [251, 250, 250, 250]
    assert [plan.first_number for plan in shares] == [0, 251, 501, 751]
    assert sum(plan.turns_per_s or 0 for plan in shares) == pytest.approx(1001 / 20)
    assert len({plan.source_addresses for plan in shares}) == 4


def test_a_low_limit_of_descriptors_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--conversations", "1000000000", "--generators", "2"]) == 2
    assert "ulimit -n" in capsys.readouterr().err
