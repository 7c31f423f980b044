"""Conversations are spread evenly over the workers, and never wait for a worker that is gone."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.functional.processes import Caller, call, write_agent
from tests.helpers import ServerProcess, running_server

SOON_S = 5.0


@pytest.fixture
def app(tmp_path: Path) -> Path:
    return write_agent(tmp_path / "agent.py")


async def begin(server: ServerProcess, stack: AsyncExitStack) -> tuple[int, Caller]:
    """Begin a conversation that lasts as long as the stack, and return the process that serves it."""
    caller = await stack.enter_async_context(call(server))
    return (await caller.ask())[1], caller


@pytest.mark.parametrize("how", ["one by one", "all at once"])
async def test_conversations_are_spread_evenly(app: Path, how: str) -> None:
    with running_server(app=app, workers=4) as server:
        async with AsyncExitStack() as stack:
            if how == "one by one":
                found = [await begin(server, stack) for _ in range(40)]
            else:
                found = await asyncio.gather(*(begin(server, stack) for _ in range(40)))
            counts = Counter(pid for pid, _ in found)
        assert sorted(counts) == server.worker_pids()
        assert max(counts.values()) - min(counts.values()) <= 2


@pytest.mark.parametrize("end", [signal.SIGSTOP, signal.SIGKILL])
async def test_connections_do_not_wait_for_a_dead_worker(app: Path, end: signal.Signals) -> None:
    with running_server("--drain-timeout-s", "0", "--hang-timeout-s", "1", app=app, workers=2) as server:
        async with AsyncExitStack() as stack:
            found = [await begin(server, stack) for _ in range(12)]
            idle = found[0][0]
            for pid, caller in found:
                if pid == idle:
                    await caller.websocket.close()
            while (await begin(server, stack))[
                0
            ] != idle:  # the other worker may not have seen yet that this one has none
                pass
            os.kill(idle, end)
            for _ in range(3):
                pid, _ = await asyncio.wait_for(begin(server, stack), SOON_S)
                assert pid != idle
