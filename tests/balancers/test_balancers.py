"""Conversations, health checks and stops through HAProxy, nginx and Envoy, as docs/deploy configures them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
import urllib.request
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from websockets.exceptions import InvalidStatus

from se_server.simulator.caller import Caller
from tests.balancers.balancers import (
    BALANCERS,
    Balancer,
    Certificate,
    Envoy,
    HAProxy,
    is_refused,
    recipe,
    running,
    wait_until,
)
from tests.balancers.calls import arrived, call_on, call_once
from tests.balancers.conftest import AGENT, skip_without, start_servers
from tests.helpers import (
    TEST_API_KEY,
    ServerProcess,
    connect,
    free_port,
    init_message,
    read_answer,
    running_server,
    spoken,
    transcript_message,
    wait_for_end,
)

QUIET_S = 78.0
CUT_S = (55.0, 75.0)  # the documented 60 s, and how coarsely it may be measured


# --- health checks --------------------------------------------------------------------------------------------------


def test_a_health_check_through_the_balancer_is_answered(balancer: Balancer) -> None:
    with urllib.request.urlopen(f"https://127.0.0.1:{balancer.port}/healthz", timeout=10) as answer:
        assert answer.status == 200


@pytest.mark.parametrize(
    "check",
    [
        "option httpchk\n",
        "option httpchk GET /available HTTP/1.0\n",
        "option httpchk\n    http-check send meth GET uri /available ver HTTP/1.1 hdr Host agent.example.com\n",
        "option httpchk\n    http-check send meth HEAD uri /available ver HTTP/1.1\n",
    ],
)
def test_every_form_of_haproxys_check_finds_the_servers_up(
    check: str, folder: Path, servers: tuple[ServerProcess, ServerProcess], certificate: Certificate
) -> None:
    skip_without(HAProxy)
    ports = servers[0].port, servers[1].port
    with (
        TemporaryDirectory(prefix="c", dir=folder) as own,
        running(HAProxy, Path(own), ports, certificate, {"option httpchk GET /available\n": check}) as balancer,
    ):
        assert balancer.states() == dict.fromkeys(ports, True)


# --- calls ----------------------------------------------------------------------------------------------------------


async def test_a_signed_call_arrives_with_its_path_query_and_headers(balancer: Balancer) -> None:
    headers = {"X-Customer": "Müller", "customer_id": "4711"}
    url = balancer.url("/ws?language=pt%2Fbr&n=1")
    async with Caller.connect(url, api_key=TEST_API_KEY, headers=headers) as caller:
        request = await arrived(caller)
        again = await caller.say("repeat this")
    assert (request["path"], request["query"]) == ("/ws", "language=pt%2Fbr&n=1")
    assert request["headers"]["x-customer"].encode("latin-1").decode() == "Müller"
    assert request["headers"]["customer_id"] == "4711"
    assert again.text == "this"


@pytest.mark.parametrize(("key", "path", "status"), [("sk_wrong", "/ws", 401), (TEST_API_KEY, "/elsewhere", 404)])
async def test_a_refusal_reaches_the_caller_as_it_is(balancer: Balancer, key: str, path: str, status: int) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with connect(balancer.url(path), key):
            pass
    assert refused.value.response.status_code == status


@pytest.mark.parametrize(
    "forged", [{}, {"X-Forwarded-For": "192.0.2.1"}, {"X-Forwarded-For": "192.0.2.1", "Forwarded": "for=192.0.2.2"}]
)
async def test_the_clients_address_arrives_whatever_it_claims(balancer: Balancer, forged: dict[str, str]) -> None:
    async with connect(balancer.url(), headers=forged, local_addr=("127.0.0.5", 0)) as websocket:
        await websocket.send(init_message())
        await websocket.send(transcript_message("who"))
        request = json.loads(spoken(await read_answer(websocket)))
    assert request["remote"] == "127.0.0.5"
    assert "forwarded" not in request["headers"]


async def test_a_large_message_and_many_chunks_arrive_whole(balancer: Balancer) -> None:
    long = "Straße 漢字 🎈 " * 25_000  # as JSON with its escapes just below the limit of 1 MiB
    async with Caller.connect(balancer.url(), api_key=TEST_API_KEY) as caller:
        assert (await caller.say(f"repeat {long}")).text == long
    async with Caller.connect(balancer.url(), api_key=TEST_API_KEY) as caller:
        reply = await caller.say("count 5000")
    assert reply.chunks == tuple(f"{number} " for number in range(5000))


# --- silence --------------------------------------------------------------------------------------------------------


async def quiet_call(stack: AsyncExitStack, balancer: Balancer) -> tuple[Caller, float]:
    """Make a call, and say one thing, so that the silence begins at a known time."""
    caller = await stack.enter_async_context(Caller.connect(balancer.url(), api_key=TEST_API_KEY))
    await caller.say("who")
    return caller, time.monotonic()


async def silence(caller: Caller, since: float) -> float | None:
    """Wait for the end of the connection, at most `QUIET_S`; return after how long it came, or None."""
    try:
        await asyncio.wait_for(caller.wait_ended(), since + QUIET_S - time.monotonic())
    except asyncio.TimeoutError:
        return None
    return time.monotonic() - since


@pytest.mark.timeout(QUIET_S + 35)
async def test_pings_carry_a_quiet_call_past_the_time_at_which_the_balancer_cuts(
    folder: Path, servers: tuple[ServerProcess, ServerProcess], certificate: Certificate
) -> None:
    """All at the same time, since it takes its time; the calls to servers that do not ping are the control."""
    kinds = [kind for kind in BALANCERS if kind.find() is not None]
    if not kinds:
        pytest.skip("no balancer is installed")
    with ExitStack() as stack:
        mute = start_servers(stack, "--ping-interval-s", "3600")
        balancers = [
            stack.enter_context(
                running(
                    kind,
                    Path(stack.enter_context(TemporaryDirectory(prefix="q", dir=folder))),
                    (pair[0].port, pair[1].port),
                    certificate,
                )
            )
            for pair in (servers, mute)
            for kind in kinds
        ]
        async with AsyncExitStack() as calls:
            quiet = [await quiet_call(calls, balancer) for balancer in balancers]
            ends = await asyncio.gather(*(silence(caller, since) for caller, since in quiet))
            for kind, end in zip(kinds, ends[len(kinds) :], strict=True):
                assert end is not None, f"{kind.program} does not cut: the test proves nothing"
                assert CUT_S[0] < end < CUT_S[1], f"{kind.program} cut after {end:.1f} s"
            assert dict(zip((kind.program for kind in kinds), ends, strict=False)) == dict.fromkeys(
                (kind.program for kind in kinds), None
            )
            for caller, _ in quiet[: len(kinds)]:
                assert (await caller.say("repeat still here")).text == "still here"


# --- workers and servers that go ------------------------------------------------------------------------------------


async def test_a_killed_worker_takes_its_calls_only(
    balancer: Balancer, servers: tuple[ServerProcess, ServerProcess]
) -> None:
    pids = servers[0].worker_pids()
    async with AsyncExitStack() as stack:
        lost, request = await call_on(stack, balancer, server="a")
        [other] = set(pids) - {request["pid"]}
        kept, _ = await call_on(stack, balancer, pid=other)
        elsewhere, _ = await call_on(stack, balancer, server="b")
        os.kill(request["pid"], signal.SIGKILL)
        ended = await asyncio.wait_for(lost.wait_ended(), 10)
        assert ended.by_server
        answered = await asyncio.gather(*(call_once(balancer) for _ in range(12)))
        assert request["pid"] not in {one["pid"] for one in answered}
        for caller in (kept, elsewhere):
            assert (await caller.say("repeat still here")).text == "still here"
    wait_for_end([request["pid"]])
    wait_until(lambda: len(servers[0].worker_pids()) == 2, 10, "another worker")


async def test_a_stop_of_one_server_loses_no_call_and_refuses_none(
    kind: type[Balancer], folder: Path, certificate: Certificate
) -> None:
    with ExitStack() as stack:
        first, second = start_servers(stack)
        own = Path(stack.enter_context(TemporaryDirectory(prefix="s", dir=folder)))
        balancer = stack.enter_context(running(kind, own, (first.port, second.port), certificate))
        async with AsyncExitStack() as calls:
            running_call, _ = await call_on(calls, balancer, server="a")
            first.send_signal(signal.SIGTERM)
            while not is_refused(first.port):
                await call_once(balancer)
            answered = await asyncio.gather(*(call_once(balancer) for _ in range(12)))
            assert {request["server"] for request in answered} == {"b"}
            balancer.wait_up(second.port)
            assert (await running_call.say("repeat still here")).text == "still here"
        assert first.wait() == 0


# --- drains and weights ---------------------------------------------------------------------------------------------


async def test_haproxy_moves_load_by_weight_and_drains_in_time(folder: Path, certificate: Certificate) -> None:
    skip_without(HAProxy)
    checks = free_port(), free_port()
    with ExitStack() as stack:
        limits = ("100", "10")
        first, second = (
            stack.enter_context(
                running_server(
                    *("--path", "/ws", "--trusted-proxies", "127.0.0.1", "--max-sessions", limit),
                    *("--agent-check", f"127.0.0.1:{port}", "--drain-notice-s", "3"),
                    app=AGENT,
                    env={"BALANCED_SERVER": name},
                )
            )
            for name, limit, port in zip("ab", limits, checks, strict=True)
        )
        own = Path(stack.enter_context(TemporaryDirectory(prefix="w", dir=folder)))
        documented = recipe("backend se_server, with agent checks").partition("\n")[2].rstrip("\n")
        changes = {
            "    default-server check inter 2s fall 2 rise 1": documented.replace(" agent-port 3003", ""),
            f"127.0.0.1:{first.port}": f"127.0.0.1:{first.port} agent-port {checks[0]}",
            f"127.0.0.1:{second.port}": f"127.0.0.1:{second.port} agent-port {checks[1]}",
        }
        balancer = stack.enter_context(running(HAProxy, own, (first.port, second.port), certificate, changes))
        async with AsyncExitStack() as calls:
            held = [await call_on(calls, balancer, server="b") for _ in range(6)]
            wait_until(lambda: balancer.weights()[second.port] <= 40, 5, "a smaller weight of the fuller server")
            new = []
            for _ in range(20):
                caller = await calls.enter_async_context(Caller.connect(balancer.url(), api_key=TEST_API_KEY))
                new.append((await arrived(caller))["server"])
            assert new.count("a") >= 14, new
            first.send_signal(signal.SIGTERM)
            await asyncio.sleep(2)  # the promise under test: within 2 s
            assert not is_refused(first.port)
            assert {(await call_once(balancer))["server"] for _ in range(4)} == {"b"}
            for caller, _ in held:
                assert (await caller.say("repeat still here")).text == "still here"


async def test_envoy_sends_nothing_new_to_a_draining_server(folder: Path, certificate: Certificate) -> None:
    skip_without(Envoy)
    with ExitStack() as stack:
        first, second = start_servers(stack, "--drain-notice-s", "6")
        own = Path(stack.enter_context(TemporaryDirectory(prefix="e", dir=folder)))
        # As many failed checks as a minute has: only the header can be as fast as this test demands.
        slow = {"unhealthy_threshold: 2": "unhealthy_threshold: 60"}
        balancer = stack.enter_context(running(Envoy, own, (first.port, second.port), certificate, slow))
        async with AsyncExitStack() as calls:
            kept, _ = await call_on(calls, balancer, server="a")
            first.send_signal(signal.SIGTERM)
            await asyncio.sleep(2)  # the promise under test: within 2 s
            assert not is_refused(first.port)
            assert {(await call_once(balancer))["server"] for _ in range(12)} == {"b"}
            assert (await kept.say("repeat still here")).text == "still here"
