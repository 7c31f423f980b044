"""Packages over the SDKs, as their users call them: each opens a stream of the fake provider, the way its docs do."""

from __future__ import annotations

import os
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

MESSAGES = [{"role": "user", "content": "Good morning"}]
MODEL = "m"


def litellm(provider: str) -> Callable[[str, str], AbstractAsyncContextManager[Any]]:
    """Return the opener for the models of one of litellm's providers."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # its import would fetch a table of prices

    @asynccontextmanager
    async def opened(url: str, model: str = MODEL) -> AsyncIterator[Any]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import litellm as package

        options = {"api_key": "none", "api_base": url, "stream": True, "num_retries": 0}
        yield await package.acompletion(model=f"{provider}/{model}", messages=MESSAGES, **options)

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
    try:
        yield chat.astream("Good morning")
    finally:
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
