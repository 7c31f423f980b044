"""The fake provider: an aiohttp server that answers like the LLM APIs, by scripts, and notes what its clients do."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import lru_cache
from typing import Any, TypeVar

from aiohttp import web

from tests.providers import (
    anthropic_messages,
    bedrock,
    cohere,
    gemini,
    mistral,
    ollama,
    openai_chat,
    openai_responses,
)
from tests.providers.api import Api, Asked, Json
from tests.providers.record import WAIT_S, Request
from tests.providers.script import Script
from tests.providers.sender import Sender, reset
from tests.providers.wire import Plan, plan

T = TypeVar("T")
Reader = Callable[[Mapping[str, str], Mapping[str, str], Json], Asked]

MODULES = (openai_chat, openai_responses, anthropic_messages, gemini, mistral, cohere, ollama, bedrock)
APIS: tuple[Api, ...] = tuple(api for module in MODULES for api in module.APIS)
BASES = {api.name: api.base for api in APIS}

# The name of a script, for a request that is to choose its own.
SCRIPT_HEADER = "x-script"
# Histories grow; aiohttp's limit is 1 MiB.
BODY_BYTES = 64 * 1024 * 1024


class Provider:
    """A running provider. `running_provider()` makes one.

    A request is answered by the next script of `answer_next()`; else by the one in `scripts` that its header
    `x-script` names; else by the one in `scripts` of its model's name; else by `default`.

    Attributes:
        origin: Scheme, host and port.
        default: The script of every request that nothing else chooses for.
        scripts: Scripts by name, or by model.
        requests: All requests so far.
        connections: The number of connections that clients have open.
    """

    def __init__(self, script: Script) -> None:
        self.origin = ""
        self.default = script
        self.scripts: dict[str, Script] = {}
        self.requests: list[Request] = []
        self.connections = 0
        self.loop = asyncio.get_running_loop()
        self._queue: deque[Script] = deque()
        self._closing = False
        self._waiters: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []

    def base_url(self, api: str) -> str:
        """Return the base URL that an SDK of this API is to have.

        Args:
            api: `openai`, `azure` (an endpoint), `groq`, `together`, `deepseek`, `openrouter`, `anthropic`, `gemini`,
                `mistral`, `cohere`, `ollama` or `bedrock`.
        """
        return f"{self.origin}/{api}{BASES[api]}"

    def answer_next(self, *scripts: Script) -> None:
        """Answer the next requests, whatever they ask for, by these scripts in their order."""
        self._queue.extend(scripts)

    def reset(self) -> None:
        """Forget all requests, and the scripts of `answer_next()` and by name."""
        self._queue.clear()
        self.scripts.clear()
        self.requests.clear()

    @property
    def open(self) -> list[Request]:
        """Requests whose responses have not ended."""
        return [request for request in self.requests if request.ended_s is None]

    @property
    def tokens(self) -> int:
        """Tokens written in all requests."""
        return sum(request.tokens for request in self.requests)

    async def received(self, count: int = 1, timeout_s: float = WAIT_S) -> Request:
        """Wait until that many requests have come since the start or the last `reset()`; return the last of them."""
        await self._until(lambda: len(self.requests) >= count, timeout_s, f"{count} requests")
        return self.requests[count - 1]

    async def idle(self, timeout_s: float = WAIT_S) -> None:
        """Wait until no response is open."""
        await self._until(lambda: not self.open, timeout_s, "the end of all responses")

    async def disconnected(self, timeout_s: float = WAIT_S) -> None:
        """Wait until no client has a connection open."""
        await self._until(lambda: not self.connections, timeout_s, "the end of all connections")

    def run(self, coroutine: Coroutine[Any, Any, T], timeout_s: float = WAIT_S) -> T:
        """Run a coroutine, one of the waits for example, in the provider's loop from another thread."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout_s)

    def _count_connections(self, server: Any) -> None:
        """Count the sockets: aiohttp's own list keeps a connection until its handler has ended."""
        made, lost = server.connection_made, server.connection_lost

        def connection_made(*args: Any) -> None:
            self.connections += 1
            made(*args)

        def connection_lost(*args: Any) -> None:
            self.connections -= 1
            lost(*args)
            self._changed()

        server.connection_made, server.connection_lost = connection_made, connection_lost

    async def _until(self, reached: Callable[[], bool], timeout_s: float, wanted: str) -> None:
        if reached():
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append((reached, waiter))
        try:
            await asyncio.wait_for(waiter, timeout_s)
        except (asyncio.TimeoutError, TimeoutError):
            raise AssertionError(f"the provider waited {timeout_s:g} s for {wanted}: {self.open}") from None

    def _changed(self) -> None:
        for entry in [entry for entry in self._waiters if entry[0]()]:
            self._waiters.remove(entry)
            if not entry[1].done():
                entry[1].set_result(None)

    def _script_for(self, request: Request) -> Script:
        if self._queue:
            return self._queue.popleft()
        named = self.scripts.get(request.headers.get(SCRIPT_HEADER, ""))
        return named or self.scripts.get(request.model) or self.default

    # --- answering --------------------------------------------------------------------------------------------------

    def _handler(self, api: Api, read: Reader) -> Callable[[web.Request], Coroutine[Any, Any, web.StreamResponse]]:
        async def handle(http: web.Request) -> web.StreamResponse:
            body = await http.json()
            asked = read(http.match_info, http.query, body)
            headers = {name.lower(): value for name, value in http.headers.items()}
            request = Request(api.name, asked.model, http.path, headers, body, streamed=asked.stream)
            request.script = self._script_for(request)
            self.requests.append(request)
            self._changed()
            try:
                return await self._answer(api, asked, request, http)
            except asyncio.CancelledError:
                # aiohttp cancels a handler when its connection is lost; and all of them at the provider's own end.
                request.end(disconnected=not self._closing)
                raise
            finally:
                request.end(disconnected=False)
                self._changed()

        return handle

    async def _answer(self, api: Api, asked: Asked, request: Request, http: web.Request) -> web.StreamResponse:
        script = request.script
        if script.headers_after_s:
            await asyncio.sleep(script.headers_after_s)
        if script.status == 0:
            return _drop(http, "drop")
        if script.status >= 400:
            return _refuse(api, asked, script)
        if not asked.stream:
            return await _answer_whole(api, asked, request, http)
        if script.gzip and "gzip" not in request.headers.get("accept-encoding", ""):
            script = script.but(gzip=False)
        made = _plan(api, script, asked)
        response = web.StreamResponse(status=script.status, headers={**api.headers, **made.headers})
        response.headers["Content-Type"] = api.forms.get(asked.form, api.content_type)
        response.headers["Cache-Control"] = "no-cache"
        response.enable_chunked_encoding()
        await response.prepare(http)
        request.head_s = asyncio.get_running_loop().time()
        if http.transport is None:
            raise asyncio.CancelledError
        sender = Sender(made, request, http.transport)
        try:
            await sender.done
        finally:
            sender.stop()
        return response


async def _answer_whole(api: Api, asked: Asked, request: Request, http: web.Request) -> web.StreamResponse:
    """Answer without a stream, after the time that the script's pace gives for all tokens."""
    script, loop = request.script, asyncio.get_running_loop()
    rate, started_s = script.tokens_per_s, loop.time()
    if script.failure is not None:
        if script.failure.kind == "stall":
            await loop.create_future()
        if script.failure.kind in ("drop", "reset"):
            return _drop(http, script.failure.kind)
        return _refuse(api, asked, script.but(status=500, message=script.failure.message))
    wait_s = script.first_token_s + (script.output_tokens / rate if rate else 0.0)
    made = 0
    try:
        if wait_s:
            await asyncio.sleep(wait_s)
        made = script.output_tokens
    finally:
        if not made and rate:
            made = max(0, int((loop.time() - started_s - script.first_token_s) * rate))
        request.wrote(made, loop.time())
    return web.json_response(api.whole(script, asked), headers=api.headers)


def _refuse(api: Api, asked: Asked, script: Script) -> web.Response:
    refused = api.refused(script, asked)
    headers = dict(refused.headers)
    if script.retry_after_s is not None:
        headers["retry-after"] = f"{script.retry_after_s:g}"
    return web.json_response(refused.body, status=refused.status, headers=headers)


def _drop(http: web.Request, kind: str) -> web.Response:
    """Close the connection; aiohttp then finds nobody to send the response to."""
    transport = http.transport
    if transport is not None:
        reset(transport) if kind == "reset" else transport.close()
    return web.Response()


@lru_cache(maxsize=512)
def _plan(api: Api, script: Script, asked: Asked) -> Plan:
    """Lay out a stream once for all requests that are answered alike."""
    error = api.error(script, asked) if script.failure is not None else b""
    return plan(script, api.events(script, asked), error, api.ping(script))


# --- running --------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def running_provider(
    script: Script | None = None, *, port: int = 0, ssl_context: ssl.SSLContext | None = None
) -> AsyncIterator[Provider]:
    """Run a provider in the current event loop, on loopback.

    Args:
        script: The script of requests that choose none.
        port: 0: any free one.
        ssl_context: Serve TLS with it.
    """
    from tests.providers.control import add_control

    provider = Provider(script or Script())
    app = web.Application(client_max_size=BODY_BYTES)
    for api in APIS:
        for path, read in api.paths.items():
            app.router.add_post(f"/{api.name}{path}", provider._handler(api, read))
    add_control(app, provider)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.01)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port, ssl_context=ssl_context)
    await site.start()
    provider._count_connections(runner.server)
    provider.origin = f"{'https' if ssl_context else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield provider
    finally:
        provider._closing = True
        await runner.cleanup()


@contextmanager
def provider_in_thread(script: Script | None = None, **options: Any) -> Iterator[Provider]:
    """Run a provider in a thread of its own, for code that blocks. Wait by `provider.run(request.ended())`."""
    made: list[Provider] = []
    ready = threading.Event()
    stop: asyncio.Event = asyncio.Event()

    async def serve() -> None:
        async with running_provider(script, **options) as provider:
            made.append(provider)
            ready.set()
            await stop.wait()

    def main() -> None:
        try:
            asyncio.run(serve())
        finally:
            ready.set()

    thread = threading.Thread(target=main, name="fake provider")
    thread.start()
    ready.wait()
    try:
        if not made:
            raise RuntimeError("the fake provider did not start; its error is above")
        yield made[0]
    finally:
        if made:
            made[0].loop.call_soon_threadsafe(stop.set)
        thread.join()
