"""The short form of `python -m bench.placement`: conversations are spread evenly, even if a worker is killed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("the benchmark looks into /proc", allow_module_level=True)

from bench import placement
from se_server.server.door.placement import MOST_MORE


def outcome(way: str, p99_s: float, *counts: int) -> placement.Outcome:
    return placement.Outcome(way, "burst", counts, p99_s / 2, p99_s, 0, 0)


def test_targets_that_are_missed_are_named() -> None:
    good = [outcome("gate", 0.1, 5, 6, 7), outcome("plain", 0.1, 1, 9, 8), outcome("reuseport", 0.1, 6, 6, 6)]
    assert placement.faults(good) == []
    uneven = [outcome("gate", 0.1, 5, 6, 8), *good[1:]]
    assert placement.faults(uneven) == ["burst: workers differ by 3, and at most 2 is allowed"]
    (slow,) = placement.faults([outcome("gate", 0.2, 6, 6, 6), *good[1:]])
    assert "2.00 times" in slow


@pytest.mark.timeout(300)
def test_conversations_stay_even_after_a_worker_is_killed(tmp_path: Path) -> None:
    """In one of three runs: others are preferred to a worker that the machine lets stand still at the end of a run."""
    for number in range(3):
        burst, rate = gated(tmp_path / str(number))
        assert sum(burst) == sum(rate) == 100
        # Such a small burst is over before the new worker is ready, so no later callers even the workers out.
        spreads = rate[-1] - rate[0], burst[-1] - burst[1] - MOST_MORE
        if max(spreads) <= placement.MAX_SPREAD:
            return
    raise AssertionError(f"of the last run: {burst}, {rate}")


def gated(results: Path) -> tuple[list[int], list[int]]:
    """Run the benchmark; return the conversations of each worker of ours, after a burst and after a steady rate."""
    # Handshakes are not judged here: that needs more of them, and a calm machine.
    placement.main(
        [
            "--no-chart",
            "--rounds",
            "1",
            "--workers",
            "4",
            "--callers",
            "100",
            "--per-s",
            "12.5",  # the new worker has to be ready while callers still connect
            "--results",
            str(results),
        ]
    )
    runs = json.loads((results / "placement.json").read_text())["runs"]
    found = [run for run in runs if run["way"] == "gate"]
    assert [run["pattern"] for run in found] == ["burst", "rate"]
    burst, rate = (sorted(run["counts"]) for run in found)
    return burst, rate
