"""The same handlers behind our own door and behind three other libraries' servers, and the API's side of the socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp.web
import uvicorn
import websockets
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket
from websockets.asyncio.client import ClientConnection

from se_server.conversation.session import SpeechEngineSession
from se_server.conversation.settings import SessionSettings
from se_server.sdk.server import SpeechEngineServer

KINDS = ("own", "websockets", "starlette", "aiohttp")

TIMEOUT_S = 10.0


@dataclass
class Api:
    """The API's side of one conversation."""

    ws: ClientConnection

    async def send(self, **message: Any) -> None:
        await self.ws.send(json.dumps(message))

    async def init(self, conversation_id: str = "conv_1") -> None:
        await self.send(type="init", conversation_id=conversation_id)

    async def say(self, *texts: str, event_id: int | None = None) -> None:
        roles = ("user", "agent")
        transcript = [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]
        await self.send(type="user_transcript", user_transcript=transcript, event_id=event_id)

    async def receive(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(await asyncio.wait_for(self.ws.recv(), TIMEOUT_S))
        return message

    async def answer(self, *, blank: bool = False) -> list[tuple[int | None, str]]:
        """Return (event_id, text) of every chunk up to the final, which is left out.

        The blank that stands for an answer without text is left out as well, unless `blank` asks for it.
        """
        chunks = []
        while True:
            message = await self.receive()
            assert message["type"] == "agent_response"
            if message["is_final"]:
                assert message["content"] == ""
                return chunks if blank or [text for _, text in chunks] != [" "] else []
            chunks.append((message["event_id"], message["content"]))

    async def ping(self) -> None:
        """Send a ping of the protocol and wait for its pong: everything sent before it was answered before."""
        await self.send(type="ping")
        assert await self.receive() == {"type": "pong"}

    async def closed(self) -> int:
        """Read until the server closes, and return its close code."""
        await asyncio.wait_for(self.ws.wait_closed(), TIMEOUT_S)
        return self.ws.close_code or 0


@dataclass
class Stage:
    """A running server and what its sessions did."""

    url: str
    server: SpeechEngineServer
    events: list[Any] = field(default_factory=list)
    sessions: list[SpeechEngineSession] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def call(self, **options: Any) -> AsyncIterator[Api]:
        """Open one conversation."""
        async with websockets.connect(self.url, ping_interval=None, close_timeout=1, **options) as ws:
            yield Api(ws)


@asynccontextmanager
async def serving(kind: str, settings: SessionSettings | None = None, **handlers: Any) -> AsyncIterator[Stage]:
    """Serve `handlers` in this process, through the connection code named by `kind`."""
    server = SpeechEngineServer(port=0, host="127.0.0.1", disable_auth=True, drain_timeout_s=0.0, **handlers)
    if settings is not None:
        server.settings = settings
    start = {"own": own, "websockets": by_websockets, "starlette": by_starlette, "aiohttp": by_aiohttp}[kind]
    async with start(server) as port:
        yield Stage(f"ws://127.0.0.1:{port}/call?x=1", server)


@asynccontextmanager
async def own(server: SpeechEngineServer) -> AsyncIterator[int]:
    task = asyncio.create_task(quietly(server.serve()))
    ready = asyncio.create_task(server.wait_ready())
    await asyncio.wait([task, ready], return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        ready.cancel()
        await task
    try:
        yield server.port
    finally:
        await server.stop()
        await task


async def quietly(serve: Any) -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # authentication is off on purpose
        await serve


@asynccontextmanager
async def by_websockets(server: SpeechEngineServer) -> AsyncIterator[int]:
    async def handle(ws: Any) -> None:
        await server.handle_connection(ws).run()

    async with websockets.serve(handle, "127.0.0.1", 0, close_timeout=1) as listening:
        yield next(iter(listening.sockets)).getsockname()[1]


@asynccontextmanager
async def by_starlette(server: SpeechEngineServer) -> AsyncIterator[int]:
    async def endpoint(ws: WebSocket) -> None:
        await ws.accept()
        await server.handle_connection(ws).run()

    app = Starlette(routes=[WebSocketRoute("/call", endpoint)])
    config = uvicorn.Config(
        app, host="127.0.0.1", port=0, log_level="critical", lifespan="off", ws="websockets-sansio", loop="none",
        timeout_graceful_shutdown=2,
    )  # fmt: skip
    uvicorn_server = uvicorn.Server(config)
    task = asyncio.create_task(uvicorn_server._serve())
    while not uvicorn_server.started:
        assert not task.done(), task
        await asyncio.sleep(0)
    try:
        yield uvicorn_server.servers[0].sockets[0].getsockname()[1]
    finally:
        uvicorn_server.should_exit = True
        await task


@asynccontextmanager
async def by_aiohttp(server: SpeechEngineServer) -> AsyncIterator[int]:
    async def endpoint(request: aiohttp.web.Request) -> aiohttp.web.WebSocketResponse:
        ws = aiohttp.web.WebSocketResponse()
        await ws.prepare(request)
        await server.handle_connection(ws).run()
        return ws

    app = aiohttp.web.Application()
    app.router.add_get("/call", endpoint)
    runner = aiohttp.web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    site = aiohttp.web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


class Eventually:
    """A list that can be waited on: `await log.until(predicate)`."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self._changed = asyncio.Event()

    def add(self, *item: Any) -> None:
        self.items.append(item[0] if len(item) == 1 else item)
        self._changed.set()

    async def until(self, done: Callable[[list[Any]], bool] | object) -> None:
        """Wait until `done(items)`, or until the item is there."""
        check = done if callable(done) else (lambda items: done in items)
        while not check(self.items):
            self._changed.clear()
            await asyncio.wait_for(self._changed.wait(), TIMEOUT_S)
