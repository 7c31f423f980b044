"""WebSockets of many shapes, and the application's own close code, as with the published SDK."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp.web
import pytest
import quart
import uvicorn
import websockets
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket
from websockets.asyncio.client import ClientConnection

from tests.parity.conftest import Package
from tests.parity.test_sessions import Socket, echo, session_of, transcript

TIMEOUT_S = 10.0
Endpoint = Callable[[Any], Awaitable[None]]


@pytest.fixture
def ours() -> Package:
    return Package("se_server")


# --- shapes ---------------------------------------------------------------------------------------------------------


class WithoutClose:
    def __init__(self, *messages: Any) -> None:
        self._socket = Socket(*messages)
        self.recv, self.send, self.sent = self._socket.recv, self._socket.send, self._socket.sent


class TextOnly:
    def __init__(self, *messages: Any) -> None:
        self._socket = Socket(*messages)
        self.receive_text, self.send_text, self.sent = self._socket.recv, self._socket.send, self._socket.sent


class TextWithPlainClose(TextOnly):
    async def close(self) -> None:
        await self._socket.close()


class Both(WithoutClose):
    """`recv` wins where an object has both."""

    async def receive_text(self) -> str:
        raise AssertionError

    async def send_text(self, data: str) -> None:
        raise AssertionError


@pytest.mark.parametrize("shape", [WithoutClose, TextOnly, TextWithPlainClose, Both])
async def test_objects_of_any_shape_converse(package: Package, shape: type[Any]) -> None:
    ws = shape(transcript("pizza", 7))
    session = session_of(package, ws)
    session.on("user_transcript", echo(session))
    await session.run()
    assert [(message["content"], message["event_id"]) for message in ws.sent] == [("echo: pizza", 7), ("", 7)]


@pytest.mark.parametrize("shape", [WithoutClose, TextOnly, TextWithPlainClose])
async def test_closing_what_has_no_close(ours: Package, shape: type[Any]) -> None:
    ws = shape(transcript(), transcript("again", 2))
    session, events = session_of(ours, ws), []
    session.on("user_transcript", lambda transcript: session.close())
    session.on("close", lambda: events.append("close"))
    await asyncio.wait_for(session.run(), TIMEOUT_S)
    assert events == ["close"]
    assert ws._socket.closes == ([()] if shape is TextWithPlainClose else [])


async def test_other_objects_are_refused(package: Package) -> None:
    with pytest.raises(TypeError, match=r"object|int"):
        session_of(package, object())


class Translating(WebSocket):
    """A subclass that speaks another format with its peer."""

    async def receive_text(self) -> str:
        return json.dumps((await self.receive_json(mode="binary"))["wrapped"])

    async def send_text(self, data: str) -> None:
        await self.send_json({"wrapped": json.loads(data)}, mode="binary")

    async def close(self, code: int = 1000, reason: str | None = None) -> None:
        await super().close(code + 3000, reason)


async def test_a_starlette_subclass_keeps_its_overrides(package: Package) -> None:
    async def endpoint(websocket: WebSocket) -> None:
        ws = Translating(websocket.scope, websocket._receive, websocket._send)
        await ws.accept()
        session = session_of(package, ws)
        session.on("user_transcript", echo(session))
        session.on("init", lambda conversation_id: session.close())
        await session.run()

    async with starlette(endpoint) as connect, connect() as api:
        await api.send(json.dumps({"wrapped": transcript()}).encode())
        assert json.loads(await api.recv())["wrapped"]["content"] == "echo: hi"
        assert json.loads(await api.recv())["wrapped"]["is_final"] is True
        await api.send(json.dumps({"wrapped": {"type": "init", "conversation_id": "c"}}).encode())
        await asyncio.wait_for(api.wait_closed(), TIMEOUT_S)
        # The published SDK closes in a task, and the endpoint may have returned before.
        assert api.close_code == 4000 or not package.is_ours


@pytest.mark.parametrize("name", ["receive", "receive_text"])
async def test_an_instance_keeps_its_overrides(ours: Package, name: str) -> None:
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        original, seen = getattr(websocket, name), []

        async def counted() -> Any:
            received = await original()
            seen.append(received)
            return received

        setattr(websocket, name, counted)
        session = session_of(ours, websocket)
        session.on("user_transcript", echo(session))
        await session.run()
        assert len(seen) == 2
        await websocket.close(4001)

    async with starlette(endpoint) as connect, connect() as api:
        await api.send(json.dumps(transcript()))
        await api.send('{"type":"close"}')
        await asyncio.wait_for(api.wait_closed(), TIMEOUT_S)
        assert api.close_code == 4001


async def test_quarts_websocket(ours: Package) -> None:
    app = quart.Quart("agent")
    seen: dict[str, Any] = {}

    @app.websocket("/call")
    async def call() -> None:
        session = session_of(ours, quart.websocket)
        seen.update(path=session.path, query=session.query, header=session.headers["x-caller"])
        session.on("user_transcript", echo(session))
        await session.run()
        await quart.websocket.close(4002, "done")

    async with serving(app) as connect, connect(additional_headers={"X-Caller": "Ann"}) as api:
        await api.send(json.dumps(transcript()))
        assert json.loads(await api.recv())["content"] == "echo: hi"
        assert json.loads(await api.recv())["is_final"] is True
        await api.send('{"type":"close"}')
        await asyncio.wait_for(api.wait_closed(), TIMEOUT_S)
        assert (api.close_code, api.close_reason) == (4002, "done")
    assert seen == {"path": "/call", "query": "x=1", "header": "Ann"}


# --- close codes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["after", "in finally", "later"])
@pytest.mark.parametrize("library", ["starlette", "websockets", "aiohttp"])
async def test_the_applications_close_code_is_kept(package: Package, library: str, place: str) -> None:
    if package.name == "elevenlabs" and library == "aiohttp":
        pytest.skip("the published SDK takes no WebSocket of aiohttp")
    failed: list[BaseException] = []

    async def endpoint(websocket: Any) -> None:
        session = session_of(package, websocket)
        try:
            try:
                await session.run()
            finally:
                if place == "later":
                    await asyncio.sleep(0.05)
                if place != "after":
                    await close(websocket, 4000)
            if place == "after":
                await close(websocket, 4000)
        except BaseException as error:
            failed.append(error)
            raise

    async with LIBRARIES[library](endpoint) as connect, connect() as api:
        await api.send('{"type":"close"}')
        await asyncio.wait_for(api.wait_closed(), TIMEOUT_S)
        assert api.close_code == 4000
    assert failed == []


@pytest.mark.parametrize("library", ["starlette", "websockets", "aiohttp"])
async def test_the_close_code_after_a_cancelled_run(ours: Package, library: str) -> None:
    async def endpoint(websocket: Any) -> None:
        try:
            await asyncio.wait_for(session_of(ours, websocket).run(), 0.05)
        except asyncio.TimeoutError:
            await close(websocket, 4008)

    async with LIBRARIES[library](endpoint) as connect, connect() as api:
        await asyncio.wait_for(api.wait_closed(), TIMEOUT_S)
        assert api.close_code == 4008


@pytest.mark.parametrize("library", ["starlette", "websockets", "aiohttp"])
async def test_an_application_that_never_closes_is_closed_with_1000(ours: Package, library: str) -> None:
    async def endpoint(websocket: Any) -> None:
        await session_of(ours, websocket).run()

    async with LIBRARIES[library](endpoint) as connect, connect() as api:
        await api.send('{"type":"close"}')
        await asyncio.wait_for(api.wait_closed(), TIMEOUT_S)
        assert api.close_code == 1000


@pytest.mark.parametrize("library", ["starlette", "websockets", "aiohttp"])
async def test_a_dropped_peer_lets_the_application_close(ours: Package, library: str) -> None:
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def endpoint(websocket: Any) -> None:
        await session_of(ours, websocket).run()
        ended.set_result(None)

    async with LIBRARIES[library](endpoint) as connect:
        async with connect() as api:
            await api.send(json.dumps(transcript()))
            api.transport.abort()
        await asyncio.wait_for(ended, TIMEOUT_S)


async def test_a_message_read_by_the_application_starts_no_timer(ours: Package) -> None:
    """The API may be quiet for long after a first message that the application has read itself."""
    timers: list[float] = []

    class Silent(Socket):
        async def recv(self) -> str:
            await asyncio.get_running_loop().create_future()
            raise AssertionError

    loop = asyncio.get_running_loop()
    original = loop.call_later
    loop.call_later = lambda delay, *args, **kw: timers.append(delay) or original(delay, *args, **kw)  # type: ignore
    try:
        for options, expected in (({}, []), ({"first_message_timeout_s": 7}, [7.0])):
            timers.clear()
            session = session_of(ours, Silent(), **options)
            running = loop.create_task(session.run())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert [delay for delay in timers if delay in (7.0, 30.0)] == expected
            session.close()
            await running
    finally:
        del loop.call_later


# --- servers --------------------------------------------------------------------------------------------------------


async def close(websocket: Any, code: int) -> None:
    if isinstance(websocket, aiohttp.web.WebSocketResponse):
        await websocket.close(code=code)
    else:
        await websocket.close(code)


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[Callable[..., Any]]:
    config = uvicorn.Config(
        app, host="127.0.0.1", port=0, log_level="critical", lifespan="off", ws="websockets-sansio", loop="none",
        timeout_graceful_shutdown=2,
    )  # fmt: skip
    server = uvicorn.Server(config)
    task = asyncio.create_task(server._serve())
    while not server.started:
        assert not task.done(), task
        await asyncio.sleep(0)
    try:
        yield client(server.servers[0].sockets[0].getsockname()[1])
    finally:
        server.should_exit = True
        await task


@asynccontextmanager
async def starlette(endpoint: Endpoint) -> AsyncIterator[Callable[..., Any]]:
    async with serving(Starlette(routes=[WebSocketRoute("/call", endpoint)])) as connect:
        yield connect


@asynccontextmanager
async def starlette_accepted(endpoint: Endpoint) -> AsyncIterator[Callable[..., Any]]:
    async def accept(websocket: WebSocket) -> None:
        await websocket.accept()
        await endpoint(websocket)

    async with serving(Starlette(routes=[WebSocketRoute("/call", accept)])) as connect:
        yield connect


@asynccontextmanager
async def by_websockets(endpoint: Endpoint) -> AsyncIterator[Callable[..., Any]]:
    async with websockets.serve(endpoint, "127.0.0.1", 0, close_timeout=1) as listening:
        yield client(next(iter(listening.sockets)).getsockname()[1])


@asynccontextmanager
async def by_aiohttp(endpoint: Endpoint) -> AsyncIterator[Callable[..., Any]]:
    async def accept(request: aiohttp.web.Request) -> aiohttp.web.WebSocketResponse:
        ws = aiohttp.web.WebSocketResponse()
        await ws.prepare(request)
        await endpoint(ws)
        return ws

    app = aiohttp.web.Application()
    app.router.add_get("/call", accept)
    runner = aiohttp.web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    await aiohttp.web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield client(runner.addresses[0][1])
    finally:
        await runner.cleanup()


LIBRARIES = {"starlette": starlette_accepted, "websockets": by_websockets, "aiohttp": by_aiohttp}


def client(port: int) -> Callable[..., Any]:
    @asynccontextmanager
    async def connect(**options: Any) -> AsyncIterator[ClientConnection]:
        async with websockets.connect(f"ws://127.0.0.1:{port}/call?x=1", close_timeout=1, **options) as ws:
            yield ws

    return connect
