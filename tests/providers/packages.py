"""The real LLM packages as their users call them: each opens a stream of the fake provider, the way its docs do.

No package is imported before it is used, and those that are not installed are skipped by the tests.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from dataclasses import dataclass
from typing import Any

MESSAGES = [{"role": "user", "content": "Good morning"}]
MODEL = "m"


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
        yield await client.aio.models.generate_content_stream(model=model, contents="Good morning")
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
    yield await client.chat(model=model, messages=MESSAGES, stream=True)
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
    yield answer
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


# --- packages over packages -----------------------------------------------------------------------------------------


def _litellm(provider: str) -> Callable[[str, str], AbstractAsyncContextManager[Any]]:
    @asynccontextmanager
    async def opened(url: str, model: str = MODEL) -> AsyncIterator[Any]:
        os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # its import would fetch one
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import litellm

        options = {"api_key": "none", "api_base": url, "stream": True, "num_retries": 0}
        yield await litellm.acompletion(model=f"{provider}/{model}", messages=MESSAGES, **options)

    return opened


@asynccontextmanager
async def langchain_openai(url: str, model: str = MODEL) -> AsyncIterator[Any]:
    async with _chat_openai(url, model) as chat:
        yield chat.astream("Good morning")


@asynccontextmanager
async def _chat_openai(url: str, model: str) -> AsyncIterator[Any]:
    """LangChain shares one HTTP client among its models, and never closes it: each has its own here."""
    import openai
    from langchain_openai import ChatOpenAI

    async with openai.DefaultAsyncHttpxClient() as client:
        options: Any = {"api_key": "none", "base_url": url, "max_retries": 0, "http_async_client": client}
        yield ChatOpenAI(model=model, **options)


@asynccontextmanager
async def langchain_anthropic(url: str, model: str = MODEL) -> AsyncIterator[Any]:
    from langchain_anthropic import ChatAnthropic

    chat = ChatAnthropic(model=model, api_key="none", base_url=url, max_retries=0, max_tokens=1024)  # type: ignore[call-arg,arg-type]
    yield chat.astream("Good morning")
    await chat._async_client.close()


async def langchain_texts(stream: Any) -> AsyncIterator[str]:
    """`.content`, a string or a list of blocks."""
    async for chunk in stream:
        message = chunk[0] if isinstance(chunk, tuple) else chunk
        blocks = [{"type": "text", "text": message.content}] if isinstance(message.content, str) else message.content
        for block in blocks:
            if block["type"] == "text" and block["text"]:
                yield block["text"]


@asynccontextmanager
async def langgraph(url: str, model: str = MODEL) -> AsyncIterator[Any]:
    from langgraph.graph import START, MessagesState, StateGraph

    async with _chat_openai(url, model) as chat:

        async def agent(state: Any) -> Any:
            return {"messages": [await chat.ainvoke(state["messages"])]}

        graph = StateGraph(MessagesState).add_node("agent", agent).add_edge(START, "agent").compile()
        yield graph.astream({"messages": MESSAGES}, stream_mode="messages")


@asynccontextmanager
async def openai_agents(url: str, model: str = MODEL) -> AsyncIterator[Any]:
    import agents
    import openai

    agents.set_tracing_disabled(True)
    async with openai.AsyncOpenAI(api_key="none", base_url=url, max_retries=0) as client:
        responses = agents.OpenAIResponsesModel(model=model, openai_client=client)
        yield agents.Runner.run_streamed(agents.Agent(name="agent", model=responses), "Good morning")


async def openai_agents_texts(result: Any) -> AsyncIterator[str]:
    """The raw events, by the rule of the Responses API."""
    async for event in result.stream_events():
        if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
            yield event.data.delta


@asynccontextmanager
async def pydantic_ai(url: str, model: str = MODEL) -> AsyncIterator[Any]:
    import openai
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    async with openai.AsyncOpenAI(api_key="none", base_url=url, max_retries=0) as client:
        agent = Agent(OpenAIChatModel(model, provider=OpenAIProvider(openai_client=client)))
        async with agent.run_stream("Good morning") as result:
            yield result


async def pydantic_ai_texts(result: Any) -> AsyncIterator[str]:
    """The text's deltas."""
    async for text in result.stream_text(delta=True, debounce_by=None):
        yield text


@asynccontextmanager
async def llama_index(url: str, model: str = "gpt-4o-mini") -> AsyncIterator[Any]:
    from llama_index.core.llms import ChatMessage
    from llama_index.llms.openai import OpenAI

    llm = OpenAI(model="gpt-4o-mini", api_key="none", api_base=url, max_retries=0)
    yield await llm.astream_chat([ChatMessage(role="user", content="Good morning")])


async def llama_index_texts(stream: Any) -> AsyncIterator[str]:
    """`.delta`."""
    async for response in stream:
        if response.delta:
            yield response.delta


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
    Package("litellm openai", "litellm", "openai", _litellm("openai"), chat_texts),
    Package("litellm anthropic", "litellm", "anthropic", _litellm("anthropic"), chat_texts),
    Package("langchain openai", "langchain_openai", "openai", langchain_openai, langchain_texts),
    Package("langchain anthropic", "langchain_anthropic", "anthropic", langchain_anthropic, langchain_texts),
    Package("langgraph", "langgraph.graph", "openai", langgraph, langchain_texts),
    Package("openai-agents", "agents", "openai", openai_agents, openai_agents_texts),
    Package("pydantic-ai", "pydantic_ai", "openai", pydantic_ai, pydantic_ai_texts),
    Package("llama-index", "llama_index.llms.openai", "openai", llama_index, llama_index_texts),
    Package("aiohttp chat", "aiohttp", "openai", aiohttp_chat, aiohttp_texts),
)
