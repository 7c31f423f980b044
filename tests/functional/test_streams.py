"""Everything that `send_response` takes, with the packages at hand: opened, spoken, closed; or refused and closed."""

from __future__ import annotations

import asyncio
import threading
from collections import UserString
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from enum import Enum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import anthropic
import anyio
import httpx
import openai
import pytest

from se_server.conversation.settings import SessionSettings
from se_server.streams.blocking import QUEUE_ITEMS, BlockingIterator
from tests.functional.conversation.stage import Eventually, serving
from tests.helpers import ANSWER_TIMEOUT_S
from tests.providers import Provider, Script, running_provider
from tests.providers.packages import MESSAGES

TEXT = "Good morning! It is 21 °C in Zürich today 🙂. Anything else?"
CHAT = {"model": "m", "messages": MESSAGES, "stream": True}


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    async with running_provider(Script(text=TEXT)) as provider:
        yield provider


class Heard:
    """What became of one answer."""

    def __init__(self) -> None:
        self.text = ""
        self.errors: list[BaseException] = []


async def speak(given: Any, settings: SessionSettings | None = None) -> Heard:
    """Answer one transcript with what is given, and return what was heard."""
    heard = Heard()

    async def on_transcript(transcript: Any, session: Any) -> None:
        await session.send_response(given)

    def on_error(error: BaseException, session: Any) -> None:
        heard.errors.append(error)

    async with serving("own", settings, on_transcript=on_transcript, on_error=on_error) as stage, stage.call() as api:
        await api.say("hello", event_id=1)
        heard.text = "".join(text for _, text in await api.answer())
    return heard


def openai_client(provider: Provider) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(api_key="none", base_url=provider.base_url("openai"), max_retries=0)


class Task:
    """An async context manager that notes the tasks that enter, iterate and leave it, and why it is left."""

    def __init__(self, *texts: Any) -> None:
        self.texts = texts
        self.tasks: list[Any] = []
        self.reason: type[BaseException] | None = None

    async def __aenter__(self) -> AsyncIterator[str]:
        self.tasks.append(asyncio.current_task())
        return self.iterate()

    async def iterate(self) -> AsyncIterator[str]:
        self.tasks.append(asyncio.current_task())
        for text in self.texts:
            yield text if isinstance(text, str) else await text

    async def __aexit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self.tasks.append(asyncio.current_task())
        self.reason = kind


async def texts_of(*texts: str) -> AsyncIterator[str]:
    for text in texts:
        yield text


async def text() -> str:
    return "one"


async def stream() -> AsyncIterator[str]:
    return texts_of("o", "ne")


def generator() -> Iterator[str]:
    yield from ("o", "ne")


class Words(str, Enum):
    ONE = "one"


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: ["o", "ne"], id="list"),
        pytest.param(lambda: iter(("o", "ne")), id="iterator"),
        pytest.param(generator, id="generator"),
        pytest.param(text, id="coroutine of a text"),
        pytest.param(stream, id="coroutine of a stream"),
        pytest.param(lambda: asyncio.ensure_future(text()), id="task"),
        pytest.param(lambda: asyncio.to_thread(generator), id="generator made in a thread"),
        pytest.param(lambda: Task("o", "ne"), id="manager"),
        pytest.param(lambda: {"choices": [{"message": {"content": "one"}}]}, id="chat completion as a dict"),
        pytest.param(lambda: {"role": "assistant", "content": [{"type": "text", "text": "one"}]}, id="message"),
        pytest.param(lambda: {"output": {"message": {"content": [{"text": "one"}]}}}, id="converse"),
        pytest.param(lambda: Words.ONE, id="member of an enumeration of texts"),
        pytest.param(lambda: [Words.ONE], id="list of it"),
        pytest.param(lambda: UserString("one"), id="UserString"),
    ],
)
async def test_what_gives_texts_is_spoken(make: Any) -> None:
    heard = await speak(make())
    assert (heard.text, heard.errors) == ("one", [])


async def test_one_task_enters_iterates_and_leaves() -> None:
    manager = Task("one")
    await speak(manager)
    assert len(set(manager.tasks)) == 1
    assert len(manager.tasks) == 3
    assert manager.reason is None


async def test_interrupted_manager_is_left_with_the_cancellation() -> None:
    """Left without it, some managers read the rest of the answer."""
    log = Eventually()
    manager = Task("one", asyncio.get_running_loop().create_future())

    async def on_transcript(transcript: Any, session: Any) -> None:
        if len(transcript) > 1:
            return
        try:
            await session.send_response(manager)
        finally:
            log.add("over")

    async with serving("own", None, on_transcript=on_transcript) as stage, stage.call() as api:
        await api.say("hello", event_id=1)
        await api.receive()
        await api.say("hello", "one", "stop", event_id=2)
        await log.until("over")
    assert manager.reason is asyncio.CancelledError
    assert len(set(manager.tasks)) == 1


async def test_blocking_generator_is_closed_by_its_own_thread() -> None:
    log = Eventually()
    threads: list[int] = []

    def endless() -> Iterator[str]:
        threads.append(threading.get_ident())
        try:
            while True:
                yield "word " * 100
        finally:
            threads.append(threading.get_ident())

    async def on_transcript(transcript: Any, session: Any) -> None:
        if len(transcript) > 1:
            return
        try:
            await session.send_response(endless())
        finally:
            log.add("over")

    async with serving("own", None, on_transcript=on_transcript) as stage, stage.call() as api:
        await api.say("hello", event_id=1)
        await api.receive()
        await api.say("hello", "one", "stop", event_id=2)
        await log.until("over")
    assert len(threads) == 2
    assert len(set(threads)) == 1
    assert threads[0] != threading.get_ident()
    for thread in threading.enumerate():
        if thread.name == "se-server stream":
            thread.join(ANSWER_TIMEOUT_S)
            assert not thread.is_alive()


async def test_thread_that_does_not_end_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    log = Eventually()
    release = threading.Event()

    def stuck() -> Iterator[str]:
        yield "one"
        release.wait()

    async def on_transcript(transcript: Any, session: Any) -> None:
        if len(transcript) > 1:
            return
        try:
            await session.send_response(stuck())
        finally:
            log.add("over")

    settings = SessionSettings(stream_close_s=0.05)
    async with serving("own", settings, on_transcript=on_transcript) as stage, stage.call() as api:
        await api.say("hello", event_id=1)
        await api.receive()
        await api.say("hello", "one", "stop", event_id=2)
        await log.until("over")
        assert stage.server.stats.streams_left == 1
    release.set()
    assert "blocks its thread" in caplog.text


async def test_blocking_text_stream_closes_its_request(provider: Provider) -> None:
    provider.default = Script(text=("word ",) * 5 * QUEUE_ITEMS, hold_after=4 * QUEUE_ITEMS)
    with anthropic.Anthropic(api_key="none", base_url=provider.base_url("anthropic"), max_retries=0) as client:
        manager = client.messages.stream(model="m", max_tokens=9, messages=[{"role": "user", "content": "Hello"}])
        texts = (await asyncio.to_thread(manager.__enter__)).text_stream
        events = BlockingIterator(texts)
        await events.__anext__()
        # The thread waits for room then, not for the socket.
        while len(events._items) < QUEUE_ITEMS - 1:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        await events.aclose()
        await provider.requests[0].disconnected(timeout_s=ANSWER_TIMEOUT_S)


# --- refused --------------------------------------------------------------------------------------------------------


def words() -> AsyncIterator[str]:
    return texts_of("one")


class Closable:
    """An object that cannot be spoken, with a request behind it."""

    def __init__(self) -> None:
        self.closed = 0

    async def aclose(self) -> None:
        self.closed += 1


class Model:
    """An object that iterates over its fields, as pydantic's models do."""

    def __init__(self, **fields: str) -> None:
        self.__dict__ = fields

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self.__dict__.items())

    def model_dump(self) -> dict[str, str]:
        return self.__dict__


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (None, "None"),
        (7, "not int: pass str(value)"),
        (b"text", "not bytes: decode it"),
        ({"x": 1}, "a dict with 'x'"),
        (texts_of, "call it, as in send_response(texts_of())"),
        (text, "call it, as in send_response(await text())"),
        (words, "the function words: call it"),
        (Closable, "not the class"),
        (Closable(), "not tests.Closable"),
        (SimpleNamespace(text="one"), "not types.SimpleNamespace: pass its .text"),
        (Model(content="one"), "not tests.Model: pass its .content"),
        (Path("answer.txt"), "Path: pass the text"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
async def test_refusal_names_the_object_and_the_way_out(given: Any, named: str) -> None:
    heard = await speak(given)
    assert heard.text == ""
    [error] = heard.errors
    assert isinstance(error, TypeError)
    assert named in str(error)


async def test_what_is_refused_is_closed() -> None:
    refused = Closable()
    await speak(refused)
    assert refused.closed == 1
    held = Closable()
    await speak({"unknown": held})
    assert held.closed == 1


async def test_client_is_refused_and_stays_open(provider: Provider) -> None:
    async with openai_client(provider) as client:
        heard = await speak(client)
        assert "client.responses.create(..., stream=True)" in str(heard.errors[0])
        assert not client.is_closed()


# --- HTTP and packages ----------------------------------------------------------------------------------------------


@asynccontextmanager
async def requested(provider: Provider, kind: str) -> AsyncIterator[Any]:
    """Give one of the objects that stand for a request to the provider."""
    url = f"{provider.base_url('openai')}/chat/completions"
    async with openai_client(provider) as client, httpx.AsyncClient() as http, aiohttp.ClientSession() as session:
        if kind == "openai coroutine":
            yield client.chat.completions.create(**CHAT)  # type: ignore[call-overload]
        elif kind == "openai manager":
            yield client.responses.stream(model="m", input="Good morning")
        elif kind == "openai raw":
            yield await client.chat.completions.with_raw_response.create(**CHAT)  # type: ignore[call-overload]
        elif kind == "openai whole":
            yield client.responses.create(model="m", input="Good morning")
        elif kind == "httpx response":
            yield await http.send(http.build_request("POST", url, json=CHAT), stream=True)
        elif kind == "httpx manager":
            yield http.stream("POST", url, json=CHAT)
        elif kind == "httpx lines":
            yield (await http.send(http.build_request("POST", url, json=CHAT), stream=True)).aiter_lines()
        elif kind == "aiohttp request":
            yield session.post(url, json=CHAT)
        elif kind == "aiohttp content":
            async with await session.post(url, json=CHAT) as response:
                yield response.content
        else:
            raise ValueError(kind)


HTTP = ("httpx response", "httpx manager", "httpx lines", "aiohttp request")
KINDS = (*HTTP, "aiohttp content", "openai coroutine", "openai manager", "openai raw", "openai whole")


@pytest.mark.parametrize("kind", KINDS)
async def test_request_is_spoken(provider: Provider, kind: str) -> None:
    async with requested(provider, kind) as given:
        heard = await speak(given)
    assert (heard.text, heard.errors) == (TEXT, [])


# anyio cancels the task that connects, and goes on; so does a limit of the stream's own.
CLOSES_AT_ONCE = SessionSettings(stream_close_s=0.05)


@pytest.mark.parametrize("kind", ["openai coroutine", "openai manager", "httpx manager", "aiohttp request"])
async def test_new_connection_may_answer_late(provider: Provider, kind: str) -> None:
    provider.default = Script(text=TEXT, headers_after_s=0.4, first_token_s=0.2)
    async with requested(provider, kind) as given:
        heard = await speak(given, CLOSES_AT_ONCE)
    assert (heard.text, heard.errors) == (TEXT, [])


async def test_generator_goes_on_after_its_own_limit() -> None:
    async def hurried() -> AsyncIterator[str]:
        with anyio.move_on_after(0.01):
            await asyncio.Event().wait()
        await asyncio.sleep(0.3)  # longer than its closing may take
        yield "one"

    heard = await speak(hurried(), CLOSES_AT_ONCE)
    assert (heard.text, heard.errors) == ("one", [])


async def test_stream_may_limit_its_own_closing(caplog: pytest.LogCaptureFixture) -> None:
    log = Eventually()

    class Stream:
        def __aiter__(self) -> Stream:
            return self

        async def __anext__(self) -> str:
            return await asyncio.Future()

        async def aclose(self) -> None:
            with anyio.move_on_after(0.01):
                await asyncio.Event().wait()
            log.add("closed")

    async def on_transcript(transcript: Any, session: Any) -> None:
        log.add("asked")
        await session.send_response(Stream() if len(transcript) == 1 else "two")

    async with serving("own", None, on_transcript=on_transcript) as stage, stage.call() as api:
        await api.say("hello", event_id=1)
        await log.until("asked")
        await api.say("hello", "one", "stop", event_id=2)
        await log.until("closed")
    assert "closing" not in caplog.text


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "openai whole"])
async def test_interruption_ends_the_request(provider: Provider, kind: str) -> None:
    provider.default = Script(text=("One", " two", " three"), hold_after=2)
    log = Eventually()
    async with requested(provider, kind) as given:

        async def on_transcript(transcript: Any, session: Any) -> None:
            if len(transcript) == 1:
                await session.send_response(given)
            log.add("over")

        async with serving("own", None, on_transcript=on_transcript) as stage, stage.call() as api:
            await api.say("hello", event_id=1)
            heard = ""
            while heard != "One two":
                heard += (await api.receive())["content"]
            await api.say("hello", "One two", "stop", event_id=2)
            await provider.requests[0].disconnected(timeout_s=ANSWER_TIMEOUT_S)
