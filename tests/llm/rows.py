"""Everything of the LLM packages that a user can pass to `send_response`, as the package's documentation makes it.

Each row opens its object in an `AsyncExitStack` that outlives the conversation: no client is closed behind the object's
back, and what stops a request is what `send_response` does with the object.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from tests.providers import packages
from tests.providers.packages import MESSAGES, MODEL, PACKAGES

Make = Callable[[AsyncExitStack, str], Awaitable[Any]]


@dataclass(frozen=True)
class Row:
    """One thing that can be passed.

    Attributes:
        name: The package and what is passed.
        module: The module to import; the row is skipped without it.
        api: The API of the fake provider.
        make: Takes a stack and the provider's base URL; returns the object.
        closes: What stops its request.
        is_whole: The result was not streamed.
        is_own: The handler itself opens it, since one task has to enter and leave it.
    """

    name: str
    module: str
    api: str
    make: Make
    closes: str
    is_whole: bool = False
    is_own: bool = False


ROWS: list[Row] = []


def row(
    name: str, module: str, api: str, closes: str, *, is_whole: bool = False, is_own: bool = False
) -> Callable[[Make], Make]:
    def add(make: Make) -> Make:
        ROWS.append(Row(name, module, api, make, closes, is_whole, is_own))
        return make

    return add


# --- streams as the packages' documentation opens them --------------------------------------------------------------

CLOSES = {
    "openai": "`close()`",
    "azure": "`close()`",
    "groq": "`close()`",
    "together": "`close()`",
    "deepseek": "`close()`",
    "openrouter": "`close()`",
    "anthropic": "`close()`",
    "anthropic text_stream": "the response underneath",
    "google-genai": "the response underneath",
    "mistralai": "`close()`",
    "cohere": "`aclose()`",
    "ollama": "`aclose()`",
    "boto3": "a socket shutdown; the thread closes",
    "litellm": "`aclose()`, the response underneath",
    "langchain": "`aclose()`",
    "langgraph": "`aclose()`",
    "openai-agents": "`result.cancel()`, `aclose()`",
    "pydantic-ai": "the user's `async with`",
    "llama-index": "the response underneath",
    "aiohttp": "`close()`",
}


def _of_package(package: packages.Package) -> None:
    closes = CLOSES.get(package.name) or CLOSES[package.name.split()[0]]

    @row(package.name, package.module, package.api, closes, is_own=package.name == "pydantic-ai")
    async def make(stack: AsyncExitStack, url: str) -> Any:
        opened = await stack.enter_async_context(package.opened(url, MODEL))
        return opened.text_stream if package.name == "anthropic text_stream" else opened


for _package in PACKAGES:
    _of_package(_package)


# --- managers, entered and left by the pump -------------------------------------------------------------------------


async def openai_client(stack: AsyncExitStack, url: str) -> Any:
    import openai

    return await stack.enter_async_context(openai.AsyncOpenAI(api_key="none", base_url=url, max_retries=0))


async def anthropic_client(stack: AsyncExitStack, url: str) -> Any:
    import anthropic

    return await stack.enter_async_context(anthropic.AsyncAnthropic(api_key="none", base_url=url, max_retries=0))


@row("openai responses.stream()", "openai", "openai", "`async with`")
async def openai_responses_stream(stack: AsyncExitStack, url: str) -> Any:
    return (await openai_client(stack, url)).responses.stream(model=MODEL, input="Good morning")


@row("openai chat.completions.stream()", "openai", "openai", "`async with`")
async def openai_chat_stream(stack: AsyncExitStack, url: str) -> Any:
    return (await openai_client(stack, url)).chat.completions.stream(model=MODEL, messages=MESSAGES)


@row("openai chat.completions.stream(), entered", "openai", "openai", "`close()`")
async def openai_chat_stream_entered(stack: AsyncExitStack, url: str) -> Any:
    return await stack.enter_async_context(await openai_chat_stream(stack, url))


@row("anthropic messages.stream()", "anthropic", "anthropic", "`async with`")
async def anthropic_stream(stack: AsyncExitStack, url: str) -> Any:
    client = await anthropic_client(stack, url)
    return client.messages.stream(model=MODEL, max_tokens=1024, messages=MESSAGES)


async def pydantic_ai_agent(stack: AsyncExitStack, url: str) -> Any:
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    client = await openai_client(stack, url)
    return Agent(OpenAIChatModel(MODEL, provider=OpenAIProvider(openai_client=client)))


@row("pydantic-ai run_stream()", "pydantic_ai", "openai", "`async with`")
async def pydantic_ai_run_stream(stack: AsyncExitStack, url: str) -> Any:
    return (await pydantic_ai_agent(stack, url)).run_stream("Good morning")


@row("pydantic-ai run_stream_events()", "pydantic_ai", "openai", "`aclose()`")
async def pydantic_ai_run_stream_events(stack: AsyncExitStack, url: str) -> Any:
    return (await pydantic_ai_agent(stack, url)).run_stream_events("Good morning")


@row("pydantic-ai iter()", "pydantic_ai", "openai", "`async with`")
async def pydantic_ai_iter(stack: AsyncExitStack, url: str) -> Any:
    return (await pydantic_ai_agent(stack, url)).iter("Good morning")


# --- awaitables -----------------------------------------------------------------------------------------------------


@row("openai chat coroutine", "openai", "openai", "`close()`")
async def openai_chat_coroutine(stack: AsyncExitStack, url: str) -> Any:
    client = await openai_client(stack, url)
    return client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)


@row("openai responses coroutine", "openai", "openai", "`close()`")
async def openai_responses_coroutine(stack: AsyncExitStack, url: str) -> Any:
    return (await openai_client(stack, url)).responses.create(model=MODEL, input="Good morning", stream=True)


@row("anthropic coroutine", "anthropic", "anthropic", "`close()`")
async def anthropic_coroutine(stack: AsyncExitStack, url: str) -> Any:
    client = await anthropic_client(stack, url)
    return client.messages.create(model=MODEL, max_tokens=1024, messages=MESSAGES, stream=True)


@row("google-genai coroutine", "google.genai", "gemini", "the response underneath")
async def gemini_coroutine(stack: AsyncExitStack, url: str) -> Any:
    from google import genai

    client = genai.Client(api_key="none", http_options={"base_url": url})
    stack.push_async_callback(client.aio.aclose)
    return client.aio.models.generate_content_stream(model=MODEL, contents="Good morning")


@row("litellm coroutine", "litellm", "openai", "`aclose()`")
async def litellm_coroutine(stack: AsyncExitStack, url: str) -> Any:
    import litellm

    options = {"api_key": "none", "api_base": url, "stream": True, "num_retries": 0}
    return litellm.acompletion(model=f"openai/{MODEL}", messages=MESSAGES, **options)


# --- raw responses --------------------------------------------------------------------------------------------------


@row("openai with_raw_response", "openai", "openai", "`close()`")
async def openai_raw(stack: AsyncExitStack, url: str) -> Any:
    client = await openai_client(stack, url)
    return await client.chat.completions.with_raw_response.create(model=MODEL, messages=MESSAGES, stream=True)


@row("openai with_streaming_response", "openai", "openai", "`async with`")
async def openai_streaming(stack: AsyncExitStack, url: str) -> Any:
    client = await openai_client(stack, url)
    return client.chat.completions.with_streaming_response.create(model=MODEL, messages=MESSAGES, stream=True)


@row("anthropic with_raw_response", "anthropic", "anthropic", "`close()`")
async def anthropic_raw(stack: AsyncExitStack, url: str) -> Any:
    create = (await anthropic_client(stack, url)).messages.with_raw_response.create
    return await create(model=MODEL, max_tokens=1024, messages=MESSAGES, stream=True)


@row("anthropic with_streaming_response", "anthropic", "anthropic", "`async with`")
async def anthropic_streaming(stack: AsyncExitStack, url: str) -> Any:
    create = (await anthropic_client(stack, url)).messages.with_streaming_response.create
    return create(model=MODEL, max_tokens=1024, messages=MESSAGES, stream=True)


CHAT = {"model": MODEL, "messages": MESSAGES, "stream": True}


async def aiohttp_request(stack: AsyncExitStack, url: str) -> Any:
    import aiohttp

    client = await stack.enter_async_context(aiohttp.ClientSession())
    return client.post(f"{url}/chat/completions", json=CHAT)


row("aiohttp request", "aiohttp", "openai", "`close()`")(aiohttp_request)


@row("aiohttp content", "aiohttp", "openai", "the connection")
async def aiohttp_content(stack: AsyncExitStack, url: str) -> Any:
    return (await (await aiohttp_request(stack, url))).content


@row("aiohttp content.iter_any()", "aiohttp", "openai", "the connection")
async def aiohttp_iter_any(stack: AsyncExitStack, url: str) -> Any:
    return (await aiohttp_content(stack, url)).iter_any()


@row("aiohttp content.iter_chunks()", "aiohttp", "openai", "the connection")
async def aiohttp_iter_chunks(stack: AsyncExitStack, url: str) -> Any:
    return (await aiohttp_content(stack, url)).iter_chunks()


def _httpx(module: str) -> None:
    async def client(stack: AsyncExitStack) -> Any:
        httpx = __import__(module)
        return await stack.enter_async_context(httpx.AsyncClient())

    async def response(stack: AsyncExitStack, url: str) -> Any:
        opened = await client(stack)
        return await opened.send(opened.build_request("POST", f"{url}/chat/completions", json=CHAT), stream=True)

    row(f"{module} Response", module, "openai", "`aclose()`")(response)

    @row(f"{module} stream()", module, "openai", "`async with`")
    async def manager(stack: AsyncExitStack, url: str) -> Any:
        return (await client(stack)).stream("POST", f"{url}/chat/completions", json=CHAT)

    for method in ("aiter_bytes", "aiter_text", "aiter_lines", "aiter_raw"):

        @row(f"{module} {method}()", module, "openai", "`aclose()` of the response")
        async def iterator(stack: AsyncExitStack, url: str, method: str = method) -> Any:
            return getattr(await response(stack, url), method)()

    @row(f"{module} Response, blocking", module, "openai", "a socket shutdown; the thread closes")
    async def blocking(stack: AsyncExitStack, url: str) -> Any:
        import asyncio

        opened = stack.enter_context(__import__(module).Client())
        request = opened.build_request("POST", f"{url}/chat/completions", json=CHAT)
        return asyncio.to_thread(opened.send, request, stream=True)

    @row(f"{module} stream(), blocking", module, "openai", "a socket shutdown; the thread leaves the manager")
    async def blocking_manager(stack: AsyncExitStack, url: str) -> Any:
        opened = stack.enter_context(__import__(module).Client())
        return opened.stream("POST", f"{url}/chat/completions", json=CHAT)


_httpx("httpx")
_httpx("httpx2")


@row("requests Response", "requests", "openai", "a socket shutdown; the thread closes")
async def requests_response(stack: AsyncExitStack, url: str) -> Any:
    import asyncio

    import requests

    session = stack.enter_context(requests.Session())
    return asyncio.to_thread(session.post, f"{url}/chat/completions", json=CHAT, stream=True)


@row("urllib3 response", "urllib3", "openai", "a socket shutdown; the thread closes")
async def urllib3_response(stack: AsyncExitStack, url: str) -> Any:
    import asyncio

    import urllib3

    pool = stack.enter_context(urllib3.PoolManager())
    return asyncio.to_thread(pool.request, "POST", f"{url}/chat/completions", json=CHAT, preload_content=False)


# --- those that block -----------------------------------------------------------------------------------------------


def openai_blocking_client(stack: AsyncExitStack, url: str) -> Any:
    import openai

    return stack.enter_context(openai.OpenAI(api_key="none", base_url=url, max_retries=0))


@row("openai chat, blocking", "openai", "openai", "a socket shutdown; the thread closes")
async def openai_blocking(stack: AsyncExitStack, url: str) -> Any:
    import asyncio

    client = openai_blocking_client(stack, url)
    return asyncio.to_thread(client.chat.completions.create, model=MODEL, messages=MESSAGES, stream=True)


@row("openai responses.stream(), blocking", "openai", "openai", "a socket shutdown; the thread leaves the manager")
async def openai_blocking_manager(stack: AsyncExitStack, url: str) -> Any:
    return openai_blocking_client(stack, url).responses.stream(model=MODEL, input="Good morning")


@row("openai, a generator around it", "openai", "openai", "a socket shutdown; the thread closes the generator")
async def openai_blocking_generator(stack: AsyncExitStack, url: str) -> Any:
    client = openai_blocking_client(stack, url)

    def texts() -> Iterator[str]:
        for chunk in client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True):
            if chunk.choices and chunk.choices[0].delta.content:
                yield chunk.choices[0].delta.content

    return texts()


@row("anthropic messages.stream(), blocking", "anthropic", "anthropic", "the thread leaves the manager")
async def anthropic_blocking(stack: AsyncExitStack, url: str) -> Any:
    import anthropic

    client = stack.enter_context(anthropic.Anthropic(api_key="none", base_url=url, max_retries=0))
    return client.messages.stream(model=MODEL, max_tokens=1024, messages=MESSAGES)  # type: ignore[arg-type]


def bedrock_client(url: str) -> Any:
    import boto3

    options: dict[str, Any] = {"aws_access_key_id": "none", "aws_secret_access_key": "none"}
    return boto3.client("bedrock-runtime", region_name="us-east-1", endpoint_url=url, **options)


@row("boto3 converse_stream() dict", "boto3", "bedrock", "a socket shutdown; the thread closes")
async def bedrock_dict(stack: AsyncExitStack, url: str) -> Any:
    import asyncio

    messages = [{"role": "user", "content": [{"text": "Good morning"}]}]
    client = bedrock_client(url)
    stack.callback(client.close)
    return asyncio.to_thread(client.converse_stream, modelId=MODEL, messages=messages)


# --- users' generators around streams -------------------------------------------------------------------------------


@row("openai chat, an async generator around it", "openai", "openai", "`aclose()`, the response underneath")
async def openai_generator(stack: AsyncExitStack, url: str) -> Any:
    client = await openai_client(stack, url)

    async def texts() -> AsyncIterator[str]:
        stream = await client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
        async for chunk in stream:
            if chunk.choices and chunk.choices[0].delta.content:
                yield chunk.choices[0].delta.content

    return texts()


@row("google-genai, an async generator around it", "google.genai", "gemini", "the response underneath")
async def gemini_generator(stack: AsyncExitStack, url: str) -> Any:
    from google import genai

    client = genai.Client(api_key="none", http_options={"base_url": url})
    stack.push_async_callback(client.aio.aclose)

    async def texts() -> AsyncIterator[str]:
        call = client.aio.models.generate_content_stream(model=MODEL, contents="Good morning")
        async for chunk in await call:
            if chunk.text:
                yield chunk.text

    return texts()


# --- llama-index, LangChain: other forms ----------------------------------------------------------------------------


@row("llama-index chat engine", "llama_index.llms.openai", "openai", "its task is cancelled; the response underneath")
async def llama_index_chat_engine(stack: AsyncExitStack, url: str) -> Any:
    from llama_index.core.chat_engine import SimpleChatEngine
    from llama_index.llms.openai import OpenAI

    llm = OpenAI(model="gpt-4o-mini", api_key="none", api_base=url, max_retries=0)
    return await SimpleChatEngine.from_defaults(llm=llm).astream_chat("Good morning")


@row("llama-index async_response_gen()", "llama_index.llms.openai", "openai", "the response underneath")
async def llama_index_response_gen(stack: AsyncExitStack, url: str) -> Any:
    return (await llama_index_chat_engine(stack, url)).async_response_gen()


@row("llama-index agent handler", "llama_index.llms.openai", "openai", "`cancel_run()`")
async def llama_index_agent(stack: AsyncExitStack, url: str) -> Any:
    from llama_index.core.agent.workflow import FunctionAgent
    from llama_index.llms.openai import OpenAI

    llm = OpenAI(model="gpt-4o-mini", api_key="none", api_base=url, max_retries=0)
    return FunctionAgent(llm=llm, tools=[], streaming=True).run("Good morning")


@row("langchain astream_events()", "langchain_openai", "openai", "`aclose()`")
async def langchain_events(stack: AsyncExitStack, url: str) -> Any:
    from langchain_openai import ChatOpenAI

    chat = ChatOpenAI(model=MODEL, api_key="none", base_url=url, max_retries=0)  # type: ignore[arg-type]
    return chat.astream_events("Good morning", version="v2")


@row("langchain stream(), blocking", "langchain_openai", "openai", "a socket shutdown; the thread closes")
async def langchain_blocking(stack: AsyncExitStack, url: str) -> Any:
    from langchain_openai import ChatOpenAI

    chat = ChatOpenAI(model=MODEL, api_key="none", base_url=url, max_retries=0)  # type: ignore[arg-type]
    return chat.stream("Good morning")


# --- results that were not streamed ---------------------------------------------------------------------------------


@row("openai ChatCompletion", "openai", "openai", "the coroutine is cancelled", is_whole=True)
async def openai_completion(stack: AsyncExitStack, url: str) -> Any:
    return (await openai_client(stack, url)).chat.completions.create(model=MODEL, messages=MESSAGES)


@row("openai ChatCompletion, raw", "openai", "openai", "", is_whole=True)
async def openai_completion_raw(stack: AsyncExitStack, url: str) -> Any:
    return (await openai_client(stack, url)).chat.completions.with_raw_response.create(model=MODEL, messages=MESSAGES)


@row("openai Response", "openai", "openai", "the coroutine is cancelled", is_whole=True)
async def openai_response(stack: AsyncExitStack, url: str) -> Any:
    return (await openai_client(stack, url)).responses.create(model=MODEL, input="Good morning")


@row("openai Response as a dict", "openai", "openai", "", is_whole=True)
async def openai_response_dict(stack: AsyncExitStack, url: str) -> Any:
    return (await (await openai_response(stack, url))).model_dump()


@row("anthropic Message", "anthropic", "anthropic", "the coroutine is cancelled", is_whole=True)
async def anthropic_message(stack: AsyncExitStack, url: str) -> Any:
    client = await anthropic_client(stack, url)
    return client.messages.create(model=MODEL, max_tokens=1024, messages=MESSAGES)


@row("google-genai GenerateContentResponse", "google.genai", "gemini", "the coroutine is cancelled", is_whole=True)
async def gemini_response(stack: AsyncExitStack, url: str) -> Any:
    from google import genai

    client = genai.Client(api_key="none", http_options={"base_url": url})
    stack.push_async_callback(client.aio.aclose)
    return client.aio.models.generate_content(model=MODEL, contents="Good morning")


@row("langchain AIMessage", "langchain_openai", "openai", "the coroutine is cancelled", is_whole=True)
async def langchain_message(stack: AsyncExitStack, url: str) -> Any:
    from langchain_openai import ChatOpenAI

    chat = ChatOpenAI(model=MODEL, api_key="none", base_url=url, max_retries=0)  # type: ignore[arg-type]
    return chat.ainvoke("Good morning")


@row("pydantic-ai AgentRunResult", "pydantic_ai", "openai", "the coroutine is cancelled", is_whole=True)
async def pydantic_ai_result(stack: AsyncExitStack, url: str) -> Any:
    return (await pydantic_ai_agent(stack, url)).run("Good morning")


@row("boto3 converse()", "boto3", "bedrock", "", is_whole=True)
async def bedrock_whole(stack: AsyncExitStack, url: str) -> Any:
    import asyncio

    messages = [{"role": "user", "content": [{"text": "Good morning"}]}]
    return asyncio.to_thread(bedrock_client(url).converse, modelId=MODEL, messages=messages)


@row("httpx Response of JSON", "httpx", "openai", "`aclose()`", is_whole=True)
async def httpx_whole(stack: AsyncExitStack, url: str) -> Any:
    import httpx

    client = await stack.enter_async_context(httpx.AsyncClient())
    return client.post(f"{url}/chat/completions", content=json.dumps({"model": MODEL, "messages": MESSAGES}))


@row("aiohttp response of JSON", "aiohttp", "openai", "`close()`", is_whole=True)
async def aiohttp_whole(stack: AsyncExitStack, url: str) -> Any:
    import aiohttp

    client = await stack.enter_async_context(aiohttp.ClientSession())
    return client.post(f"{url}/chat/completions", json={"model": MODEL, "messages": MESSAGES})
