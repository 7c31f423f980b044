"""The client's address by the PROXY protocol, as docs/deploy configures it."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from se_server.simulator.caller import Caller
from tests.balancers.balancers import Balancer, Certificate, Envoy, HAProxy, NginxStream, is_refused, recipe, running
from tests.balancers.calls import call_on, call_once
from tests.balancers.conftest import skip_without, start_servers
from tests.helpers import (
    TEST_API_KEY,
    ServerProcess,
    connect,
    init_message,
    read_answer,
    spoken,
    transcript_message,
)


@dataclass(frozen=True)
class Setup:
    """A balancer that sends the header.

    Attributes:
        line: what the documented lines stand for in its configuration, or before what they are put.
        title: theirs; empty when its configuration needs no change.
        edit: a version to ask for instead of the documented one.
    """

    kind: type[Balancer]
    line: str = ""
    title: str = ""
    edit: tuple[str, str] = ("", "")

    def changes(self) -> dict[str, str]:
        if not self.title:
            return {}
        lines = recipe(self.title).partition("\n")[2]
        assert self.edit[0] in lines
        lines = lines.replace(*self.edit)
        return {self.line: lines if self.kind is HAProxy else lines + self.line}


_HAPROXY = (HAProxy, "    default-server check inter 2s fall 2 rise 1\n", "backend se_server, with the PROXY protocol")
_ENVOY = (Envoy, "    load_assignment:\n", "cluster se_server, with the PROXY protocol")
SETUPS = {
    "haproxy v2": Setup(*_HAPROXY),
    "haproxy v1": Setup(*_HAPROXY, ("send-proxy-v2", "send-proxy")),
    "nginx stream": Setup(NginxStream),
    "envoy v2": Setup(*_ENVOY),
    "envoy v1": Setup(*_ENVOY, ("{version: V2}", "{version: V1}")),
}


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[ServerProcess, ServerProcess]]:
    """Two servers that expect the header."""
    with ExitStack() as stack:
        yield start_servers(stack, "--proxy-protocol")


@pytest.mark.parametrize("setup", SETUPS.values(), ids=SETUPS)
async def test_the_clients_address_and_port_arrive(
    setup: Setup, folder: Path, servers: tuple[ServerProcess, ServerProcess], certificate: Certificate
) -> None:
    skip_without(setup.kind)
    with (
        TemporaryDirectory(prefix="p", dir=folder) as own,
        # Waits for the health checks, which carry the header as well.
        running(setup.kind, Path(own), (servers[0].port, servers[1].port), certificate, setup.changes()) as balancer,
    ):
        forged = {"X-Forwarded-For": "192.0.2.1"}
        async with connect(balancer.url(), headers=forged, local_addr=("127.0.0.5", 0)) as websocket:
            port = websocket.local_address[1]
            await websocket.send(init_message())
            await websocket.send(transcript_message("who"))
            request = json.loads(spoken(await read_answer(websocket)))
        assert request["remote"] == f"127.0.0.5:{port}"
        async with Caller.connect(balancer.url(), api_key=TEST_API_KEY) as caller:
            assert len((await caller.say("count 1000")).chunks) == 1000


@pytest.mark.parametrize("name", ["haproxy v2", "nginx stream", "envoy v2"])
async def test_a_stopping_server_gets_nothing_new_within_two_seconds(
    name: str, folder: Path, certificate: Certificate
) -> None:
    setup = SETUPS[name]
    skip_without(setup.kind)
    with ExitStack() as stack:
        first, second = start_servers(stack, "--proxy-protocol")
        own = Path(stack.enter_context(TemporaryDirectory(prefix="d", dir=folder)))
        ports = first.port, second.port
        balancer = stack.enter_context(running(setup.kind, own, ports, certificate, setup.changes()))
        async with AsyncExitStack() as calls:
            kept = [(await call_on(calls, balancer, server=server))[0] for server in "aab"]
            first.send_signal(signal.SIGTERM)
            stopped = time.monotonic()
            while not is_refused(first.port):
                await call_once(balancer)
            assert time.monotonic() - stopped < 2
            answered = await asyncio.gather(*(call_once(balancer) for _ in range(12)))
            assert {request["server"] for request in answered} == {"b"}
            for caller in kept:
                assert (await caller.say("repeat still here")).text == "still here"
        assert first.wait() == 0
