"""The fake provider behaves to the real packages as the live APIs do, and notes what they make it pay for."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import json
import ssl
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import trustme

from tests.helpers import ANSWER_TIMEOUT_S
from tests.providers import (
    SCRIPT_HEADER,
    Failure,
    Provider,
    Request,
    Script,
    Tool,
    provider_in_thread,
    provider_process,
    running_provider,
)
from tests.providers.packages import MESSAGES, PACKAGES, Package

TEXT = "Good morning! It is 21 °C in Zürich today 🙂.\nAnything else?"
FULL = Script(text=TEXT, reasoning="The user greets 👋; I look it up.", tools=(Tool(), Tool("f", "{}", "call_2")))
SCRIPTS = {
    "text": Script(text=TEXT),
    "reasoning and tools": FULL,
    "a byte at a time": Script(text=("Zürich", " 🙂"), reasoning=("hm",), cut_bytes=(1, 1)),
    "cut anywhere": FULL.but(cut_bytes=(1, 200), seed=3, ascii=True),
    "CRLF": Script(text=TEXT, crlf=True, cut_bytes=(101, 101)),
    "gzip": FULL.but(gzip=True),
    "pings": Script(text=TEXT, tokens_per_s=500, ping_every_s=0.005, finish="length"),
}
# Packages that run the tools after an answer with tool calls, or take one that was cut short for an error.
AGENTS = ("openai-agents", "pydantic-ai", "langgraph")


def installed(module: str) -> bool:
    """Whether a package can be imported; nothing is, but its parents."""
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:
        return False


# The extra `test` has the packages of OpenAI, Anthropic and Google; the others are tested where they are installed.
INSTALLED = {package.name: package for package in PACKAGES if installed(package.module)}
by_package = pytest.mark.parametrize("package", INSTALLED.values(), ids=INSTALLED)


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    async with running_provider(Script(text=TEXT)) as provider:
        yield provider


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as client:
        yield client


def chat(provider: Provider, client: aiohttp.ClientSession, model: str = "m", **options: Any) -> Any:
    """Ask OpenAI's chat for a stream over plain HTTP."""
    body = {"model": model, "messages": MESSAGES, "stream": True}
    return client.post(f"{provider.base_url('openai')}/chat/completions", json=body, **options)


# --- the real packages ----------------------------------------------------------------------------------------------


@by_package
@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
@pytest.mark.filterwarnings("ignore")  # the packages' own
async def test_package_yields_exactly_the_text(provider: Provider, package: Package, script: Script) -> None:
    if package.name in AGENTS:
        script = script.but(tools=(), finish=None)
    provider.default = script
    async with package.opened(provider.base_url(package.api), "m") as stream:
        assert "".join([text async for text in package.texts(stream)]) == script.whole_text
    request = provider.requests[0]
    await request.ended()
    assert request.disconnected_s is None
    assert request.streamed


@by_package
@pytest.mark.filterwarnings("ignore")
async def test_package_gets_each_text_when_it_is_sent(provider: Provider, package: Package) -> None:
    provider.default = Script(text=("One", " two", " three", " four"), hold_after=2)
    async with package.opened(provider.base_url(package.api), "m") as stream:
        texts = package.texts(stream)
        heard = await anext(texts)
        while heard != "One two":
            heard += await anext(texts)
        assert provider.requests[0].tokens == 2
        provider.requests[0].go_on()
        assert "".join([text async for text in texts]) == " three four"


@by_package
@pytest.mark.filterwarnings("ignore")
async def test_package_left_early_is_seen_as_a_disconnect(provider: Provider, package: Package) -> None:
    provider.default = Script(text=("One", " two", " three"), hold_after=2)
    heard: list[str] = []
    both = asyncio.Event()

    async def listen() -> None:
        async with package.opened(provider.base_url(package.api), "m") as stream:
            async for text in package.texts(stream):
                heard.append(text)
                if "".join(heard) == "One two":
                    both.set()

    task = asyncio.create_task(listen())
    await asyncio.wait_for(both.wait(), ANSWER_TIMEOUT_S)
    task.cancel()
    await asyncio.wait([task])
    gc.collect()  # some stop their request only then
    request = provider.requests[0]
    await request.disconnected()
    assert request.tokens == 2


# --- a client that leaves -------------------------------------------------------------------------------------------


async def test_disconnect_is_seen_and_ends_production(provider: Provider, client: aiohttp.ClientSession) -> None:
    provider.default = Script(text=("word ",) * 1000, tokens_per_s=200)
    async with chat(provider, client) as response:
        request = await provider.received()
        await request.produced(5)
        left_s = time.monotonic()
        response.close()
    seen_s = await request.disconnected()
    assert 0 <= seen_s - left_s < ANSWER_TIMEOUT_S
    # Late tokens come one in each step of the loop; the disconnect is seen within a few.
    assert request.tokens_after(left_s) <= 8
    assert provider.open == []
    assert provider.connections == 0


async def test_disconnect_is_seen_while_nothing_is_sent(provider: Provider, client: aiohttp.ClientSession) -> None:
    silent = (Script(headers_after_s=60), Script(first_token_s=60), Script(hold_after=2))
    for script in (*silent, Script(failure=Failure(2, "stall"))):
        provider.reset()
        provider.default = script
        task = asyncio.create_task(read(provider, client))
        request = await provider.received()
        if script.hold_after or script.failure:
            await request.produced(2)
        task.cancel()
        await request.disconnected()


async def read(provider: Provider, client: aiohttp.ClientSession, **options: Any) -> bytes:
    async with chat(provider, client, **options) as response:
        return bytes(await response.read())


async def test_client_that_does_not_read_stops_production(provider: Provider, client: aiohttp.ClientSession) -> None:
    provider.default = Script(text=("x" * 20_000,) * 1000)
    async with chat(provider, client) as response:
        request = await provider.received()
        await request.until(lambda: request.blocked > 0)
        assert request.tokens < 1000
        assert len(await response.read()) > 20_000_000
    assert request.tokens == 1000


async def test_unstreamed_answer_costs_until_the_disconnect(provider: Provider, client: aiohttp.ClientSession) -> None:
    provider.default = Script(text=("word ",) * 1000, tokens_per_s=100)
    body = {"model": "m", "messages": MESSAGES}
    url = f"{provider.base_url('openai')}/chat/completions"
    task = asyncio.create_task(client.post(url, json=body).__aenter__())
    request = await provider.received()
    task.cancel()
    await request.disconnected()
    assert request.tokens < 1000
    assert not request.streamed


# --- time -----------------------------------------------------------------------------------------------------------


async def test_tokens_come_at_the_pace(provider: Provider, client: aiohttp.ClientSession) -> None:
    provider.default = Script(text=("word ",) * 21, tokens_per_s=100, first_token_s=0.2)
    await read(provider, client)
    request = provider.requests[0]
    assert request.head_s is not None
    assert request.token_times_s[0] - request.head_s >= 0.19
    assert request.token_times_s[-1] - request.head_s >= 0.39
    assert request.lag_s < ANSWER_TIMEOUT_S


async def test_held_stream_pings(provider: Provider, client: aiohttp.ClientSession) -> None:
    provider.default = Script(hold_after=1, ping_every_s=0.01)
    async with chat(provider, client) as response:
        async for line in response.content:
            if line == b": ping\n":
                break
        provider.requests[0].go_on()
        assert (await response.read()).endswith(b"data: [DONE]\n\n")


# --- choosing a script ----------------------------------------------------------------------------------------------


async def test_request_chooses_by_queue_header_and_model(provider: Provider, client: aiohttp.ClientSession) -> None:
    provider.scripts |= {"by header": Script(text="header"), "by model": Script(text="model")}
    provider.answer_next(Script(text="queue"))
    named = {SCRIPT_HEADER: "by header"}
    for expected in ("queue", "header"):
        assert f'"{expected}"'.encode() in await read(provider, client, model="by model", headers=named)
    assert b'"model"' in await read(provider, client, model="by model")
    assert "Zürich".encode() in await read(provider, client)


async def test_request_is_kept_as_it_came(provider: Provider, client: aiohttp.ClientSession) -> None:
    await read(provider, client, headers={"Authorization": "Bearer none"})
    request: Request = provider.requests[0]
    assert (request.api, request.model, request.path) == ("openai", "m", "/openai/v1/chat/completions")
    assert request.headers["authorization"] == "Bearer none"
    assert request.body == {"model": "m", "messages": MESSAGES, "stream": True}


# --- failures -------------------------------------------------------------------------------------------------------


async def test_openai_waits_as_told_and_tries_again(provider: Provider) -> None:
    import openai

    provider.answer_next(
        Script(status=429, retry_after_s=0.05), Script(status=500, retry_after_s=0.01), Script(status=0)
    )
    async with openai.AsyncOpenAI(api_key="none", base_url=provider.base_url("openai"), max_retries=3) as client:
        answer = await client.chat.completions.create(model="m", messages=MESSAGES)  # type: ignore[arg-type]
    assert answer.choices[0].message.content == TEXT
    assert len(provider.requests) == 4
    assert provider.requests[1].came_s - provider.requests[0].came_s >= 0.05


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("status", [429, 500])
async def test_error_statuses_are_the_sdks_exceptions(provider: Provider, status: int) -> None:
    import anthropic
    import openai

    genai = pytest.importorskip("google.genai")

    provider.default = Script(status=status, message="Not now", retry_after_s=7)
    name = {429: "RateLimitError", 500: "InternalServerError"}[status]
    expected = {
        "openai chat": getattr(openai, name),
        "openai responses": getattr(openai, name),
        "anthropic create": getattr(anthropic, name),
        "google-genai": genai.errors.APIError,
    }
    for package in (INSTALLED[name] for name in expected):
        with pytest.raises(expected[package.name], match="Not now") as caught:
            async with package.opened(provider.base_url(package.api), "m") as stream:
                [text async for text in package.texts(stream)]
        if package.name != "google-genai":
            assert caught.value.response.headers["retry-after"] == "7"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted({"openai chat", "anthropic create", "google-genai"} & set(INSTALLED)))
async def test_error_inside_a_stream_raises_in_the_sdk(provider: Provider, name: str) -> None:
    provider.default = Script(text=("One", " two", " three"), failure=Failure(2, message="It broke"))
    package = INSTALLED[name]
    async with package.opened(provider.base_url(package.api), "m") as stream:
        texts = package.texts(stream)
        assert [await anext(texts), await anext(texts)] == ["One", " two"]
        with pytest.raises(Exception, match="It broke"):
            await anext(texts)


@pytest.mark.parametrize("kind", ["error", "failed", "incomplete"])
async def test_responses_end_badly_in_three_ways(provider: Provider, kind: Any) -> None:
    import openai

    provider.default = Script(failure=Failure(2, kind, "It broke"))
    async with openai.AsyncOpenAI(api_key="none", base_url=provider.base_url("openai")) as client:
        stream = await client.responses.create(model="m", input="x", stream=True)
        last = [event async for event in stream][-1]
    assert last.type == ("error" if kind == "error" else f"response.{kind}")
    if last.type == "error":
        assert last.message == "It broke"
    elif last.type == "response.failed":
        assert last.response.error is not None
        assert last.response.error.message == "It broke"


async def test_nested_error_of_responses_raises_in_the_sdk(provider: Provider) -> None:
    import openai

    provider.default = Script(failure=Failure(2, "nested_error", "It broke"))
    async with openai.AsyncOpenAI(api_key="none", base_url=provider.base_url("openai")) as client:
        stream = await client.responses.create(model="m", input="x", stream=True)
        with pytest.raises(openai.APIError, match="It broke"):
            [event async for event in stream]


@pytest.mark.parametrize(("kind", "whole"), [("drop", False), ("reset", False), ("end", True)])
async def test_connection_breaks_inside_the_body(
    provider: Provider, client: aiohttp.ClientSession, kind: Any, whole: bool
) -> None:
    provider.default = Script(text=("One", " two", " three"), failure=Failure(2, kind))
    async with chat(provider, client) as response:
        if whole:
            body = await response.read()
            assert b" two" in body
            assert b"[DONE]" not in body
        else:
            with pytest.raises(aiohttp.ClientError):
                await response.read()
    await provider.requests[0].ended()
    assert provider.requests[0].tokens == 2


# --- what else an answer can be -------------------------------------------------------------------------------------


async def test_openai_refusal_has_its_own_field(provider: Provider) -> None:
    import openai

    provider.default = Script(refusal="I will not do that.")
    async with openai.AsyncOpenAI(api_key="none", base_url=provider.base_url("openai")) as client:
        chunks = await client.chat.completions.create(model="m", messages=[], stream=True)
        deltas = [chunk.choices[0].delta async for chunk in chunks]
        events = await client.responses.create(model="m", input="x", stream=True)
        refused = "".join([event.delta async for event in events if event.type == "response.refusal.delta"])
    assert "".join(delta.refusal or "" for delta in deltas) == refused == "I will not do that."
    assert not any(delta.content for delta in deltas)


async def test_openai_usage_comes_in_a_chunk_without_choices(provider: Provider) -> None:
    import openai

    provider.default = FULL
    async with openai.AsyncOpenAI(api_key="none", base_url=provider.base_url("openai")) as client:
        options: Any = {"include_usage": True}
        stream = await client.chat.completions.create(model="m", messages=[], stream=True, stream_options=options)
        chunks = [chunk async for chunk in stream]
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == FULL.output_tokens
    assert all(chunk.usage is None for chunk in chunks[:-1])


async def test_filtered_answers_say_so(provider: Provider) -> None:
    import anthropic
    import openai

    provider.default = Script(text="", finish="content_filter")
    async with openai.AsyncOpenAI(api_key="none", base_url=provider.base_url("openai")) as client:
        chunks = [chunk async for chunk in await client.chat.completions.create(model="m", messages=[], stream=True)]
    assert chunks[-1].choices[0].finish_reason == "content_filter"
    async with anthropic.AsyncAnthropic(api_key="none", base_url=provider.base_url("anthropic")) as other:
        message = await other.messages.create(model="m", max_tokens=9, messages=[])
    assert message.stop_reason == "refusal"


@pytest.mark.filterwarnings("ignore")
async def test_sdks_read_whole_answers(provider: Provider) -> None:
    import anthropic
    import openai

    genai = pytest.importorskip("google.genai")

    provider.default = FULL
    async with openai.AsyncOpenAI(api_key="none", base_url=provider.base_url("openai")) as client:
        chat_answer = await client.chat.completions.create(model="m", messages=[])
        response = await client.responses.create(model="m", input="x")
    assert chat_answer.choices[0].message.content == response.output_text == TEXT
    async with anthropic.AsyncAnthropic(api_key="none", base_url=provider.base_url("anthropic")) as other:
        message = await other.messages.create(model="m", max_tokens=9, messages=[])
    assert [block.type for block in message.content] == ["thinking", "text", "tool_use", "tool_use"]
    google = genai.Client(api_key="none", http_options={"base_url": provider.base_url("gemini")})
    answer = await google.aio.models.generate_content(model="m", contents="x")
    await google.aio.aclose()
    google.close()
    assert answer.text == TEXT


async def test_gemini_streams_an_array_without_sse(provider: Provider, client: aiohttp.ClientSession) -> None:
    url = f"{provider.base_url('gemini')}/v1beta/models/gemini-2.5-flash:streamGenerateContent"
    async with client.post(url, json={"contents": []}) as response:
        answers = await response.json()
    assert "".join(part["text"] for answer in answers for part in answer["candidates"][0]["content"]["parts"]) == TEXT
    assert provider.requests[0].model == "gemini-2.5-flash"


async def test_provider_serves_tls(client: aiohttp.ClientSession) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with running_provider(Script(tokens_per_s=500), ssl_context=context) as provider:
        assert (await read(provider, client, ssl=trusting)).endswith(b"data: [DONE]\n\n")


# --- a thread, a process --------------------------------------------------------------------------------------------


def test_blocking_code_has_the_provider_in_a_thread() -> None:
    import openai

    with (
        provider_in_thread(Script(hold_after=1)) as provider,
        openai.OpenAI(api_key="none", base_url=provider.base_url("openai")) as client,
    ):
        stream = client.chat.completions.create(model="m", messages=[], stream=True)
        next(stream)
        stream.close()
        provider.run(provider.requests[0].disconnected())


async def test_process_is_scripted_and_read_over_http() -> None:
    with provider_process() as provider:
        provider.script("m", text=["One", " two"], tokens_per_s=100)
        async with aiohttp.ClientSession() as client:
            body = await read(provider, client)  # type: ignore[arg-type]
        assert b" two" in body
        totals = provider.idle()
        assert (totals["requests"], totals["tokens"], totals["disconnected"]) == (1, 2, 0)
        assert len(provider.requests()[0]["token_times_s"]) == 2
        assert provider.requests()[0]["came_s"] < time.monotonic()
        provider.reset()
        assert provider.totals()["requests"] == 0


def test_process_refuses_an_unknown_script() -> None:
    with pytest.raises(RuntimeError), provider_process("--script", json.dumps({"txt": "x"})):
        pass
