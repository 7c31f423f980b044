"""A stop ends conversations, and denies readiness to balancers before and during it."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from tests.functional.processes import get, write_agent
from tests.helpers import (
    ANSWER_TIMEOUT_S,
    ServerProcess,
    connect,
    read_answer,
    read_message,
    running_server,
    spoken,
    transcript_message,
)

# "long" gets an answer in two halves, a second apart; "endless" gets an answer that never ends.
AGENT = """
    import asyncio
    async def halves():
        yield "the first half"
        await asyncio.sleep(1)
        yield " and the second"
    async def endless():
        while True:
            yield "on and on "
            await asyncio.sleep(0.01)
    async def on_transcript(transcript, session):
        said = transcript[-1].content
        await session.send_response({"long": halves, "endless": endless}[said]() if said != "hello" else "hi")
"""
GOODBYE = "We have to stop here. Please call again."


@pytest.fixture
def app(tmp_path: Path) -> Path:
    return write_agent(tmp_path / "agent.py", AGENT)


async def until_not_ready(server: ServerProcess) -> dict[str, object]:
    """Request readiness until it is denied, and return the response."""
    deadline = time.monotonic() + ANSWER_TIMEOUT_S
    while (answer := await get(server))[0] == 200:
        assert time.monotonic() < deadline
    assert answer[0] == 503
    said = json.loads(answer[1])
    assert isinstance(said, dict)
    return said


async def until_refused(server: ServerProcess) -> None:
    """Connect until no socket listens."""
    deadline = time.monotonic() + ANSWER_TIMEOUT_S
    while time.monotonic() < deadline:
        with suppress(ConnectionResetError):  # the socket was closed after it had accepted
            await get(server)


async def until_closed(websocket: ClientConnection) -> int | None:
    """Read to the end and return the close code."""
    while True:
        try:
            await asyncio.wait_for(read_message(websocket), ANSWER_TIMEOUT_S)
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd is not None else None


async def test_a_running_answer_ends_before_its_conversation(app: Path) -> None:
    with running_server("--drain-timeout-s", "0", app=app) as server:
        async with connect(server.url) as websocket, connect(server.url) as quiet:
            await websocket.send(transcript_message("long"))
            first = await read_message(websocket)
            server.send_signal(signal.SIGTERM)
            assert await until_closed(quiet) == 1001
            rest = await asyncio.wait_for(read_answer(websocket), ANSWER_TIMEOUT_S)
            assert spoken([first, *rest]) == "the first half and the second"
            assert await until_closed(websocket) == 1001
        assert server.wait() == 0


async def test_an_answer_that_outlasts_the_grace_is_cut(app: Path) -> None:
    with running_server("--drain-timeout-s", "0", "--drain-turn-grace-s", "0.2", app=app) as server:
        async with connect(server.url) as websocket:
            await websocket.send(transcript_message("endless"))
            await read_message(websocket)
            server.send_signal(signal.SIGTERM)
            assert await until_closed(websocket) == 1001
        assert server.wait() == 0


async def test_a_turn_after_the_deadline_gets_the_goodbye(app: Path) -> None:
    with running_server("--drain-timeout-s", "0", "--goodbye-text", GOODBYE, app=app, workers=1) as server:
        async with connect(server.url) as websocket:
            await websocket.send(transcript_message("endless", event_id=1))
            await read_message(websocket)
            server.send_signal(signal.SIGTERM)
            event_id, heard = 1, ""
            while heard != GOODBYE:  # the order to drain may not have arrived yet
                event_id += 1
                await websocket.send(transcript_message("endless", event_id=event_id))
                message = await asyncio.wait_for(read_message(websocket), ANSWER_TIMEOUT_S)
                while message.get("event_id") != event_id or not message["content"]:
                    message = await asyncio.wait_for(read_message(websocket), ANSWER_TIMEOUT_S)
                heard = message["content"]
            assert (await read_message(websocket))["is_final"]
            assert await until_closed(websocket) == 1001
        assert server.wait() == 0


async def test_readiness_fails_before_conversations_are_refused(app: Path) -> None:
    with running_server("--drain-notice-s", "3", app=app) as server:
        assert await get(server) == (200, '{"ready":true}\n')
        server.send_signal(signal.SIGTERM)
        assert await until_not_ready(server) == {"ready": False, "reason": "draining"}
        assert await get(server, "/healthz") == (200, "ok\n")
        async with connect(server.url) as websocket:
            await websocket.send(transcript_message("hello"))
            assert spoken(await asyncio.wait_for(read_answer(websocket), ANSWER_TIMEOUT_S)) == "hi"
        with pytest.raises(ConnectionRefusedError):
            await until_refused(server)
        assert server.wait() == 0


async def test_a_reload_does_not_deny_readiness(app: Path) -> None:
    with running_server("--log-level", "debug", app=app) as server:
        old = server.worker_pids()
        async with connect(server.url) as websocket:
            await websocket.send(transcript_message("hello"))
            await read_answer(websocket)
            server.send_signal(signal.SIGHUP)
            drains = False
            while not drains:
                drains = all(f"(pid {pid}) drains" in server.output() for pid in old)
                assert (await get(server))[0] == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
@pytest.mark.parametrize("rest", ["HTTP/1.0\r\n\r\n", "HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"])
async def test_a_full_server_is_ready_and_not_available(app: Path, method: str, rest: str) -> None:
    with running_server("--max-sessions", "1", app=app) as server:
        asked = f"{method} {{}} {rest}"
        assert (await get(server, "/available", asked))[0] == 200
        async with connect(server.url):
            status, body = await get(server, "/available", asked)
            assert status == 503
            if method != "HEAD":
                assert json.loads(body) == {"available": False, "reason": "saturated", "limit": "max_sessions"}
            assert (await get(server, "/readyz", asked))[0] == 200
