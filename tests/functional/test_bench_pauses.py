"""The worker's record of its collections reaches the table, with a row for the phase of connecting."""

from __future__ import annotations

import os
import sys

import pytest

if sys.platform != "linux":
    pytest.skip("benchmarks pin processes to cores, on Linux", allow_module_level=True)

from bench import pauses
from bench.kernel import Cores
from bench.load.targets import API_KEY
from bench.pauses import Pauses
from se_server.load.plan import LoadPlan

CORE = min(os.sched_getaffinity(0))


def test_collections_are_counted_by_generation_and_phase(capsys: pytest.CaptureFixture[str]) -> None:
    plan = LoadPlan(url="ws://127.0.0.1", api_key=API_KEY, conversations=200, turns_per_s=50.0, chunks=2, history=4)
    found = Pauses()
    pauses.measure(pauses.target_of("untuned"), Cores(server=CORE, load=CORE), plan, 0.5, found)
    # Every few dozen new conversations cause a collection of the youngest generation; in Python 3.13 every hundred.
    assert found.coming[0]
    assert all(0 < took_s < 5 for times in found.coming.values() for took_s in times)
    assert found.held_s >= 0.5
    assert found.first_chunk.count >= 20

    found.holding = {2: [0.001, 0.002, 0.006]}
    found.held_s = 10.0
    pauses.print_table({"untuned": found})
    told = capsys.readouterr().out
    assert "| untuned | hold turns | 2 | 3 | 0.09% | 2.00 ms | 6.00 ms |" in told
    assert "| untuned | hold turns | 0 | 0 | 0.00% | | |" in told
