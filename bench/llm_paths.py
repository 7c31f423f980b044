"""The ways from an LLM provider to `send_response` that the benchmark of tokens measures."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from bench.interruptions import (
    MESSAGES,
    Ask,
    Make,
    anthropic,
    gemini,
    groq,
    mistral,
    openai_chat,
    openai_responses,
    together,
)
from bench.load.llm_provider import TOKENS_PER_S

__all__ = ["BARE_PATHS", "PATHS", "Path"]


@dataclass(frozen=True)
class Path:
    """A way to the provider.

    Attributes:
        module: what has to be installed.
        make: makes the client, and returns what asks it.
        published: the same for the published SDK, where it takes another object.
        has_takeover: whether the package's stream can be taken over.
    """

    module: str
    make: Make
    published: Make | None = None
    has_takeover: bool = False


async def openai_chat_aiohttp(stack: AsyncExitStack, url: Any) -> Ask:
    """OpenAI's package with the transport that it brings along: the one line."""
    import openai

    client: Any = openai.AsyncOpenAI(api_key="none", base_url=url("openai"), http_client=openai.DefaultAioHttpClient())
    await stack.enter_async_context(client)
    return lambda model: client.chat.completions.create(model=model, messages=MESSAGES, stream=True)


async def openai_responses_aiohttp(stack: AsyncExitStack, url: Any) -> Ask:
    """The Responses API with that transport."""
    import openai

    client: Any = openai.AsyncOpenAI(api_key="none", base_url=url("openai"), http_client=openai.DefaultAioHttpClient())
    await stack.enter_async_context(client)
    return lambda model: client.responses.create(model=model, input="Good morning", stream=True)


async def anthropic_aiohttp(stack: AsyncExitStack, url: Any) -> Ask:
    """Anthropic's package with the transport that it brings along."""
    from anthropic import AsyncAnthropic, DefaultAioHttpClient

    client: Any = AsyncAnthropic(api_key="none", base_url=url("anthropic"), http_client=DefaultAioHttpClient())
    await stack.enter_async_context(client)
    return lambda model: client.messages.create(model=model, max_tokens=1024, messages=MESSAGES, stream=True)


async def aiohttp_response(stack: AsyncExitStack, url: Any) -> Ask:
    """An aiohttp response as it is."""
    import aiohttp

    client = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
    endpoint = f"{url('openai')}/chat/completions"
    return lambda model: client.post(endpoint, json={"model": model, "messages": MESSAGES, "stream": True})


async def aiohttp_gemini(stack: AsyncExitStack, url: Any) -> Ask:
    """Gemini's stream as an aiohttp response, in place of google-genai's."""
    import aiohttp

    client = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
    said = {"contents": [{"role": "user", "parts": [{"text": "Good morning"}]}]}
    return lambda model: client.post(f"{url('gemini')}/v1beta/models/{model}:streamGenerateContent?alt=sse", json=said)


async def aiohttp_lines(stack: AsyncExitStack, url: Any) -> Ask:
    """An aiohttp response read by hand: what users of the published SDK write."""
    post = await aiohttp_response(stack, url)

    async def texts(response: Any) -> AsyncIterator[str]:
        async with response:
            async for line in response.content:
                if line.startswith(b"data: {"):
                    choices = json.loads(line[6:])["choices"]
                    text = choices[0]["delta"].get("content") if choices else None
                    if text:
                        yield text

    async def ask(model: str) -> Any:
        return texts(await post(model))

    return ask


async def plain_generator(stack: AsyncExitStack, url: Any) -> Ask:
    """An async generator of texts at the provider's pace, without a provider."""

    async def texts(count: int) -> AsyncIterator[str]:
        start = time.monotonic()
        for number in range(count):
            await asyncio.sleep(start + number / TOKENS_PER_S - time.monotonic())
            yield "morning "

    async def ask(model: str) -> Any:
        return texts(int(model.partition("-")[2] or 500))

    return ask


PATHS: Mapping[str, Path] = {
    "openai chat": Path("openai", openai_chat, has_takeover=True),
    "openai responses": Path("openai", openai_responses, has_takeover=True),
    "openai chat, aiohttp transport": Path("openai", openai_chat_aiohttp, openai_chat, has_takeover=True),
    "openai responses, aiohttp transport": Path(
        "openai", openai_responses_aiohttp, openai_responses, has_takeover=True
    ),
    "groq": Path("groq", groq, has_takeover=True),
    "together": Path("together", together, has_takeover=True),
    "anthropic": Path("anthropic", anthropic, has_takeover=True),
    "anthropic, aiohttp transport": Path("anthropic", anthropic_aiohttp, anthropic, has_takeover=True),
    "google-genai": Path("google.genai", gemini),
    "Gemini, aiohttp response": Path("aiohttp", aiohttp_gemini, gemini),
    "mistralai": Path("mistralai", mistral, has_takeover=True),
    "aiohttp response": Path("aiohttp", aiohttp_response, aiohttp_lines),
    "plain generator": Path("", plain_generator),
}
"""By name. The published SDK is measured with `published` where it is given: its users have no other."""

BARE_PATHS = ("openai chat", "openai chat, aiohttp transport", "aiohttp response", "plain generator")
"""The paths that bare protocols are measured on, too."""


def is_installed(path: Path) -> bool:
    """Whether the path's package is there."""
    try:
        return not path.module or importlib.util.find_spec(path.module) is not None
    except ImportError:
        return False
