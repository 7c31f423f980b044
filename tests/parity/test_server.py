"""`serve()` calls the program's own `handle_connection`, as the published SDK's does."""

from __future__ import annotations

import asyncio
import json
import logging
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import websockets
from websockets.asyncio.client import ClientConnection

from tests.helpers import free_port
from tests.parity.conftest import Package
from tests.parity.test_sessions import echo, transcript

TIMEOUT_S = 10.0


@asynccontextmanager
async def serving(package: Package, make: Any, **options: Any) -> AsyncIterator[int]:
    """Serve what `make(SpeechEngineServer, port)` returns."""
    port = 0
    if not package.is_ours:
        port = free_port()
    server = make(package.module("speech_engine").SpeechEngineServer, port)

    async def serve() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # authentication is off on purpose
            await server.serve()

    task = asyncio.create_task(serve())
    try:
        if package.is_ours:
            await asyncio.wait_for(server.wait_ready(), TIMEOUT_S)
            port = server.port
        yield port
    finally:
        await server.stop()
        if package.is_ours:
            await server.stop()
        await task


@asynccontextmanager
async def call(port: int, **options: Any) -> AsyncIterator[ClientConnection]:
    """Connect; the published server does not tell when it listens."""
    while True:
        with suppress(ConnectionRefusedError):
            ws = await websockets.connect(f"ws://127.0.0.1:{port}/ws?x=1", close_timeout=1, **options)
            break
        await asyncio.sleep(0.01)
    async with ws:
        yield ws


async def answer(api: ClientConnection) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    while not (messages and messages[-1]["is_final"]):
        messages.append(json.loads(await asyncio.wait_for(api.recv(), TIMEOUT_S)))
    return messages


async def test_a_subclass_prepares_its_sessions(package: Package) -> None:
    seen: list[Any] = []

    async def on_transcript(transcript: Any, session: Any) -> None:
        await session.send_response(f"{session.customer}: {transcript[-1].content}")

    def make(server: Any, port: int) -> Any:
        class Mine(server):
            def handle_connection(self, ws: Any) -> Any:
                session = super().handle_connection(ws)
                session.customer = ws.request.headers["X-Customer"]
                seen.append((ws.request.path, ws.remote_address[0]))
                session.on("init", seen.append)
                return session

        return Mine(port=port, disable_auth=True, on_transcript=on_transcript)

    async with serving(package, make) as port, call(port, additional_headers={"X-Customer": "Ann"}) as api:
        await api.send('{"type":"init","conversation_id":"conv_1"}')
        await api.send(json.dumps(transcript()))
        assert (await answer(api))[0]["content"] == "Ann: hi"
    assert seen == [("/ws?x=1", "127.0.0.1"), "conv_1"]


async def test_an_instance_makes_sessions_of_its_own(package: Package) -> None:
    session_class = package.module("speech_engine").SpeechEngineSession
    ran: list[str] = []

    class Session(session_class):
        async def run(self) -> None:
            ran.append("begins")
            await super().run()
            ran.append("ends")

    def make(server: Any, port: int) -> Any:
        made = server(port=port, disable_auth=True)

        def handle_connection(ws: Any) -> Any:
            session = Session(ws)
            session.on("user_transcript", echo(session))
            return session

        made.handle_connection = handle_connection
        return made

    async with serving(package, make) as port, call(port) as api:
        await api.send(json.dumps(transcript("pizza", 3)))
        assert [message["content"] for message in await answer(api)] == ["echo: pizza", ""]
    assert ran == ["begins", "ends"]


class Upper:
    """A WebSocket in another one, which changes what goes through."""

    def __init__(self, ws: Any) -> None:
        self._ws = ws

    async def recv(self) -> str:
        return (await self._ws.recv()).replace("pizza", "PIZZA")

    async def send(self, data: str) -> None:
        await self._ws.send(data.replace("echo", "ECHO"))

    async def close(self) -> None:
        await self._ws.close()


async def test_a_wrapped_websocket_is_read_and_written(package: Package) -> None:
    events: list[str] = []

    def make(server: Any, port: int) -> Any:
        class Mine(server):
            def handle_connection(self, ws: Any) -> Any:
                return super().handle_connection(Upper(ws))

        async def on_transcript(transcript: Any, session: Any) -> None:
            if transcript[-1].content == "bye":
                session.close()
            await session.send_response(f"echo: {transcript[-1].content} {'é' * 70_000}")

        return Mine(
            port=port,
            disable_auth=True,
            on_transcript=on_transcript,
            on_disconnect=lambda session: events.append("disconnected"),
        )

    async with serving(package, make) as port:
        async with call(port) as api:
            for event_id in (1, 2):
                await api.send(json.dumps(transcript("pizza", event_id)))
                messages = await answer(api)
                assert messages[0]["content"] == f"ECHO: PIZZA {'é' * 70_000}"
                assert messages[-1]["event_id"] == event_id
            await api.send('{"type":"ping"}')
            assert json.loads(await asyncio.wait_for(api.recv(), TIMEOUT_S)) == {"type": "pong"}
        async with call(port) as api:
            await api.send(json.dumps(transcript("bye")))
            await asyncio.wait_for(api.wait_closed(), TIMEOUT_S)
            assert api.close_code == 1000
    assert events == ["disconnected"]


@pytest.mark.parametrize("result", [None, "raises"])
async def test_a_handle_connection_that_fails_ends_its_connection(
    result: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def make(server: Any, port: int) -> Any:
        made = server(port=port, disable_auth=True, host="127.0.0.1")

        def handle_connection(ws: Any) -> Any:
            if result == "raises":
                raise LookupError("no such tenant")
            return result

        made.handle_connection = handle_connection
        return made

    with caplog.at_level(logging.ERROR):
        async with serving(Package("se_server"), make) as port, call(port) as api:
            await asyncio.wait_for(api.wait_closed(), TIMEOUT_S)
            assert api.close_code == 1011
    assert "handle_connection failed" in caplog.text


async def test_a_run_of_the_programs_own_ends_the_conversation() -> None:
    package = Package("se_server")

    class Session(package.module("speech_engine").SpeechEngineSession):
        async def run(self) -> None:
            if self.path == "/ws":
                return  # never runs

    def make(server: Any, port: int) -> Any:
        made = server(port=port, disable_auth=True, host="127.0.0.1")
        made.handle_connection = Session
        return made

    async with serving(package, make) as port, call(port) as api:
        await asyncio.wait_for(api.wait_closed(), TIMEOUT_S)
        assert api.close_code == 1000
