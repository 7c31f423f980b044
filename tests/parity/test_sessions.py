"""Sessions can be made, run, mocked and inspected as those of the published SDK."""

from __future__ import annotations

import asyncio
import inspect
import json
import threading
from typing import Any
from unittest.mock import AsyncMock, create_autospec

import pytest

from tests.parity.conftest import Package


class Socket:
    """A WebSocket in memory; None ends what it receives."""

    def __init__(self, *messages: Any) -> None:
        self.inbox = list(messages)
        self.sent: list[dict[str, Any]] = []
        self.closes: list[tuple[Any, ...]] = []

    async def recv(self) -> str:
        # Let the handler of the message before run to its end, as between two messages of a network.
        for _ in range(5):
            await asyncio.sleep(0)
        if not self.inbox:
            raise ConnectionError("closed")
        message = self.inbox.pop(0)
        return message if isinstance(message, str) else json.dumps(message)

    async def send(self, data: str) -> None:
        self.sent.append(json.loads(data))

    async def close(self, *args: Any) -> None:
        self.closes.append(args)


def transcript(text: str = "hi", event_id: Any = 1) -> dict[str, Any]:
    return {"type": "user_transcript", "user_transcript": [{"role": "user", "content": text}], "event_id": event_id}


def session_of(package: Package, ws: Any, **options: Any) -> Any:
    return package.module("speech_engine").SpeechEngineSession(ws, **options)


def echo(session: Any) -> Any:
    async def handler(transcript: Any) -> None:
        await session.send_response(f"echo: {transcript[-1].content}")

    return handler


# --- where a session is made ----------------------------------------------------------------------------------------


def test_a_session_made_where_no_loop_runs(package: Package) -> None:
    ws = Socket({"type": "init", "conversation_id": "conv_1"}, transcript())
    session = session_of(package, ws)
    assert session.on("user_transcript", echo(session)) is session
    assert session.is_open
    asyncio.run(session.run())
    assert session.conversation_id == "conv_1"
    assert [message["content"] for message in ws.sent] == ["echo: hi", ""]
    assert not session.is_open


def test_a_session_made_in_a_thread_runs_on_the_loop(package: Package) -> None:
    """As a FastAPI dependency that is a plain function makes it."""
    ws, made = Socket(transcript()), []

    def make() -> None:
        session = session_of(package, ws)
        session.on("user_transcript", echo(session))
        made.append(session)

    async def main() -> None:
        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        await made[0].run()

    asyncio.run(main())
    assert [message["content"] for message in ws.sent] == ["echo: hi", ""]


def test_a_session_made_on_another_loop(package: Package) -> None:
    ws = Socket(transcript())

    async def make() -> Any:
        return session_of(package, ws)

    session = asyncio.run(make())
    session.on("user_transcript", echo(session))
    asyncio.run(session.run())
    assert [message["content"] for message in ws.sent] == ["echo: hi", ""]


async def test_a_session_closed_before_it_runs(package: Package) -> None:
    ws = Socket(transcript())
    session = await asyncio.to_thread(session_of, package, ws)
    session.close()
    session.close()
    assert not session.is_open
    await session.run()
    await asyncio.sleep(0)  # the published SDK closes in a task
    assert (ws.sent, ws.closes) == ([], [()])
    with pytest.raises(RuntimeError, match="session is closed"):
        await session.send_response("too late")


def test_a_session_closed_where_no_loop_runs() -> None:
    """The published SDK leaves the WebSocket open; here the first run closes it."""
    ws, events = Socket(transcript()), []
    session = session_of(Package("se_server"), ws)
    session.on("close", lambda: events.append("close"))
    session.close()
    assert not session.is_open
    asyncio.run(session.run())
    assert (ws.sent, ws.closes, events) == ([], [()], ["close"])


async def test_a_second_run_returns(package: Package) -> None:
    ws, events = Socket({"type": "init", "conversation_id": "c"}), []
    session = session_of(package, ws)
    session.on("disconnected", lambda: events.append("disconnected"))
    await session.run()
    await asyncio.wait_for(session.run(), 5)
    assert events == ["disconnected"]


async def test_a_cancelled_run_leaves_the_websocket_open(package: Package) -> None:
    class Silent(Socket):
        async def recv(self) -> str:
            await asyncio.get_running_loop().create_future()
            raise AssertionError

    ws, events = Silent(), []
    session = session_of(package, ws)
    session.on("disconnected", lambda: events.append("disconnected"))
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(session.run(), 0.05)
    assert (events, ws.closes) == (["disconnected"], [])
    assert not session.is_open


@pytest.mark.parametrize("debug", [1, "yes", True, 0, "", None, [1]])
async def test_debug_is_any_truth_value(package: Package, debug: Any, capsys: pytest.CaptureFixture[str]) -> None:
    await session_of(package, Socket({"type": "init", "conversation_id": "c"}), debug=debug).run()
    assert ("[SpeechEngine]" in capsys.readouterr().out) is bool(debug)


# --- what is on the wire --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("event_id", ["26", "é\n", 26.5, 2**70, -1, True, [1, "a"], None])
async def test_an_event_id_of_any_kind_comes_back(package: Package, event_id: Any) -> None:
    ws = Socket(transcript(event_id=event_id))
    session = session_of(package, ws)
    session.on("user_transcript", echo(session))
    await session.run()
    assert [message["event_id"] for message in ws.sent] == [event_id, event_id]
    assert [type(message["event_id"]) for message in ws.sent] == [type(event_id)] * 2


async def test_ids_that_are_no_integers_separate_turns(package: Package) -> None:
    ws = Socket(transcript("one", "a"), transcript("two", "b"), transcript("three", 3))
    session = session_of(package, ws)
    session.on("user_transcript", echo(session))
    await session.run()
    assert [message["event_id"] for message in ws.sent if message["content"]] == ["a", "b", 3]


@pytest.mark.parametrize("conversation_id", [42, 1.5, ["c"], {"id": "c"}, False, None])
async def test_a_conversation_id_of_any_kind_is_taken(package: Package, conversation_id: Any) -> None:
    given: list[Any] = []
    session = session_of(package, Socket({"type": "init", "conversation_id": conversation_id}))
    session.on("init", given.append)
    await session.run()
    assert given == [conversation_id] == [session.conversation_id]


# --- mocks and inspection -------------------------------------------------------------------------------------------

COROUTINES = {"run", "send_response"}


async def test_a_mock_of_the_class_has_its_coroutines(package: Package) -> None:
    session_class = package.module("speech_engine").SpeechEngineSession
    for mock in (AsyncMock(spec=session_class), create_autospec(session_class, instance=True)):
        await mock.send_response("Hello")
        await mock.run()
        mock.send_response.assert_awaited_once_with("Hello")
        mock.on("init", print)
        assert not inspect.isawaitable(mock.close())
        with pytest.raises(AttributeError):
            mock.send_respnse("Hello")


@pytest.mark.parametrize("name", ["on", "once", "off", "run", "close", "send_response", "__init__"])
def test_methods_have_signatures_and_annotations(package: Package, name: str) -> None:
    method = getattr(package.module("speech_engine").SpeechEngineSession, name)
    signature = inspect.signature(method)
    assert next(iter(signature.parameters)) == "self"
    assert signature.return_annotation is not inspect.Signature.empty
    assert inspect.iscoroutinefunction(method) is (name in COROUTINES)
    assert set(method.__annotations__) >= {"return"}
    assert name == "__init__" or method.__doc__


def test_published_parameters_keep_their_names_and_order(package: Package) -> None:
    published = Package("elevenlabs").module("speech_engine")
    for owner, names in {
        "SpeechEngineSession": ("__init__", "on", "once", "off", "run", "close", "send_response"),
        "SpeechEngineServer": ("__init__", "handle_connection", "stop"),
        "SpeechEngineResource": ("__init__", "serve", "create_session", "verify_request"),
    }.items():
        for name in names:
            ours = inspect.signature(getattr(getattr(package.module("speech_engine"), owner), name)).parameters
            theirs = inspect.signature(getattr(getattr(published, owner), name)).parameters
            named = [each for each, value in theirs.items() if value.kind is not inspect.Parameter.VAR_KEYWORD]
            assert [each for each in ours if each in named] == named
            assert all(ours[each].kind is theirs[each].kind for each in named)


# --- modules --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("", "AsyncElevenLabs ElevenLabs SpeechEngineConfig"),
        ("client", "AsyncElevenLabs ElevenLabs"),
        ("speech_engine.session", "SpeechEngineSession Callback ConversationMessage WebSocketLike"),
        ("speech_engine.resource", "SpeechEngineResource verify_speech_engine_jwt SpeechEngineServer"),
        ("speech_engine.server", "SpeechEngineServer SpeechEngineSession WebSocketLike"),
        (
            "speech_engine.types",
            "INIT USER_TRANSCRIPT CLOSE ERROR DISCONNECTED ConversationMessage WebSocketLike wrap_websocket",
        ),
    ],
)
def test_modules_have_their_counterparts(package: Package, module: str, names: str) -> None:
    for name in names.split():
        assert getattr(package.module(module), name) is not None


def test_wrap_websocket_takes_both_shapes(package: Package) -> None:
    wrap = package.module("speech_engine.types").wrap_websocket
    ws = Socket()
    assert wrap(ws) is ws
    shape = type("Text", (), {"receive_text": Socket.recv, "send_text": Socket.send, "close": Socket.close})
    text = AsyncMock(spec=shape)
    text.receive_text.return_value = "hello"

    async def main() -> None:
        wrapped = wrap(text)
        assert await wrapped.recv() == "hello"
        await wrapped.send("world")
        await wrapped.close()

    asyncio.run(main())
    text.send_text.assert_awaited_once_with("world")
    text.close.assert_awaited_once_with()
    with pytest.raises(TypeError, match="Cannot wrap object"):
        wrap(object())


def test_the_names_of_version_3() -> None:
    from se_server.speech_engine import ReceiveUpstreamMessage, SendUpstreamMessage, session_types, types

    assert types.ReceiveUpstreamMessage is ReceiveUpstreamMessage
    assert types.SendUpstreamMessage is SendUpstreamMessage
    for name in ("INIT", "USER_TRANSCRIPT", "CLOSE", "ERROR", "DISCONNECTED", "ConversationMessage", "WebSocketLike"):
        assert getattr(session_types, name) is getattr(types, name)
