"""OpenAI's package, Azure's clients in it, and the packages of its form: groq, together."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.llm.rows import MESSAGES, MODEL, QUESTION, TEXT, Case, Package
from tests.providers import Script

CLOSE = "`close()`"
EXIT = "leaving the context manager, in the task that entered it"
THREAD = "`close()` in the thread that reads it; a waiting socket is shut down"

openai = Package("openai", "openai", "openai")
azure = Package("openai for Azure", "openai", "azure")
groq = Package("groq", "groq", "groq")
together = Package("together", "together", "together")
compatible = Package("APIs of OpenAI's form", "openai")


async def openai_client(case: Case, api: str = "openai") -> Any:
    """Return an asynchronous client."""
    from openai import AsyncOpenAI

    return await case.client(AsyncOpenAI(api_key="none", base_url=case.url(api), max_retries=0))


def openai_blocking(case: Case) -> Any:
    """Return a client that blocks."""
    from openai import OpenAI

    return case.blocking_client(OpenAI(api_key="none", base_url=case.url("openai"), max_retries=0))


async def azure_client(case: Case, version: str) -> Any:
    """Return an asynchronous client of Azure."""
    from openai import AsyncAzureOpenAI

    client = AsyncAzureOpenAI(api_key="none", azure_endpoint=case.url("azure"), api_version=version, max_retries=0)
    return await case.client(client)


CHAT: Any = {"model": MODEL, "messages": MESSAGES}
RESPONSE: Any = {"model": MODEL, "input": QUESTION}


# --- Chat Completions -----------------------------------------------------------------------------------------------


@openai.row("await client.chat.completions.create(..., stream=True)", closed_by=CLOSE)
async def chat(case: Case) -> Any:
    return await (await openai_client(case)).chat.completions.create(**CHAT, stream=True)


@openai.row("client.chat.completions.create(..., stream=True)", closed_by=CLOSE, note="The inner `await` is made.")
async def chat_not_awaited(case: Case) -> Any:
    return (await openai_client(case)).chat.completions.create(**CHAT, stream=True)


@openai.row("client.chat.completions.stream(...)", closed_by=EXIT)
async def chat_manager(case: Case) -> Any:
    return (await openai_client(case)).chat.completions.stream(**CHAT)


@openai.row("async with client.chat.completions.stream(...) as stream: stream", closed_by=CLOSE)
async def chat_manager_entered(case: Case) -> Any:
    return await case.enter((await openai_client(case)).chat.completions.stream(**CHAT))


@openai.row("await client.chat.completions.create(..., stream=True, n=2)", closed_by=CLOSE, note="Choice 0 is spoken.",
            script=Script(text=TEXT, choices=2))  # fmt: skip
async def chat_of_two(case: Case) -> Any:
    return await (await openai_client(case)).chat.completions.create(**CHAT, stream=True, n=2)


@openai.row("(chunk async for chunk in stream)", closed_by="`aclose()` of the generator, and of the response under it",
            note="Also a generator of your own around any stream.")  # fmt: skip
async def chat_generator(case: Case) -> Any:
    stream = await (await openai_client(case)).chat.completions.create(**CHAT, stream=True)
    return (chunk async for chunk in stream)


@openai.row("an async generator that yields chunk.choices[0].delta.content",
            closed_by="`aclose()` of the generator, and of the response under it")  # fmt: skip
async def chat_texts(case: Case) -> Any:
    client = await openai_client(case)

    async def texts() -> Any:
        async for chunk in await client.chat.completions.create(**CHAT, stream=True):
            if chunk.choices:
                yield chunk.choices[0].delta.content

    return texts()


@openai.row("await client.chat.completions.create(...)", is_stream=False, note="The whole answer at once.")
async def chat_whole(case: Case) -> Any:
    return await (await openai_client(case)).chat.completions.create(**CHAT)


@openai.row(
    "client.chat.completions.create(...)",
    closed_by="cancelling the request",
    is_stream=False,
    note="The `await` is made.",
)
async def chat_whole_not_awaited(case: Case) -> Any:
    return (await openai_client(case)).chat.completions.create(**CHAT)


@openai.row("OpenAI().chat.completions.create(..., stream=True)", closed_by=THREAD, note="Read in a thread of its own.")
async def chat_blocking(case: Case) -> Any:
    return openai_blocking(case).chat.completions.create(**CHAT, stream=True)


@openai.row("asyncio.to_thread(OpenAI().chat.completions.create, ..., stream=True)", closed_by=THREAD,
            note="The inner `await` is made.")  # fmt: skip
async def chat_in_thread(case: Case) -> Any:
    return asyncio.to_thread(openai_blocking(case).chat.completions.create, **CHAT, stream=True)


@openai.row("a generator around OpenAI().chat.completions.create(..., stream=True)", closed_by=THREAD,
            note="Read in a thread of its own.")  # fmt: skip
async def chat_blocking_generator(case: Case) -> Any:
    client = openai_blocking(case)

    def texts() -> Any:
        for chunk in client.chat.completions.create(**CHAT, stream=True):
            if chunk.choices and chunk.choices[0].delta.content:
                yield chunk.choices[0].delta.content

    return texts()


@openai.row("OpenAI().chat.completions.stream(...)", closed_by=THREAD, note="Read in a thread of its own.")
async def chat_blocking_manager(case: Case) -> Any:
    return openai_blocking(case).chat.completions.stream(**CHAT)


@openai.row("await client.chat.completions.with_raw_response.create(..., stream=True)", closed_by=CLOSE)
async def chat_raw(case: Case) -> Any:
    return await (await openai_client(case)).chat.completions.with_raw_response.create(**CHAT, stream=True)


@openai.row("client.chat.completions.with_streaming_response.create(..., stream=True)", closed_by=EXIT)
async def chat_streaming_response(case: Case) -> Any:
    return (await openai_client(case)).chat.completions.with_streaming_response.create(**CHAT, stream=True)


@openai.row("async with client.chat.completions.with_streaming_response.create(...) as response: response.iter_lines()",
            closed_by="closing the response")  # fmt: skip
async def chat_streaming_lines(case: Case) -> Any:
    manager = (await openai_client(case)).chat.completions.with_streaming_response.create(**CHAT, stream=True)
    return (await case.enter(manager)).iter_lines()


# --- Responses ------------------------------------------------------------------------------------------------------


@openai.row("await client.responses.create(..., stream=True)", closed_by=CLOSE)
async def responses(case: Case) -> Any:
    return await (await openai_client(case)).responses.create(**RESPONSE, stream=True)


@openai.row("client.responses.create(..., stream=True)", closed_by=CLOSE, note="The inner `await` is made.")
async def responses_not_awaited(case: Case) -> Any:
    return (await openai_client(case)).responses.create(**RESPONSE, stream=True)


@openai.row("client.responses.stream(...)", closed_by=EXIT)
async def responses_manager(case: Case) -> Any:
    return (await openai_client(case)).responses.stream(**RESPONSE)


@openai.row("async with client.responses.stream(...) as stream: stream", closed_by=CLOSE)
async def responses_manager_entered(case: Case) -> Any:
    return await case.enter((await openai_client(case)).responses.stream(**RESPONSE))


@openai.row("await client.responses.create(...)", is_stream=False, note="The whole answer at once.")
async def responses_whole(case: Case) -> Any:
    return await (await openai_client(case)).responses.create(**RESPONSE)


@openai.row("response.model_dump()", is_stream=False, note="A response as a dict; so are the other APIs'.")
async def response_as_dict(case: Case) -> Any:
    return (await (await openai_client(case)).responses.create(**RESPONSE)).model_dump()


@openai.row("client.responses.with_raw_response.create(...)", closed_by="cancelling the request", is_stream=False,
            note="The whole answer at once.")  # fmt: skip
async def responses_whole_raw(case: Case) -> Any:
    return (await openai_client(case)).responses.with_raw_response.create(**RESPONSE)


@openai.row("OpenAI().responses.create(..., stream=True)", closed_by=THREAD, note="Read in a thread of its own.")
async def responses_blocking(case: Case) -> Any:
    return openai_blocking(case).responses.create(**RESPONSE, stream=True)


@openai.row("OpenAI().responses.stream(...)", closed_by=THREAD, note="Read in a thread of its own.")
async def responses_blocking_manager(case: Case) -> Any:
    return openai_blocking(case).responses.stream(**RESPONSE)


@openai.row("await client.responses.with_raw_response.create(..., stream=True)", closed_by=CLOSE)
async def responses_raw(case: Case) -> Any:
    return await (await openai_client(case)).responses.with_raw_response.create(**RESPONSE, stream=True)


@openai.row("client.responses.with_streaming_response.create(..., stream=True)", closed_by=EXIT)
async def responses_streaming_response(case: Case) -> Any:
    return (await openai_client(case)).responses.with_streaming_response.create(**RESPONSE, stream=True)


@openai.refused("AsyncOpenAI()", "responses.create", api="")
async def openai_itself(case: Case) -> Any:
    return await openai_client(case)


@openai.refused("client.chat.completions.create", "call it", api="")
async def chat_not_called(case: Case) -> Any:
    return (await openai_client(case)).chat.completions.create


# --- Azure, and APIs of OpenAI's form -------------------------------------------------------------------------------


@azure.row("await client.chat.completions.create(..., stream=True)", closed_by=CLOSE)
async def azure_chat(case: Case) -> Any:
    return await (await azure_client(case, "2024-10-21")).chat.completions.create(**CHAT, stream=True)


@azure.row("await client.responses.create(..., stream=True)", closed_by=CLOSE)
async def azure_responses(case: Case) -> Any:
    return await (await azure_client(case, "2025-04-01-preview")).responses.create(**RESPONSE, stream=True)


@compatible.row('AsyncOpenAI(base_url=DeepSeek\'s): `reasoning_content` beside `content`', closed_by=CLOSE,
                api="deepseek")  # fmt: skip
async def deepseek(case: Case) -> Any:
    return await (await openai_client(case, "deepseek")).chat.completions.create(**CHAT, stream=True)


@compatible.row("AsyncOpenAI(base_url=OpenRouter's): `reasoning` beside `content`", closed_by=CLOSE, api="openrouter")
async def openrouter(case: Case) -> Any:
    return await (await openai_client(case, "openrouter")).chat.completions.create(**CHAT, stream=True)


# --- groq, together -------------------------------------------------------------------------------------------------


async def groq_client(case: Case) -> Any:
    """Return an asynchronous client of groq."""
    from groq import AsyncGroq

    return await case.client(AsyncGroq(api_key="none", base_url=case.url("groq"), max_retries=0))


@groq.row("await client.chat.completions.create(..., stream=True)", closed_by=CLOSE)
async def groq_chat(case: Case) -> Any:
    return await (await groq_client(case)).chat.completions.create(**CHAT, stream=True)


@groq.row("client.chat.completions.create(..., stream=True)", closed_by=CLOSE, note="The inner `await` is made.")
async def groq_not_awaited(case: Case) -> Any:
    return (await groq_client(case)).chat.completions.create(**CHAT, stream=True)


@groq.row("await client.chat.completions.create(...)", is_stream=False, note="The whole answer at once.")
async def groq_whole(case: Case) -> Any:
    return await (await groq_client(case)).chat.completions.create(**CHAT)


@groq.row("Groq().chat.completions.create(..., stream=True)", closed_by=THREAD, note="Read in a thread of its own.")
async def groq_blocking(case: Case) -> Any:
    from groq import Groq

    client = case.blocking_client(Groq(api_key="none", base_url=case.url("groq"), max_retries=0))
    return client.chat.completions.create(**CHAT, stream=True)


async def together_client(case: Case) -> Any:
    """Return an asynchronous client of together."""
    from together import AsyncTogether

    return await case.client(AsyncTogether(api_key="none", base_url=case.url("together"), max_retries=0))


@together.row("await client.chat.completions.create(..., stream=True)", closed_by=CLOSE)
async def together_chat(case: Case) -> Any:
    return await (await together_client(case)).chat.completions.create(**CHAT, stream=True)


@together.row("client.chat.completions.create(..., stream=True)", closed_by=CLOSE, note="The inner `await` is made.")
async def together_not_awaited(case: Case) -> Any:
    return (await together_client(case)).chat.completions.create(**CHAT, stream=True)


@together.row("await client.chat.completions.create(...)", is_stream=False, note="The whole answer at once.")
async def together_whole(case: Case) -> Any:
    return await (await together_client(case)).chat.completions.create(**CHAT)


@together.row("Together().chat.completions.create(..., stream=True)", closed_by=THREAD,
              note="Read in a thread of its own.")  # fmt: skip
async def together_blocking(case: Case) -> Any:
    from together import Together

    client = case.blocking_client(Together(api_key="none", base_url=case.url("together"), max_retries=0))
    return client.chat.completions.create(**CHAT, stream=True)
