"""Takeover in conversations: the caller, `on_error` and the turn get what they get from the package's objects."""

from __future__ import annotations

import asyncio
import functools
import logging
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

import se_server
from se_server.streams import opening, responses, takeover
from se_server.streams.takeover import takeover_of
from tests.llm.bodies import HEAD, RawProvider, by_objects, by_takeover, chunked
from tests.llm.rows import FULL, MESSAGES, Row, all_rows, installed
from tests.llm.stage import FAILURE_TEXT, speak
from tests.llm.test_takeover_bytes import DONE, text_event
from tests.providers import Failure, Provider, Script, Tool

pytestmark = pytest.mark.filterwarnings("ignore")  # the packages' own

TAKEN = {
    "openai": (
        "await client.chat.completions.create(..., stream=True)",
        "await client.responses.create(..., stream=True)",
    ),
    "openai for Azure": ("chat", "responses"),
    "groq": ("create",),
    "together": ("create",),
    "anthropic": ("await client.messages.create(..., stream=True)",),
    "mistralai": ("stream_async",),
    "aiohttp": ("post(...): OpenAI", "post(...): Anthropic", "post(...): Gemini"),
}  # fmt: skip
# The texts of ours, and where they may be cut: in characters, in line ends, in numbers.
WORDS = ("Grüezi", " mitenand", " 🙂", "!\n", "Wie", " gaht's", "?\u2028", "\u0085", " 21 °C")
PLAIN = Script(text=WORDS)
SCRIPTS = {
    "everything": FULL,
    "plain": PLAIN,
    "bytes": PLAIN.but(cut_bytes=(1, 1)),
    "anywhere": FULL.but(cut_bytes=(1, 40), seed=7),
    "CRLF": PLAIN.but(crlf=True, cut_bytes=(1, 9)),
    "escaped": PLAIN.but(ascii=True),
    "gzip": PLAIN.but(gzip=True),
    "two choices": PLAIN.but(choices=2),
    "pings": PLAIN.but(ping_every_s=0.02, tokens_per_s=20),
    "tools alone": Script(text="", tools=(Tool(),)),
    "reasoning alone": Script(text="", reasoning="The user greets."),
    "a refusal": Script(refusal="I will not do that."),
    "cut by length": PLAIN.but(finish="length"),
    "filtered": PLAIN.but(finish="content_filter"),
    "filtered without text": Script(text="", finish="content_filter"),
    "nothing": Script(text=""),
    "an error": PLAIN.but(failure=Failure(3, message="It broke")),
    "an error at once": PLAIN.but(failure=Failure(0, message="It broke")),
    "a nested error": PLAIN.but(failure=Failure(3, "nested_error", message="It broke")),
    "failed": PLAIN.but(failure=Failure(3, "failed", message="It broke")),
    "incomplete": PLAIN.but(failure=Failure(3, "incomplete", message="max_output_tokens")),
    "dropped": PLAIN.but(failure=Failure(3, "drop")),
    "ended": PLAIN.but(failure=Failure(3, "end")),
    "status 400": Script(status=400, message="No such model"),
    "status 500": Script(status=500, message="It broke"),
    "unknown events": Script.of_events([{"hello": "world"}] * 3),
    "a character in two texts": PLAIN.but(text=("Hi \ud83d", "\ude42!", " there")),
    "half of a character": PLAIN.but(text=("Hi \ud83d", " there")),
    "the other half": PLAIN.but(text=("Hi ", "\ude42", " there")),
    "a half in the midst": PLAIN.but(text=("Hi \ud83d there", "!")),
    "a half at the end": PLAIN.but(text=("Hi", "\ud83d")),
    "ten unknown events": Script.of_events([{"hello": "world"}] * 10),
}


def taken_rows() -> list[Row]:
    rows = [row for row in all_rows() if row.is_installed and row.api and row.is_stream and not row.is_refused]
    rows = [row for row in rows if row.passed.startswith("await")]
    return [row for row in rows if any(part in row.passed for part in TAKEN.get(row.package, ()))]


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The streams that were taken over."""
    seen: list[Any] = []

    def noting(function: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*args: Any) -> Any:
            found = function(*args)
            if found is not None:
                seen.append(found)
            return found

        return noted

    monkeypatch.setattr(opening, "takeover_of", noting(takeover_of))
    monkeypatch.setattr(responses, "taken_over", noting(responses.taken_over))
    return seen


@pytest.mark.parametrize("row", taken_rows(), ids=lambda row: row.name)
async def test_conversations_are_those_of_the_packages_objects(row: Row, provider: Provider, taken: list[Any]) -> None:
    differing = {}
    for name, script in SCRIPTS.items():
        objects = replace(row, options={**row.options, "takeover": False})
        expected = await speak(objects, provider, script, failure_text=FAILURE_TEXT)
        assert not taken, "takeover=False was not heeded"
        heard = await speak(row, provider, script, failure_text=FAILURE_TEXT)
        if script.status == 200 and not taken:
            differing[name] = (expected, "it was not taken over")
        taken.clear()
        for each in (expected, heard):
            each.logged = [line for line in each.logged if " blocks the event loop" not in line]
        if heard != expected:
            differing[name] = (expected, heard)
    assert not differing, "\n".join(f"{name}: {pair[0]}\n   not {pair[1]}" for name, pair in differing.items())


# --- streams that are left to their package -------------------------------------------------------------------------


def wrapped(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


async def traced(iterator: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for item in iterator:
        yield item


def replace_iterator(stream: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    stream._iterator = traced(stream._iterator)
    return stream


def replace_attribute(stream: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    stream.langfuse_span = object()
    return stream


def replace_close(stream: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    stream.close = wrapped(stream.close)
    return stream


def patch_class(stream: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(type(stream), "__anext__", wrapped(type(stream).__anext__))
    return stream


def patch_events(stream: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    async def _iter_events(self: Any) -> AsyncIterator[Any]:
        async for item in self._decoder.aiter_bytes(self.response.aiter_bytes()):
            yield item

    monkeypatch.setattr(type(stream), "_iter_events", _iter_events)
    return stream


def patch_client(stream: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    stream._client._process_response_data = wrapped(stream._client._process_response_data)
    return stream


def patch_response(stream: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    stream.response.aiter_bytes = wrapped(stream.response.aiter_bytes)
    return stream


def patch_response_class(stream: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(type(stream.response), "aiter_bytes", wrapped(type(stream.response).aiter_bytes))
    return stream


def subclass(stream: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    stream.__class__ = type("AsyncStream", (type(stream),), {"__module__": "openai"})
    stream.__class__.__anext__ = lambda self: self._iterator.__anext__()
    return stream


def wrap(stream: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    class AsyncStream:
        def __init__(self) -> None:
            self._stream = stream

        def __getattr__(self, name: str) -> Any:
            return getattr(stream, name)

        def __aiter__(self) -> Any:
            return traced(stream)

    return AsyncStream()


def register(stream: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    se_server.register_extractor("openai.types.chat.ChatCompletionChunk", lambda chunk: "x")
    return stream


def newer(stream: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    import openai

    monkeypatch.setattr(openai, "__version__", "99.0.0")
    return stream


LEFT = [
    replace_iterator, replace_attribute, replace_close, patch_class, patch_events, patch_client, patch_response,
    patch_response_class, subclass, wrap, register, newer,
]  # fmt: skip


@asynccontextmanager
async def openai_stream(provider: Provider) -> AsyncIterator[Any]:
    openai: Any = pytest.importorskip("openai")
    provider.default = PLAIN
    async with openai.AsyncOpenAI(api_key="none", base_url=provider.base_url("openai"), max_retries=0) as client:
        yield await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)


@pytest.mark.parametrize("change", LEFT, ids=lambda change: change.__name__)
async def test_stream_that_was_changed_is_left_alone(
    change: Callable[..., Any], provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with openai_stream(provider) as stream:
        try:
            assert takeover_of(change(stream, monkeypatch)) is None
        finally:
            se_server.register_extractor("openai.types.chat.ChatCompletionChunk", None)


async def test_stream_that_was_read_is_left_alone(provider: Provider) -> None:
    async with openai_stream(provider) as stream:
        await stream.__anext__()
        assert takeover_of(stream) is None


async def test_helper_streams_are_left_alone(provider: Provider) -> None:
    openai: Any = pytest.importorskip("openai")
    async with openai.AsyncOpenAI(api_key="none", base_url=provider.base_url("openai")) as client:
        async with client.chat.completions.stream(model="m", messages=MESSAGES) as stream:
            assert takeover_of(stream) is None
        async with client.responses.stream(model="m", input="Hello") as stream:
            assert takeover_of(stream) is None


async def test_version_that_was_not_tested_is_logged_once(
    provider: Provider, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(takeover, "_reported", set())
    caplog.set_level(logging.INFO, "se_server")
    for _ in range(2):
        async with openai_stream(provider) as stream:
            assert takeover_of(newer(stream, monkeypatch)) is None
    assert [record.getMessage() for record in caplog.records if record.name == "se_server.session"] == [
        "openai 99.0.0 is not among the tested versions (2.54 to below 4): its streams are iterated as they are"
    ]


# --- TLS ------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not installed("openai"), reason="needs openai")
@pytest.mark.parametrize("ends", [True, False])
async def test_connection_with_tls_is_read_and_kept(ends: bool) -> None:
    import openai
    import trustme

    authority = trustme.CA()
    served, trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1").configure_cert(served)
    authority.configure_trust(trusting)
    events = [text_event("openai chat", f"word {number} ") for number in range(200)]
    expected = "".join(f"word {number} " for number in range(200))
    provider = RawProvider(pieces=[HEAD, *chunked([*events, DONE] if ends else events, ends=ends)])
    if not ends:
        provider.pieces.append(None)
    server = await asyncio.start_server(provider.answer, "127.0.0.1", 0, ssl=served)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    http: Any = openai.DefaultAsyncHttpxClient(verify=trusting)
    client: Any = openai.AsyncOpenAI(api_key="none", base_url=url, max_retries=0, http_client=http)
    made = {}
    async with client:
        for read in (by_objects, by_takeover):
            before, outcomes = provider.connections, []
            for _ in range(3):
                stream = await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
                outcomes.append(await read(stream))
                assert outcomes[-1].text == expected
                assert bool(outcomes[-1].error) is not ends
            made[read] = (outcomes, provider.connections - before or 1)
    # The first reader makes the connection that the second one finds.
    assert made[by_takeover] == made[by_objects]
    server.close()
