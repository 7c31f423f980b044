"""The snippets of the SDK reference run here with one change: `elevenlabs` becomes `se_server` in their imports.

`sdk_reference_snippets.md` holds the headings and the Python blocks of the reference verbatim. The names that a snippet
presumes (`engine`, `websocket`, `handle_transcript`, ...) are real objects here: a client of a real HTTP server,
WebSockets over sockets, the OpenAI SDK.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
import websockets
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosedOK, InvalidStatus

from se_server.sdk import requests
from se_server.sdk.resource import SpeechEngineResource
from tests.fake_api import DEFAULTS, FakeApi, running_api
from tests.helpers import (
    ANSWER_TIMEOUT_S,
    TEST_API_KEY,
    close_message,
    connect,
    init_message,
    ping_message,
    read_answer,
    read_message,
    spoken,
    transcript_message,
)
from tests.providers import Script, running_provider

ENGINE_ID = "seng_8k3m9xr4hjnfg983brhmhkd98n6"  # the model that the reference names


# --- the snippets ---------------------------------------------------------------------------------------------------


def read_snippets(text: str) -> dict[str, str]:
    """Return the code blocks by their heading; the second below one heading is `heading (2)`."""
    snippets: dict[str, str] = {}
    heading, block = "", None
    for line in text.splitlines():
        if block is not None and line.startswith("```"):
            title, number = heading, 1
            while title in snippets:
                number += 1
                title = f"{heading} ({number})"
            snippets[title], block = "\n".join(block), None
        elif block is not None:
            block.append(line)
        elif line.startswith("```"):
            assert line == "```python", line
            block = []
        elif line.startswith("#"):
            heading = line.lstrip("# ").replace("\\", "")
    assert block is None, "a code block has no end"
    return snippets


SNIPPETS = read_snippets(Path(__file__).with_name("sdk_reference_snippets.md").read_text(encoding="utf-8"))
TESTED: list[str] = []


def change_imports(text: str) -> str:
    """Make the one change."""
    return re.sub(r"^from elevenlabs(?=[ .])", "from se_server", text, flags=re.MULTILINE)


class Snippet:
    """One code block of the reference."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.has_run = False

    async def run(self, names: dict[str, Any], **replaced: str) -> None:
        """Run it as a module that holds `names`; `replaced` has new values of arguments."""
        text = change_imports(SNIPPETS[self.title])
        for argument, value in replaced.items():
            text, count = re.subn(rf"\b{argument}=[^,)]*", f"{argument}={value}", text)
            assert count == 1, argument
        code = compile(text, f"<{self.title}>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        outcome = eval(code, names)
        if code.co_flags & inspect.CO_COROUTINE:
            await outcome
        self.has_run = True


def runs(*titles: str) -> pytest.MarkDecorator:
    """Name the snippets that a test runs, each in a test case of its own."""
    TESTED.extend(titles)
    return pytest.mark.parametrize("snippet", titles, indirect=True)


@pytest.fixture
def snippet(request: pytest.FixtureRequest) -> Iterator[Snippet]:
    snippet = Snippet(request.param)
    yield snippet
    assert snippet.has_run, f"the test of {snippet.title!r} did not run it to its end"


# --- the names that snippets presume --------------------------------------------------------------------------------


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeApi]:
    with running_api(TEST_API_KEY) as api:
        api.engines[ENGINE_ID] = {"speech_engine_id": ENGINE_ID, **DEFAULTS}
        monkeypatch.setattr(requests, "DEFAULT_BASE_URL", api.url)
        monkeypatch.setenv("ELEVENLABS_API_KEY", api.api_key)
        yield api


@pytest.fixture
async def engine(api: FakeApi) -> SpeechEngineResource:
    names: dict[str, Any] = {}
    await Snippet("Getting a Speech Engine resource").run(names)
    engine = names["engine"]
    assert isinstance(engine, SpeechEngineResource)
    return engine


@asynccontextmanager
async def call(
    conversation: Callable[[ServerConnection], Awaitable[None]], api_key: str = TEST_API_KEY
) -> AsyncIterator[ClientConnection]:
    """Accept one WebSocket with the `websockets` package, run `conversation` on it, and yield the API's side."""
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def accept(websocket: ServerConnection) -> None:
        try:
            await conversation(websocket)
        except Exception as error:
            ended.set_exception(error)
        else:
            ended.set_result(None)

    async with websockets.serve(accept, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        try:
            async with connect(f"ws://127.0.0.1:{port}/ws", api_key) as caller:
                yield caller
        finally:
            await asyncio.wait_for(ended, ANSWER_TIMEOUT_S)


async def answer_to(caller: ClientConnection, said: str, event_id: int = 1) -> str:
    """Send a turn, and return the text of the answer."""
    await caller.send(transcript_message(said, event_id=event_id))
    messages = await asyncio.wait_for(read_answer(caller), ANSWER_TIMEOUT_S)
    assert {message["event_id"] for message in messages} == {event_id}
    return spoken(messages)


async def handled(caller: ClientConnection) -> None:
    """Wait until the other side has received all messages sent so far."""
    await caller.send(ping_message())
    assert await asyncio.wait_for(read_message(caller), ANSWER_TIMEOUT_S) == {"type": "pong"}


# --- the tests ------------------------------------------------------------------------------------------------------


def test_every_snippet_of_the_reference_has_its_test() -> None:
    assert len(SNIPPETS) >= 11
    assert sorted(TESTED) == sorted(SNIPPETS)


def test_a_new_code_block_would_be_noticed() -> None:
    text = "# A\n```python\na\n```\n```python\nb\nc\n```\n## B \\_\n```python\nd\n```\n"
    assert read_snippets(text) == {"A": "a", "A (2)": "b\nc", "B _": "d"}


@pytest.mark.parametrize("title", SNIPPETS)
def test_only_the_imports_change(title: str) -> None:
    before, after = SNIPPETS[title].splitlines(), change_imports(SNIPPETS[title]).splitlines()
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert all(old.startswith("from elevenlabs") and new.startswith("from se_server") for old, new in changed)
    tree = compile("\n".join(after), title, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST)
    imports = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert len(imports) == len(changed)


@runs("Getting a Speech Engine resource")
async def test_getting_a_resource(snippet: Snippet, api: FakeApi) -> None:
    names: dict[str, Any] = {}
    await snippet.run(names)
    engine = names["engine"]
    assert engine.engine_id == ENGINE_ID
    assert engine.config.language == "en"
    assert [(asked.method, asked.path) for asked in api.requests] == [("GET", f"/v1/speech-engine/{ENGINE_ID}")]


@runs("serve")
async def test_serve(snippet: Snippet, engine: SpeechEngineResource, capsys: pytest.CaptureFixture[str]) -> None:
    async def handle_transcript(transcript: list[Any], session: Any) -> None:
        await session.send_response(f"You said {transcript[-1].content}.")

    # A free port of the loopback replaces the reference's port.
    names = {"engine": engine, "handle_transcript": handle_transcript}
    serving = asyncio.create_task(snippet.run(names, port="0, host='127.0.0.1'"))
    while engine.server is None:
        assert not serving.done(), serving
        await asyncio.sleep(0)
    await asyncio.wait_for(engine.server.wait_ready(), ANSWER_TIMEOUT_S)
    url = f"ws://127.0.0.1:{engine.server.port}"
    async with connect(f"{url}/ws") as caller:
        await caller.send(init_message("conv_served"))
        assert await answer_to(caller, "hello") == "You said hello."
    with pytest.raises(InvalidStatus, match="404"):
        await connect(f"{url}/other").__aenter__()
    with pytest.raises(InvalidStatus, match="401"):
        await connect(f"{url}/ws", "sk_another").__aenter__()
    assert not serving.done()
    await engine.server.stop()
    await asyncio.wait_for(serving, ANSWER_TIMEOUT_S)
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("[SpeechEngine]") for line in lines)
    assert any("conv_served" in line for line in lines)


@runs("verify_request")
@pytest.mark.parametrize(("api_key", "is_valid"), [(TEST_API_KEY, True), ("sk_another", False)])
async def test_verify_request(snippet: Snippet, engine: SpeechEngineResource, api_key: str, is_valid: bool) -> None:
    async def conversation(websocket: ServerConnection) -> None:
        assert websocket.request is not None
        names: dict[str, Any] = {"engine": engine, "headers": dict(websocket.request.headers.raw_items())}
        await snippet.run(names)
        assert names["is_valid"] is is_valid

    async with call(conversation, api_key) as caller:
        await caller.wait_closed()


@runs("create_session", "run")
async def test_a_session_over_a_websocket_of_another_server(
    snippet: Snippet, engine: SpeechEngineResource, capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, Any] = {"engine": engine}

    async def handle_transcript(transcript: list[Any]) -> None:
        session = names["session"]
        await session.send_response(f"{session.conversation_id}: {transcript[-1].content}, {session.is_open}")

    async def conversation(websocket: ServerConnection) -> None:
        names.update(websocket=websocket, handle_transcript=handle_transcript)
        await snippet.run(names)
        assert names["session"].is_open is False

    async with call(conversation) as caller:
        await caller.send(init_message("conv_wrapped"))
        assert await answer_to(caller, "hello") == "conv_wrapped: hello, True"
        assert await answer_to(caller, "again", event_id=2) == "conv_wrapped: again, True"
        await caller.send(close_message())
        await asyncio.wait_for(caller.wait_closed(), ANSWER_TIMEOUT_S)
    printed = capsys.readouterr().out
    assert ("[SpeechEngine]" in printed) is (snippet.title == "create_session")


@runs("on", "Events")
async def test_registering_a_handler(snippet: Snippet, engine: SpeechEngineResource) -> None:
    async def conversation(websocket: ServerConnection) -> None:
        session = engine.create_session(websocket)

        async def handler(transcript: list[Any]) -> None:
            await session.send_response(f"{transcript[-1].role} {transcript[-1].content}")

        await snippet.run({"session": session, "handler": handler, "handle_transcript": handler})
        await session.run()

    async with call(conversation) as caller:
        assert await answer_to(caller, "hello") == "user hello"


@runs("off")
async def test_removing_a_handler(snippet: Snippet, engine: SpeechEngineResource) -> None:
    async def conversation(websocket: ServerConnection) -> None:
        session = engine.create_session(websocket)

        async def handler(transcript: list[Any]) -> None:
            await session.send_response("removed too late. ", final=False)

        async def other(transcript: list[Any]) -> None:
            await session.send_response("the other one")

        session.on("user_transcript", handler).on("user_transcript", other)
        await snippet.run({"session": session, "handler": handler})
        await session.run()

    async with call(conversation) as caller:
        assert await answer_to(caller, "hello") == "the other one"


@runs("once")
async def test_a_handler_that_is_called_once(snippet: Snippet, engine: SpeechEngineResource) -> None:
    ids: list[str] = []

    async def conversation(websocket: ServerConnection) -> None:
        session = engine.create_session(websocket)
        await snippet.run({"session": session, "handler": ids.append})
        await session.run()

    async with call(conversation) as caller:
        await caller.send(init_message("conv_1"))
        await caller.send(init_message("conv_2"))
        await handled(caller)
    assert ids == ["conv_1"]


@runs("send_response")
async def test_answers_from_a_string_and_openai(snippet: Snippet, engine: SpeechEngineResource) -> None:
    place = {"item_id": "i", "output_index": 0, "content_index": 0, "sequence_number": 1, "logprobs": []}
    whole = {"id": "r", "object": "response", "created_at": 1, "model": "gpt-4o", "output": []}
    answer = Script.of_events(
        [
            {"type": "response.created", "sequence_number": 0, "response": whole},
            {"type": "response.output_text.delta", "delta": "It is ", **place},
            {"type": "response.output_text.delta", "delta": "morning 🙂", **place},
            {"type": "response.completed", "sequence_number": 2, "response": whole},
        ]
    )
    names: dict[str, Any] = {}

    async def conversation(websocket: ServerConnection) -> None:
        session = names["session"] = engine.create_session(websocket)

        async def handle_transcript(transcript: list[Any]) -> None:
            names["messages"] = [message.model_dump() for message in transcript]
            await snippet.run(names)

        session.on("user_transcript", handle_transcript)
        await session.run()

    async with running_provider(answer) as provider:
        url = provider.base_url("openai")
        async with openai.AsyncOpenAI(api_key="none", base_url=url, max_retries=0) as openai_client:
            names["openai_client"] = openai_client
            async with call(conversation) as caller:
                assert await answer_to(caller, "hello") == "Hello, how can I help?"
                streamed = await asyncio.wait_for(read_answer(caller), ANSWER_TIMEOUT_S)
                assert spoken(streamed) == "It is morning 🙂"
                await handled(caller)
    assert names["stream"].response.is_closed


@runs("close")
async def test_closing_a_session(snippet: Snippet, engine: SpeechEngineResource) -> None:
    async def conversation(websocket: ServerConnection) -> None:
        session = engine.create_session(websocket)
        closing = asyncio.Event()

        async def handle_init(conversation_id: str) -> None:
            await snippet.run({"session": session})
            await snippet.run({"session": session})
            assert not session.is_open
            closing.set()

        session.on("init", handle_init)
        await session.run()
        assert closing.is_set()

    async with call(conversation) as caller:
        await caller.send(init_message())
        with pytest.raises(ConnectionClosedOK):
            await asyncio.wait_for(caller.recv(), ANSWER_TIMEOUT_S)
        assert caller.close_code == 1000
