"""The user's side of calls with an LLM: the whole conversation goes to a package, and its stream is the answer.

`SE_BENCH_LLM` is JSON: `package`, a name of `PACKAGES`; `urls`, the base URLs by API. It imports nothing of bench, like
a user's file: every server has this function.
"""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

SETTINGS = json.loads(os.environ["SE_BENCH_LLM"])
URLS: Mapping[str, str] = SETTINGS["urls"]
ROLES = {"user": "user", "agent": "assistant"}
GEMINI_ROLES = {"user": "user", "agent": "model"}

Ask = Callable[[list[Any]], Awaitable[Any]]
"""Takes a transcript; gives the object for `send_response`."""


def messages_of(transcript: list[Any]) -> Any:
    """Return a transcript as OpenAI's and Anthropic's packages take it."""
    return [{"role": ROLES[message.role], "content": message.content} for message in transcript]


def openai() -> Ask:
    """OpenAI's package as it is."""
    from openai import AsyncOpenAI

    return _openai(AsyncOpenAI(api_key="none", base_url=URLS["openai"]))


def openai_over_aiohttp() -> Ask:
    """OpenAI's package with the transport that it brings along: one line."""
    from openai import AsyncOpenAI, DefaultAioHttpClient

    return _openai(AsyncOpenAI(api_key="none", base_url=URLS["openai"], http_client=DefaultAioHttpClient()))


def _openai(client: Any) -> Ask:
    def ask(transcript: list[Any]) -> Any:
        return client.chat.completions.create(model="fake", messages=messages_of(transcript), stream=True)

    return ask


def anthropic() -> Ask:
    """Anthropic's package as it is."""
    from anthropic import AsyncAnthropic

    client = AsyncAnthropic(api_key="none", base_url=URLS["anthropic"])

    def ask(transcript: list[Any]) -> Any:
        messages = messages_of(transcript)
        return client.messages.create(model="fake", max_tokens=1024, messages=messages, stream=True)

    return ask


def google_genai() -> Ask:
    """Google's package; with aiohttp installed it has no limit of connections."""
    from google import genai

    client = genai.Client(api_key="none", http_options={"base_url": URLS["gemini"]})

    def ask(transcript: list[Any]) -> Any:
        said: Any = [
            {"role": GEMINI_ROLES[message.role], "parts": [{"text": message.content}]} for message in transcript
        ]
        return client.aio.models.generate_content_stream(model="fake", contents=said)

    return ask


PACKAGES: Mapping[str, Callable[[], Ask]] = {
    "openai": openai,
    "openai over aiohttp": openai_over_aiohttp,
    "anthropic": anthropic,
    "google-genai": google_genai,
}

_ask: Ask | None = None


async def on_transcript(transcript: list[Any], session: Any) -> None:
    """Answer with a new stream; the client is made for the first turn, inside the event loop."""
    global _ask
    if _ask is None:
        _ask = PACKAGES[SETTINGS["package"]]()
    await session.send_response(await _ask(transcript))
