"""The packages of Google, Mistral, Cohere, Ollama and AWS."""

from __future__ import annotations

import asyncio
import json
import warnings
from typing import Any

from tests.llm.rows import MESSAGES, MODEL, QUESTION, Case, Package
from tests.llm.rows_anthropic import UNDERNEATH
from tests.llm.rows_openai import CLOSE, THREAD

google = Package("google-genai", "google.genai", "gemini")
mistral = Package("mistralai", "mistralai", "mistral")
cohere = Package("cohere", "cohere", "cohere")
ollama = Package("ollama", "ollama", "ollama")
bedrock = Package("boto3 (Bedrock)", "boto3", "bedrock")

ACLOSE = "`aclose()`"
IN_A_THREAD = "Read in a thread of its own."
WHOLE = "The whole answer at once."
AWAITED = "The inner `await` is made."


# --- Google ---------------------------------------------------------------------------------------------------------

CONTENTS: Any = {"model": MODEL, "contents": QUESTION}


async def google_client(case: Case) -> Any:
    """Return a client; it has both sides."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside the package, at import
        from google import genai

    client = genai.Client(api_key="none", http_options={"base_url": case.url("gemini")})
    case.at_end(client.close)
    case.at_end(client.aio.aclose)
    return client


@google.row("await client.aio.models.generate_content_stream(...)", closed_by=UNDERNEATH)
async def gemini(case: Case) -> Any:
    return await (await google_client(case)).aio.models.generate_content_stream(**CONTENTS)


@google.row("client.aio.models.generate_content_stream(...)", closed_by=UNDERNEATH, note=AWAITED)
async def gemini_not_awaited(case: Case) -> Any:
    return (await google_client(case)).aio.models.generate_content_stream(**CONTENTS)


@google.row("await chat.send_message_stream(...)", closed_by=UNDERNEATH)
async def gemini_chat(case: Case) -> Any:
    return await (await google_client(case)).aio.chats.create(model=MODEL).send_message_stream(QUESTION)


@google.row("(chunk.text async for chunk in stream)", closed_by=UNDERNEATH)
async def gemini_texts(case: Case) -> Any:
    stream = await (await google_client(case)).aio.models.generate_content_stream(**CONTENTS)
    return (chunk.text async for chunk in stream)


@google.row("await client.aio.models.generate_content(...)", is_stream=False, note=WHOLE)
async def gemini_whole(case: Case) -> Any:
    return await (await google_client(case)).aio.models.generate_content(**CONTENTS)


@google.row("client.models.generate_content_stream(...)", closed_by=THREAD, note=IN_A_THREAD)
async def gemini_blocking(case: Case) -> Any:
    return (await google_client(case)).models.generate_content_stream(**CONTENTS)


@google.refused("client.aio", "generate_content_stream", api="")
async def google_itself(case: Case) -> Any:
    return (await google_client(case)).aio


# --- Mistral --------------------------------------------------------------------------------------------------------

CHAT: Any = {"model": MODEL, "messages": MESSAGES}


async def mistral_client(case: Case) -> Any:
    """Return a client; it has both sides."""
    try:
        from mistralai.client import Mistral
    except ImportError:  # before 2.0
        from mistralai import Mistral

    return await case.client(Mistral(api_key="none", server_url=case.url("mistral")))


@mistral.row("await client.chat.stream_async(...)", closed_by=CLOSE, note="`content` may be a list of parts.")
async def mistral_chat(case: Case) -> Any:
    return await (await mistral_client(case)).chat.stream_async(**CHAT)


@mistral.row("client.chat.stream_async(...)", closed_by=CLOSE, note=AWAITED)
async def mistral_not_awaited(case: Case) -> Any:
    return (await mistral_client(case)).chat.stream_async(**CHAT)


@mistral.row("async with await client.chat.stream_async(...) as stream: stream", closed_by=CLOSE)
async def mistral_entered(case: Case) -> Any:
    return await case.enter(await (await mistral_client(case)).chat.stream_async(**CHAT))


@mistral.row("await client.chat.complete_async(...)", is_stream=False, note=WHOLE)
async def mistral_whole(case: Case) -> Any:
    return await (await mistral_client(case)).chat.complete_async(**CHAT)


@mistral.row("client.chat.stream(...)", closed_by=THREAD, note=IN_A_THREAD)
async def mistral_blocking(case: Case) -> Any:
    return (await mistral_client(case)).chat.stream(**CHAT)


# --- Cohere ---------------------------------------------------------------------------------------------------------


async def cohere_client(case: Case) -> Any:
    """Return an asynchronous client."""
    from cohere import AsyncClientV2

    return await case.client(AsyncClientV2(api_key="none", base_url=case.url("cohere")))


def cohere_blocking_client(case: Case) -> Any:
    """Return a client that blocks."""
    from cohere import ClientV2

    return case.blocking_client(ClientV2(api_key="none", base_url=case.url("cohere")))


@cohere.row("AsyncClientV2().chat_stream(...)", closed_by=ACLOSE)
async def cohere_chat(case: Case) -> Any:
    return (await cohere_client(case)).chat_stream(**CHAT)


@cohere.row("await AsyncClientV2().chat(...)", is_stream=False, note=WHOLE)
async def cohere_whole(case: Case) -> Any:
    return await (await cohere_client(case)).chat(**CHAT)


@cohere.row("ClientV2().chat_stream(...)", closed_by=THREAD, note=IN_A_THREAD)
async def cohere_blocking(case: Case) -> Any:
    return cohere_blocking_client(case).chat_stream(**CHAT)


# --- Ollama ---------------------------------------------------------------------------------------------------------


async def ollama_client(case: Case) -> Any:
    """Return an asynchronous client."""
    from ollama import AsyncClient

    client = AsyncClient(host=case.url("ollama"))
    case.at_end(client._client.aclose)
    return client


@ollama.row("await AsyncClient().chat(..., stream=True)", closed_by=ACLOSE)
async def ollama_chat(case: Case) -> Any:
    return await (await ollama_client(case)).chat(**CHAT, stream=True)


@ollama.row("AsyncClient().chat(..., stream=True)", closed_by=ACLOSE, note=AWAITED)
async def ollama_not_awaited(case: Case) -> Any:
    return (await ollama_client(case)).chat(**CHAT, stream=True)


@ollama.row("await AsyncClient().chat(...)", is_stream=False, note=WHOLE)
async def ollama_whole(case: Case) -> Any:
    return await (await ollama_client(case)).chat(**CHAT)


@ollama.row("ollama.chat(..., stream=True)", closed_by=THREAD, note=IN_A_THREAD)
async def ollama_blocking(case: Case) -> Any:
    from ollama import Client

    client = Client(host=case.url("ollama"))
    case.at_end(client._client.close)
    return client.chat(**CHAT, stream=True)


# --- AWS ------------------------------------------------------------------------------------------------------------

CONVERSE: Any = {"modelId": MODEL, "messages": [{"role": "user", "content": [{"text": QUESTION}]}]}
SOCKET = "`close()`; a waiting socket is shut down"


async def bedrock_client(case: Case) -> Any:
    """Return a client, which blocks."""
    import boto3

    keys = {"aws_access_key_id": "none", "aws_secret_access_key": "none"}
    make = lambda: boto3.client("bedrock-runtime", region_name="us-east-1", endpoint_url=case.url("bedrock"), **keys)  # noqa: E731
    client = await asyncio.to_thread(make)
    case.at_end(client.close)
    return client


@bedrock.row("client.converse_stream(...)", closed_by=SOCKET, note=IN_A_THREAD)
async def converse(case: Case) -> Any:
    return (await bedrock_client(case)).converse_stream(**CONVERSE)


@bedrock.row('client.converse_stream(...)["stream"]', closed_by=SOCKET, note=IN_A_THREAD)
async def converse_events(case: Case) -> Any:
    return (await bedrock_client(case)).converse_stream(**CONVERSE)["stream"]


@bedrock.row("asyncio.to_thread(client.converse_stream, ...)", closed_by=SOCKET, note=AWAITED)
async def converse_in_thread(case: Case) -> Any:
    return asyncio.to_thread((await bedrock_client(case)).converse_stream, **CONVERSE)


@bedrock.row('client.invoke_model_with_response_stream(...)["body"]', closed_by=SOCKET, note=IN_A_THREAD)
async def invoke_events(case: Case) -> Any:
    body = json.dumps({"anthropic_version": "bedrock-2023-05-31", "max_tokens": 1024, "messages": MESSAGES})
    return (await bedrock_client(case)).invoke_model_with_response_stream(modelId=MODEL, body=body)["body"]


@bedrock.row("client.converse(...)", is_stream=False, note=WHOLE)
async def converse_whole(case: Case) -> Any:
    return (await bedrock_client(case)).converse(**CONVERSE)
