"""The real LLM packages as their users call them: each opens a stream of the fake provider, the way its docs do.

No package is imported before it is used, and those that are not installed are skipped by the tests.
"""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from dataclasses import dataclass
from typing import Any

from tests.providers import frameworks
from tests.providers.frameworks import MESSAGES, MODEL, langchain_texts


@dataclass(frozen=True)
class Package:
    """One way of one package to stream an answer.

    Attributes:
        name: The package and its call.
        module: The module to import; tests skip where it is missing.
        api: The API of the fake provider.
        opened: Takes the base URL and the model; a context manager that gives the object a user holds.
        texts: The texts in that object, by the package's documentation.
    """

    name: str
    module: str
    api: str
    opened: Callable[[str, str], AbstractAsyncContextManager[Any]]
    texts: Callable[[Any], AsyncIterator[str]]


# --- OpenAI and the APIs of its form --------------------------------------------------------------------------------


@asynccontextmanager
async def openai_chat(url: str, model: str = MODEL) -> AsyncIterator[Any]:
    import openai

    async with openai.AsyncOpenAI(api_key="none", base_url=url, max_retries=0) as client:
        yield await client.chat.completions.create(model=model, messages=MESSAGES, stream=True)  # type: ignore[call-overload]


@asynccontextmanager
async def azure_chat(url: str, model: str = MODEL) -> AsyncIterator[Any]:
    import openai

    client = openai.AsyncAzureOpenAI(api_key="none", azure_endpoint=url, api_version="2024-10-21", max_retries=0)
    async with client:
        options = {"stream_options": {"include_usage": True}}
        yield await client.chat.completions.create(model=model, messages=MESSAGES, stream=True, **options)


@asynccontextmanager
async def openai_responses(url: str, model: str = MODEL) -> AsyncIterator[Any]:
    import openai

    async with openai.AsyncOpenAI(api_key="none", base_url=url, max_retries=0) as client:
        yield await client.responses.create(model=model, input="Good morning", stream=True)


@asynccontextmanager
async def azure_responses(url: str, model: str = MODEL) -> AsyncIterator[Any]:
    import openai

    client = openai.AsyncAzureOpenAI(api_key="none", azure_endpoint=url, api_version="2025-04-01-preview")
    async with client:
        yield await client.responses.create(model=model, input="Good morning", stream=True)


@asynccontextmanager
async def groq(url: str, model: str = MODEL) -> AsyncIterator[Any]:
    import groq

    async with groq.AsyncGroq(api_key="none", base_url=url, max_retries=0) as client:
        yield await client.chat.completions.create(model=model, messages=MESSAGES, stream=True)


@asynccontextmanager
async def together(url: str, model: str = MODEL) -> AsyncIterator[Any]:
    import together

    async with together.AsyncTogether(api_key="none", base_url=url, max_retries=0) as client:
        yield await client.chat.completions.create(model=model, messages=MESSAGES, stream=True)


async def chat_texts(stream: Any) -> AsyncIterator[str]:
    """`choices[0].delta.content` of each chunk that has it."""
    async for chunk in stream:
        if chunk.choices and chunk.choices[0].index == 0 and chunk.choices[0].delta.content:
            yield chunk.choices[0].delta.content


async def responses_texts(stream: Any) -> AsyncIterator[str]:
    """The deltas of type `response.output_text.delta`."""
    async for event in stream:
        if event.type == "response.output_text.delta":
            yield event.delta


# --- Anthropic ------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def anthropic_create(url: str, model: str = MODEL) -> AsyncIterator[Any]:
    import anthropic

    async with anthropic.AsyncAnthropic(api_key="none", base_url=url, max_retries=0) as client:
        yield await client.messages.create(model=model, max_tokens=1024, messages=MESSAGES, stream=True)  # type: ignore[call-overload]


@asynccontextmanager
async def anthropic_stream(url: str, model: str = MODEL) -> AsyncIterator[Any]:
    import anthropic

    async with (
        anthropic.AsyncAnthropic(api_key="none", base_url=url, max_retries=0) as client,
        client.messages.stream(model=model, max_tokens=1024, messages=MESSAGES) as stream,  # type: ignore[arg-type]
    ):
        yield stream


async def anthropic_texts(stream: Any) -> AsyncIterator[str]:
    """The `text_delta` of each block delta."""
    async for event in stream:
        if event.type == "content_block_delta" and event.delta.type == "text_delta":
            yield event.delta.text


async def text_stream(stream: Any) -> AsyncIterator[str]:
    """The helper stream's own texts."""
    async for text in stream.text_stream:
        yield text


# --- Google, Mistral, Cohere, Ollama, AWS ---------------------------------------------------------------------------


@asynccontextmanager
async def gemini(url: str, model: str = MODEL) -> AsyncIterator[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside the SDK, at import
        from google import genai

    with closing(genai.Client(api_key="none", http_options={"base_url": url})) as client:
        try:
            yield await client.aio.models.generate_content_stream(model=model, contents="Good morning")
        finally:
            await client.aio.aclose()


async def gemini_texts(stream: Any) -> AsyncIterator[str]:
    """The parts that are no thoughts."""
    async for answer in stream:
        for candidate in answer.candidates or ():
            for part in (candidate.content.parts or ()) if candidate.content else ():
                if part.text and not part.thought:
                    yield part.text


@asynccontextmanager
async def mistral(url: str, model: str = MODEL) -> AsyncIterator[Any]:
    try:
        from mistralai.client import Mistral
    except ImportError:  # before 2.0
        from mistralai import Mistral

    async with Mistral(api_key="none", server_url=url) as client:
        yield await client.chat.stream_async(model=model, messages=MESSAGES)


async def mistral_texts(stream: Any) -> AsyncIterator[str]:
    """`delta.content`, a string or a list of chunks."""
    async for event in stream:
        content = event.data.choices[0].delta.content
        for chunk in content if isinstance(content, list) else ():
            if chunk.type == "text":
                yield chunk.text
        if isinstance(content, str) and content:
            yield content


@asynccontextmanager
async def cohere(url: str, model: str = MODEL) -> AsyncIterator[Any]:
    import cohere

    async with cohere.AsyncClientV2(api_key="none", base_url=url) as client:
        yield client.chat_stream(model=model, messages=MESSAGES)


async def cohere_texts(stream: Any) -> AsyncIterator[str]:
    """The text of each `content-delta`."""
    async for event in stream:
        if event.type == "content-delta" and event.delta.message.content.text:
            yield event.delta.message.content.text


@asynccontextmanager
async def ollama(url: str, model: str = MODEL) -> AsyncIterator[Any]:
    import ollama

    client = ollama.AsyncClient(host=url)
    try:
        yield await client.chat(model=model, messages=MESSAGES, stream=True)
    finally:
        await client._client.aclose()


async def ollama_texts(stream: Any) -> AsyncIterator[str]:
    """`message.content`."""
    async for part in stream:
        if part.message.content:
            yield part.message.content


@asynccontextmanager
async def bedrock(url: str, model: str = MODEL) -> AsyncIterator[Any]:
    import asyncio

    import boto3

    keys = {"aws_access_key_id": "none", "aws_secret_access_key": "none"}

    def converse() -> Any:
        client = boto3.client("bedrock-runtime", region_name="us-east-1", endpoint_url=url, **keys)
        content = [{"role": "user", "content": [{"text": "Good morning"}]}]
        return client, client.converse_stream(modelId=model, messages=content)

    client, answer = await asyncio.to_thread(converse)
    try:
        yield answer
    finally:
        answer["stream"].close()
        client.close()


async def bedrock_texts(answer: Any) -> AsyncIterator[str]:
    """The text of each `contentBlockDelta`, read in a thread: botocore blocks."""
    import asyncio

    events = iter(answer["stream"])
    while (event := await asyncio.to_thread(next, events, None)) is not None:
        text = event.get("contentBlockDelta", {}).get("delta", {}).get("text")
        if text:
            yield text


# --- HTTP without a package -----------------------------------------------------------------------------------------


@asynccontextmanager
async def aiohttp_chat(url: str, model: str = MODEL) -> AsyncIterator[Any]:
    import aiohttp

    body = {"model": model, "messages": MESSAGES, "stream": True}
    async with aiohttp.ClientSession() as client, client.post(f"{url}/chat/completions", json=body) as response:
        yield response


async def aiohttp_texts(response: Any) -> AsyncIterator[str]:
    """The `data:` lines of a chat completion."""
    import json

    async for line in response.content:
        if line.startswith(b"data: {"):
            for choice in json.loads(line[6:])["choices"]:
                if choice["delta"].get("content"):
                    yield choice["delta"]["content"]


PACKAGES: tuple[Package, ...] = (
    Package("openai chat", "openai", "openai", openai_chat, chat_texts),
    Package("openai responses", "openai", "openai", openai_responses, responses_texts),
    Package("azure chat", "openai", "azure", azure_chat, chat_texts),
    Package("azure responses", "openai", "azure", azure_responses, responses_texts),
    Package("groq", "groq", "groq", groq, chat_texts),
    Package("together", "together", "together", together, chat_texts),
    Package("deepseek", "openai", "deepseek", openai_chat, chat_texts),
    Package("openrouter", "openai", "openrouter", openai_chat, chat_texts),
    Package("anthropic create", "anthropic", "anthropic", anthropic_create, anthropic_texts),
    Package("anthropic stream", "anthropic", "anthropic", anthropic_stream, anthropic_texts),
    Package("anthropic text_stream", "anthropic", "anthropic", anthropic_stream, text_stream),
    Package("google-genai", "google.genai", "gemini", gemini, gemini_texts),
    Package("mistralai", "mistralai", "mistral", mistral, mistral_texts),
    Package("cohere", "cohere", "cohere", cohere, cohere_texts),
    Package("ollama", "ollama", "ollama", ollama, ollama_texts),
    Package("boto3 converse", "boto3", "bedrock", bedrock, bedrock_texts),
    Package("litellm openai", "litellm", "openai", frameworks.litellm("openai"), chat_texts),
    Package("litellm anthropic", "litellm", "anthropic", frameworks.litellm("anthropic"), chat_texts),
    Package("langchain openai", "langchain_openai", "openai", frameworks.langchain_openai, langchain_texts),
    Package("langchain anthropic", "langchain_anthropic", "anthropic", frameworks.langchain_anthropic, langchain_texts),
    Package("langgraph", "langgraph.graph", "openai", frameworks.langgraph, langchain_texts),
    Package("openai-agents", "agents", "openai", frameworks.openai_agents, frameworks.openai_agents_texts),
    Package("pydantic-ai", "pydantic_ai", "openai", frameworks.pydantic_ai, frameworks.pydantic_ai_texts),
    Package("llama-index", "llama_index.llms.openai", "openai", frameworks.llama_index, frameworks.llama_index_texts),
    Package("aiohttp chat", "aiohttp", "openai", aiohttp_chat, aiohttp_texts),
)
