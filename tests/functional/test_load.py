"""Generator processes against a real server."""

from __future__ import annotations

from pathlib import Path

import pytest

from se_server.load import LoadPlan, LoadProcess
from tests.helpers import TEST_API_KEY, running_server

HANDLER = Path(__file__).parents[2] / "bench" / "load" / "targets" / "handler.py"


def test_closed_loop_asks_as_often_as_told_and_leaves_the_server_idle() -> None:
    with (
        running_server(app=HANDLER, workers=1) as server,
        LoadProcess(LoadPlan(url=server.url, api_key=TEST_API_KEY, conversations=7, chunks=5, history=4)) as load,
    ):
        connected = load.connect()
        assert (connected.count, connected.errors, connected.handshake.count) == (7, {}, 7)
        run = load.run(30, turns=200)
        assert (run.turns, run.chunks, run.errors, run.failures) == (200, 1000, {}, [])
        assert run.first_chunk.count == run.final.count == 200
        assert 0 < run.first_chunk.percentile(50) <= run.final.percentile(50) < 30
        assert load.run(30, turns=50).turns == 50
        load.hang_up()
        assert load.figures().up == 0
        assert load.connect().count == 7


@pytest.mark.parametrize("spins", [False, True])
def test_open_loop_keeps_its_schedule(spins: bool) -> None:
    with running_server(app=HANDLER, workers=1) as server:
        plan = LoadPlan(
            url=server.url, api_key=TEST_API_KEY, conversations=20, turns_per_s=200, chunks=2, history=1, spins=spins
        )
        with LoadProcess(plan) as load:
            load.connect()
            run = load.run(1.0)
    assert (run.turns, run.errors) == (200, {})
    assert 1.0 <= run.wall_s < 3.0
    assert run.cpu_s < run.wall_s / 2  # a waiting generator is no limit, though it may spin
