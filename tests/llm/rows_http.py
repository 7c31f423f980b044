"""HTTP responses without a package of the provider: httpx, httpx2, aiohttp, requests, urllib."""

from __future__ import annotations

import asyncio
import importlib
import json
from collections.abc import Callable
from typing import Any

from tests.llm.rows import MESSAGES, MODEL, QUESTION, Case, Package
from tests.llm.rows_openai import EXIT, THREAD
from tests.llm.rows_providers import AWAITED, IN_A_THREAD, WHOLE

CLOSED = "closing the response"
CONNECTION = "closing the connection, as this object has no `close`"

BODIES: dict[str, tuple[str, dict[str, Any]]] = {
    "openai": ("/chat/completions", {"model": MODEL, "messages": MESSAGES, "stream": True}),
    "anthropic": ("/v1/messages", {"model": MODEL, "max_tokens": 1024, "messages": MESSAGES, "stream": True}),
    "gemini": (
        f"/v1beta/models/{MODEL}:streamGenerateContent?alt=sse",
        {"contents": [{"parts": [{"text": QUESTION}]}]},
    ),
    "ollama": ("/api/chat", {"model": MODEL, "messages": MESSAGES, "stream": True}),
    "cohere": ("/v2/chat", {"model": MODEL, "messages": MESSAGES, "stream": True}),
}
NAMES = {"openai": "OpenAI", "anthropic": "Anthropic", "gemini": "Gemini", "ollama": "Ollama", "cohere": "Cohere"}


def asked(case: Case, api: str, **changes: Any) -> tuple[str, dict[str, Any]]:
    """Return the URL and the body of a request."""
    path, body = BODIES[api]
    return case.url(api) + path, {**body, **changes}


# --- httpx and httpx2 -----------------------------------------------------------------------------------------------

ITERATORS = ("aiter_bytes", "aiter_text", "aiter_lines", "aiter_raw")


def add_httpx(name: str) -> None:
    """Register the rows of httpx, or of httpx2, which has the same interface."""
    package = Package(name, name, "openai")

    async def client(case: Case) -> Any:
        return await case.client(importlib.import_module(name).AsyncClient())

    async def opened(case: Case, api: str) -> Any:
        made, (url, body) = await client(case), asked(case, api)
        return await made.send(made.build_request("POST", url, json=body), stream=True)

    def response_of(api: str) -> Callable[[Case], Any]:
        async def make(case: Case) -> Any:
            return await opened(case, api)

        return make

    def iterator_of(method: str) -> Callable[[Case], Any]:
        async def make(case: Case) -> Any:
            return getattr(await opened(case, "openai"), method)()

        return make

    for api in BODIES:
        package.row(
            f"await client.send(request, stream=True): {NAMES[api]}",
            api=api,
            closed_by=CLOSED,
            note="The body is read as server-sent events or NDJSON.",
        )(response_of(api))
    for method in ITERATORS:
        package.row(f"response.{method}()", closed_by=CLOSED)(iterator_of(method))

    @package.row('client.stream("POST", ...)', closed_by=EXIT)
    async def manager(case: Case) -> Any:
        url, body = asked(case, "openai")
        return (await client(case)).stream("POST", url, json=body)

    @package.row('async with client.stream("POST", ...) as response: response', closed_by=CLOSED)
    async def entered(case: Case) -> Any:
        url, body = asked(case, "openai")
        return await case.enter((await client(case)).stream("POST", url, json=body))

    @package.row("client.post(...)", closed_by="cancelling the request", is_stream=False, note=f"{AWAITED} {WHOLE}")
    async def posted(case: Case) -> Any:
        url, body = asked(case, "openai")
        return (await client(case)).post(url, json={**body, "stream": False})

    @package.row('Client().stream("POST", ...)', closed_by=THREAD, note=IN_A_THREAD)
    async def blocking(case: Case) -> Any:
        made = case.blocking_client(importlib.import_module(name).Client())
        url, body = asked(case, "openai")
        return made.stream("POST", url, json=body)


add_httpx("httpx")
add_httpx("httpx2")


# --- aiohttp --------------------------------------------------------------------------------------------------------

aiohttp = Package("aiohttp", "aiohttp", "openai")


async def post(case: Case, api: str = "openai") -> Any:
    """Return a request that was not awaited."""
    from aiohttp import ClientSession

    url, body = asked(case, api)
    return (await case.client(ClientSession())).post(url, json=body)


def aiohttp_response(api: str) -> Callable[[Case], Any]:
    """Return what makes a response of an API."""

    async def make(case: Case) -> Any:
        return await (await post(case, api))

    return make


for _api in BODIES:
    aiohttp.row(
        f"await session.post(...): {NAMES[_api]}",
        api=_api,
        closed_by=CLOSED,
        note="The body is read as server-sent events or NDJSON.",
    )(aiohttp_response(_api))


@aiohttp.row("session.post(...)", closed_by=CLOSED, note=AWAITED)
async def aiohttp_not_awaited(case: Case) -> Any:
    return await post(case)


@aiohttp.row("async with session.post(...) as response: response", closed_by=CLOSED)
async def aiohttp_entered(case: Case) -> Any:
    return await case.enter(await post(case))


@aiohttp.row("response.content", closed_by=CONNECTION)
async def aiohttp_content(case: Case) -> Any:
    return (await (await post(case))).content


@aiohttp.row("response.content.iter_any()", closed_by=CONNECTION)
async def aiohttp_any(case: Case) -> Any:
    return (await (await post(case))).content.iter_any()


@aiohttp.row("response.content.iter_chunked(1024)", closed_by=CONNECTION)
async def aiohttp_chunked(case: Case) -> Any:
    return (await (await post(case))).content.iter_chunked(1024)


@aiohttp.row("response.content.iter_chunks()", closed_by=CONNECTION)
async def aiohttp_chunks(case: Case) -> Any:
    return (await (await post(case))).content.iter_chunks()


@aiohttp.row("await response.json()", is_stream=False, note=WHOLE)
async def aiohttp_json(case: Case) -> Any:
    from aiohttp import ClientSession

    url, body = asked(case, "openai", stream=False)
    return await (await (await case.client(ClientSession())).post(url, json=body)).json()


# --- those that block -----------------------------------------------------------------------------------------------

requests = Package("requests", "requests", "openai")


async def requests_post(case: Case) -> Any:
    """Return a response of requests."""
    import requests as package

    url, body = asked(case, "openai")
    session = case.blocking_client(package.Session())
    return await asyncio.to_thread(session.post, url, json=body, stream=True)


@requests.row("requests.post(..., stream=True)", closed_by=THREAD, note=IN_A_THREAD)
async def requests_response(case: Case) -> Any:
    return await requests_post(case)


@requests.row("response.iter_lines()", closed_by=THREAD, note=IN_A_THREAD)
async def requests_lines(case: Case) -> Any:
    return (await requests_post(case)).iter_lines()


urllib = Package("urllib (standard library)", "", "openai")


@urllib.row("urllib.request.urlopen(request)", closed_by=THREAD, note=IN_A_THREAD)
async def urllib_response(case: Case) -> Any:
    import urllib.request

    url, body = asked(case, "openai")
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    return await asyncio.to_thread(urllib.request.urlopen, request)


urllib3 = Package("urllib3", "urllib3", "openai")


@urllib3.row("asyncio.to_thread(pool.request, ..., preload_content=False)", closed_by=THREAD, note=AWAITED)
async def urllib3_response(case: Case) -> Any:
    import urllib3 as package

    url, body = asked(case, "openai")
    pool = case.blocking_client(package.PoolManager())
    return asyncio.to_thread(pool.request, "POST", url, json=body, preload_content=False)
