"""The agent of `bench.warm`: one client of each named package, as its documentation makes it, for all conversations.

`PACKAGES` names them, `PROVIDER` is a JSON object with their base URLs. A turn asks each of them once, for the model
that the caller names.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

URLS: dict[str, str] = json.loads(os.environ["PROVIDER"])
MESSAGES: Any = [{"role": "user", "content": "Good morning"}]


def openai_client() -> Any:
    import openai

    return openai.AsyncOpenAI(api_key="none", base_url=URLS["openai"], max_retries=0)


def anthropic_client() -> Any:
    import anthropic

    return anthropic.AsyncAnthropic(api_key="none", base_url=URLS["anthropic"], max_retries=0)


def gemini_client() -> Any:
    from google import genai

    return genai.Client(api_key="none", http_options={"base_url": URLS["gemini"]})


def litellm_client() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import litellm

    return litellm


async def ask_openai(client: Any, model: str) -> Any:
    return await client.chat.completions.create(model=model, messages=MESSAGES, stream=True)


async def ask_anthropic(client: Any, model: str) -> Any:
    return await client.messages.create(model=model, max_tokens=99, messages=MESSAGES, stream=True)


async def ask_gemini(client: Any, model: str) -> Any:
    return await client.aio.models.generate_content_stream(model=model, contents="Good morning")


async def ask_litellm(client: Any, model: str) -> Any:
    options = {"api_key": "none", "api_base": URLS["openai"], "stream": True, "num_retries": 0}
    return await client.acompletion(model=f"openai/{model}", messages=MESSAGES, **options)


WAYS: dict[str, tuple[Callable[[], Any], Callable[[Any, str], Awaitable[Any]]]] = {
    "openai": (openai_client, ask_openai),
    "anthropic": (anthropic_client, ask_anthropic),
    "google.genai": (gemini_client, ask_gemini),
    "litellm": (litellm_client, ask_litellm),
}
PACKAGES = os.environ["PACKAGES"].split(",")
CLIENTS = {name: WAYS[name][0]() for name in PACKAGES}


async def on_transcript(transcript: Any, session: Any) -> None:
    async def texts() -> AsyncIterator[Any]:
        for name in PACKAGES:
            async for event in await WAYS[name][1](CLIENTS[name], transcript[-1].content):
                yield event

    await session.send_response(texts())


async def warm_up() -> None:
    """Hold one turn with clients of its own, whose connections are closed before the fork."""
    for name in PACKAGES:
        async with AsyncExitStack() as stack:
            make, ask = WAYS[name]
            client = make()
            if name == "google.genai":
                stack.callback(client.close)
                stack.push_async_callback(client.aio.aclose)
            elif name != "litellm":
                await stack.enter_async_context(client)
            async for _ in await ask(client, "instant"):
                pass
            if name == "litellm":
                await client.close_litellm_async_clients()
                client.in_memory_llm_clients_cache.flush_cache()
