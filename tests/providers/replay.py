"""Raw events through the real SDKs: the objects that their own code makes of them, as a list."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

from tests.providers.script import Json, Script
from tests.providers.server import provider_in_thread


@contextmanager
def _url_of(api: str, events: Sequence[Json]) -> Iterator[str]:
    with provider_in_thread(Script.of_events(events)) as provider:
        yield provider.base_url(api)


def openai_chat(events: Sequence[Json]) -> list[Any]:
    """Return the chunks of `chat.completions.create(stream=True)`."""
    import openai

    with (
        _url_of("openai", events) as url,
        openai.OpenAI(api_key="none", base_url=url, max_retries=0) as client,
        client.chat.completions.create(model="m", messages=[], stream=True) as stream,
    ):
        return list(stream)


def openai_responses(events: Sequence[Json]) -> list[Any]:
    """Return the events of `responses.create(stream=True)`."""
    import openai

    with (
        _url_of("openai", events) as url,
        openai.OpenAI(api_key="none", base_url=url, max_retries=0) as client,
        client.responses.create(model="m", input="", stream=True) as stream,
    ):
        return list(stream)


def anthropic_create(events: Sequence[Json]) -> list[Any]:
    """Return the events of `messages.create(stream=True)`."""
    import anthropic

    with (
        _url_of("anthropic", events) as url,
        anthropic.Anthropic(api_key="none", base_url=url, max_retries=0) as client,
        client.messages.create(model="m", max_tokens=1, messages=[], stream=True) as stream,
    ):
        return list(stream)


def anthropic_stream(events: Sequence[Json]) -> list[Any]:
    """Return the events of `messages.stream()`: the same, and the SDK's own that repeat their text."""
    import anthropic

    with (
        _url_of("anthropic", events) as url,
        anthropic.Anthropic(api_key="none", base_url=url, max_retries=0) as client,
        client.messages.stream(model="m", max_tokens=1, messages=[]) as stream,
    ):
        return list(stream)


def gemini(events: Sequence[Json]) -> list[Any]:
    """Return the responses of `models.generate_content_stream()`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations inside the SDK, at import
        from google import genai

    with (
        _url_of("gemini", events) as url,
        closing(genai.Client(api_key="none", http_options={"base_url": url})) as client,
    ):
        return list(client.models.generate_content_stream(model="m", contents="x"))
