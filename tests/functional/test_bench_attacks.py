"""`bench.attacks`, short: no honest conversation is lost beside an attack, and losses are found."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.attacks.attackers import ATTACKS
from bench.attacks.honest import end
from bench.attacks.table import Row
from tests.helpers import ANSWER_TIMEOUT_S

ROOT = Path(__file__).parents[2]
SHORT = (
    "wrong tokens",
    "slow heads",
    "header floods",
    "unread answers",
    "resets",
    "log floods",
    "big orders",
    "stalled log",
)
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.mark.parametrize("name", SHORT)
def test_no_honest_conversation_is_lost(name: str, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    done = subprocess.run(
        [sys.executable, "-m", "bench.attacks", "--quick", "--only", name, "--json", str(report)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    (row,) = json.loads(report.read_text())
    assert (row["attack"], row["lost"]) == (name, 0)
    assert row["quiet_ms"] > 0
    assert row["during_ms"] > 0


def test_the_short_attacks_exist() -> None:
    assert set(SHORT) <= set(ATTACKS)


@pytest.mark.parametrize(
    ("row", "count"),
    [
        (Row("x", quiet_ms=1.0, during_ms=49.0), 0),
        (Row("x", quiet_ms=30.0, during_ms=89.0), 0),
        (Row("x", quiet_ms=1.0, during_ms=51.0), 1),
        (Row("x", lost=1), 1),
        (Row("x", recovery_s=2.1), 1),
        (Row("x", faults=["worker 1 was replaced"]), 1),
    ],
)
def test_missed_targets_are_found(row: Row, count: int) -> None:
    assert len(row.problems(quick=False)) == count


async def test_tasks_end_although_a_cancellation_is_lost() -> None:
    answers: list[asyncio.Future[None]] = []

    async def converse() -> None:
        while True:
            answers.append(asyncio.get_running_loop().create_future())
            await asyncio.wait_for(answers[-1], ANSWER_TIMEOUT_S)

    task = asyncio.ensure_future(converse())
    await asyncio.sleep(0)  # it begins
    answers[-1].set_result(None)  # the answer comes in the step of the cancellation
    await asyncio.wait_for(end([task]), ANSWER_TIMEOUT_S)
    assert task.done()
