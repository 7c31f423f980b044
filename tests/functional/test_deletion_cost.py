"""The deletion cost of a pod, written to an API server of the test's own."""

from __future__ import annotations

import asyncio
import logging
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web

from se_server.server.observer.deletion_cost import ANNOTATION, DeletionCost, cost_of
from se_server.telemetry.families import Reading
from tests.functional.processes import write_agent
from tests.helpers import TEST_API_KEY, ServerProcess, environment

WAIT_S = 20.0


def reading(conversations: int, capacity: int | None = 100) -> Reading:
    return Reading(
        version="0",
        started_at_s=0.0,
        counters={},
        cells=[],
        conversations=conversations,
        capacity=capacity,
        draining=False,
        workers=[],
        ring_overflows=None,
        exemplars={},
    )


class ApiServer:
    """Keeps the requests that it gets.

    Attributes:
        requests: path, headers and body of each.
        status: the status of its answers.
    """

    def __init__(self) -> None:
        self.requests: list[tuple[str, Any, Any]] = []
        self.status = 200
        self.came = asyncio.Event()

    async def patch(self, request: web.Request) -> web.Response:
        self.requests.append((request.path, request.headers, await request.json()))
        self.came.set()
        return web.json_response({}, status=self.status)

    async def next(self) -> Any:
        """Return the next request."""
        await asyncio.wait_for(self.came.wait(), WAIT_S)
        self.came.clear()
        return self.requests[-1]


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[tuple[ApiServer, dict[str, str], Path]]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.crt")
    (tmp_path / "token").write_text("a-service-account\n")
    (tmp_path / "namespace").write_text("voice")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server = ApiServer()
    app = web.Application()
    app.router.add_patch("/api/v1/namespaces/voice/pods/agent-1", server.patch)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    port = runner.addresses[0][1]
    environ = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(port), "POD_NAME": "agent-1"}
    yield server, environ, tmp_path
    await runner.cleanup()


@pytest.mark.parametrize(
    ("conversations", "limit", "cost"),
    [(0, 100, 0), (1, 100, 1), (10, 100, 1), (11, 100, 2), (100, 100, 10), (130, 100, 10), (0, None, 0), (9, None, 4)],
)
def test_cost_is_a_bucket_of_the_load(conversations: int, limit: int | None, cost: int) -> None:
    assert cost_of(reading(conversations, limit)) == cost


async def test_only_changes_of_the_cost_are_written(api: tuple[ApiServer, dict[str, str], Path]) -> None:
    server, environ, account = api
    looks: list[int] = []
    looked = asyncio.Event()
    figures = iter([5, 6, 7, 55])

    def read() -> Reading:
        looks.append(next(figures, 55))
        if len(looks) == 8:
            looked.set()
        return reading(looks[-1])

    task = asyncio.create_task(DeletionCost(read, environ, account, interval_s=0.01).run())
    path, headers, body = await server.next()
    assert path == "/api/v1/namespaces/voice/pods/agent-1"
    assert headers["Authorization"] == "Bearer a-service-account"
    assert headers["Content-Type"] == "application/merge-patch+json"
    assert body == {"metadata": {"annotations": {ANNOTATION: "1"}}}
    assert (await server.next())[2]["metadata"]["annotations"][ANNOTATION] == "6"
    await asyncio.wait_for(looked.wait(), WAIT_S)
    task.cancel()
    assert len(server.requests) == 2


async def test_a_refused_write_is_logged_once_and_repeated(
    api: tuple[ApiServer, dict[str, str], Path], caplog: pytest.LogCaptureFixture
) -> None:
    server, environ, account = api
    server.status = 403
    with caplog.at_level(logging.WARNING):
        task = asyncio.create_task(DeletionCost(lambda: reading(5), environ, account, interval_s=0.01).run())
        for _ in range(3):
            await server.next()
        task.cancel()
    [record] = caplog.records
    assert "may not patch pods" in record.getMessage()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [((), "give --admin HOST:PORT too"), (("--admin", "127.0.0.1:0"), "is for a pod of Kubernetes")],
)
def test_option_outside_a_pod_ends_the_start(tmp_path: Path, options: tuple[str, ...], sentence: str) -> None:
    app = write_agent(tmp_path / "app.py")
    command = [sys.executable, "-m", "se_server", str(app), "--host", "127.0.0.1", "--port", "0", *options]
    server = ServerProcess([*command, "--pod-deletion-cost"], environment(TEST_API_KEY), TEST_API_KEY)
    try:
        assert server.wait() == 2
        assert sentence in server.output()
    finally:
        server.stop()
