"""The session behaviour of the published SDK, on which existing handlers rely, line by line of its description."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from se_server.conversation.session import SpeechEngineSession
from se_server.conversation.settings import SessionSettings
from se_server.errors import MessageError, PeerError
from tests.functional.conversation.stage import KINDS, Eventually, serving
from tests.functional.conversation.test_handler_contract import Transcript, forever

pytestmark = pytest.mark.parametrize("kind", KINDS)


async def test_handlers_run_in_order_of_registration(kind: str) -> None:
    """Handlers run in the order registered and once handlers after them."""
    log = Eventually()

    async def on_init(conversation_id: str, session: SpeechEngineSession) -> None:
        @session.once("user_transcript")
        def third(transcript: Transcript) -> None:
            log.add("once")

        async def second(transcript: Transcript) -> None:
            await asyncio.sleep(0)
            log.add("coroutine")

        def removed(transcript: Transcript) -> None:
            log.add("removed")

        assert session.on("user_transcript", second).on("user_transcript", removed) is session
        assert session.off("user_transcript", removed) is session

    async with (
        serving(kind, on_init=on_init, on_transcript=lambda transcript, session: log.add("callback")) as stage,
        stage.call() as api,
    ):
        await api.init()
        await api.say("hello", event_id=1)
        await api.answer()
        await api.say("hello", event_id=2)
        await api.answer()
    assert log.items == ["callback", "coroutine", "once", "callback", "coroutine"]


async def test_late_text_never_has_the_new_id(kind: str) -> None:
    """Text for an interrupted turn never carries the new event id."""
    log = Eventually()

    async def chatter(name: str) -> AsyncIterator[str]:
        yield f"{name} begins "
        log.add(name)
        if name == "first":
            try:
                await forever()
            except asyncio.CancelledError:
                yield "first goes on"
                yield "and on"
        yield f"{name} ends"

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        await session.send_response(chatter(transcript[-1].content))

    async with serving(kind, on_transcript=on_transcript) as stage, stage.call() as api:
        await api.say("first", event_id=1)
        await log.until("first")
        await api.say("second", event_id=2)
        assert (await api.receive())["content"] == "first begins "
        assert await api.answer() == [(2, "second begins "), (2, "second ends")]


async def test_a_duplicate_of_the_running_turn_is_skipped(kind: str) -> None:
    log = Eventually()
    release = asyncio.Event()

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        log.add(transcript[-1].content)
        await release.wait()
        await session.send_response("once")

    async with serving(kind, on_transcript=on_transcript) as stage, stage.call() as api:
        await api.say("hello", event_id=26)
        await api.say("hello", event_id=26)
        await api.ping()
        release.set()
        assert await api.answer() == [(26, "once")]
        await api.ping()
    assert log.items == ["hello"]


async def test_without_an_event_id_nothing_is_a_duplicate(kind: str) -> None:
    log = Eventually()

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        log.add(len(log.items))
        if len(log.items) == 1:
            await forever()
        await session.send_response("again")

    async with serving(kind, on_transcript=on_transcript) as stage, stage.call() as api:
        await api.send(type="user_transcript", user_transcript=[])
        await log.until(0)
        await api.send(type="user_transcript", user_transcript=None)
        assert await api.receive() == {
            "type": "agent_response", "content": "again", "event_id": None, "is_final": False,
        }  # fmt: skip
    assert log.items == [0, 1]


class Sentence(str):
    """A subclass of `str`, as template engines return."""


@pytest.mark.parametrize("make", [str, Sentence])
async def test_a_string_answer_is_two_messages(kind: str, make: type[str]) -> None:
    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        await session.send_response(make("Hello, how can I help?"))

    async with serving(kind, on_transcript=on_transcript) as stage, stage.call() as api:
        await api.say("hello", event_id=3)
        assert [await api.receive(), await api.receive()] == [
            {"type": "agent_response", "content": "Hello, how can I help?", "event_id": 3, "is_final": False},
            {"type": "agent_response", "content": "", "event_id": 3, "is_final": True},
        ]


async def test_each_text_is_one_message(kind: str) -> None:
    """A stream of every known shape is one message a text."""

    async def events() -> AsyncIterator[Any]:
        yield "plain "
        yield {"type": "response.output_text.delta", "delta": "responses "}
        yield SimpleNamespace(choices=[SimpleNamespace(delta=SimpleNamespace(content="chat "))])
        yield {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "anthropic "}}
        parts = [{"text": "secret", "thought": True}, {"text": "gem"}, {"text": "ini"}]
        yield {"candidates": [{"content": {"parts": parts}}]}
        for nothing in ("", 5, None, {"unknown": 1}, object()):
            yield nothing

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        await session.send_response(events())

    async with serving(kind, on_transcript=on_transcript) as stage, stage.call() as api:
        await api.say("hello", event_id=3)
        assert [text for _, text in await api.answer()] == ["plain ", "responses ", "chat ", "anthropic ", "gemini"]


async def test_a_failing_stream_is_an_error_event(kind: str) -> None:
    """A stream that raises is an error event then the final."""
    log = Eventually()

    async def broken() -> AsyncIterator[str]:
        yield "so far"
        raise ConnectionError("provider")

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        log.add(await session.send_response(broken()))

    async def on_error(error: Exception, session: SpeechEngineSession) -> None:
        log.add(repr(error))
        await session.send_response("Sorry.", final=False)  # an error handler may speak for the turn

    async with serving(kind, on_transcript=on_transcript, on_error=on_error) as stage, stage.call() as api:
        await api.say("hello", event_id=1)
        assert await api.answer() == [(1, "so far"), (1, "Sorry.")]
        await api.ping()
    assert log.items == ["ConnectionError('provider')", True]


async def test_send_response_raises_after_close(kind: str) -> None:
    """After close nothing is sent and send response raises."""
    log = Eventually()

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        log.add("started")
        try:
            await forever()
        except asyncio.CancelledError:
            try:
                await session.send_response("too late")
            except RuntimeError as error:
                log.add(str(error))

    async def on_close(session: SpeechEngineSession) -> None:
        log.add("close", session.is_open)

    async with serving(kind, on_transcript=on_transcript, on_close=on_close) as stage, stage.call() as api:
        await api.say("hello", event_id=1)
        await log.until("started")
        await api.send(type="close")
        assert await api.closed() == 1000
        await log.until(("close", False))
    assert log.items == ["started", "Cannot send response: session is closed", ("close", False)]


async def test_unreadable_messages_are_errors(kind: str) -> None:
    """Messages that cannot be read are errors and unknown types are ignored."""
    errors = Eventually()

    async def on_error(error: Exception, session: SpeechEngineSession) -> None:
        errors.add(error)

    async with serving(kind, on_error=on_error) as stage, stage.call() as api:
        await api.ws.send("{no json")
        await api.ws.send(b'{"type": "ping", "x": "\xff"}')
        await api.ws.send("[1, 2]")
        await api.send(type="error", message="quota exceeded")
        await api.send(type="of_tomorrow", event_id=5)
        await api.ws.send(b'{"type": "ping"}')  # binary messages are read as JSON too
        assert await api.receive() == {"type": "pong"}
        await errors.until(lambda items: len(items) == 4)
    malformed, not_utf8, no_object, of_api = errors.items
    assert all(isinstance(error, MessageError) for error in (malformed, not_utf8, no_object))
    assert "UTF-8" in str(not_utf8)
    assert isinstance(of_api, PeerError)
    assert str(of_api) == "quota exceeded"


async def test_debug_prints_lines_that_start_with_speech_engine(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        await session.send_response("x")

    async with serving(kind, SessionSettings(debug=True), on_transcript=on_transcript) as stage, stage.call() as api:
        await api.init("conv_5")
        await api.say("hello", event_id=1)
        await api.answer()
    lines = capsys.readouterr().out.splitlines()
    assert lines
    assert all(line.startswith("[SpeechEngine] ") for line in lines)
    assert any("conv_5" in line for line in lines)


@pytest.mark.parametrize("given", [None, 5, object()])
async def test_what_cannot_be_streamed_is_one_clear_error(kind: str, given: object) -> None:
    errors = Eventually()

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        await session.send_response(given)  # type: ignore[arg-type]
        errors.add("the handler goes on")

    async def on_error(error: Exception, session: SpeechEngineSession) -> None:
        errors.add(str(error))

    async with serving(kind, on_transcript=on_transcript, on_error=on_error) as stage, stage.call() as api:
        await api.say("hello", event_id=1)
        assert await api.answer() == []
    assert errors.items[0].startswith("send_response takes a str, an async iterable")
    assert f"not {'None' if given is None else type(given).__name__}" in errors.items[0]
    assert errors.items[1:] == ["the handler goes on"]


async def test_a_coroutine_as_an_answer_is_awaited(kind: str) -> None:
    async def create() -> str:
        return "text"

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        await session.send_response(create())  # type: ignore[arg-type]

    async with serving(kind, on_transcript=on_transcript) as stage, stage.call() as api:
        await api.say("hello", event_id=1)
        assert await api.answer() == [(1, "text")]


SCRIPT: list[Any] = [
    {"type": "init", "conversation_id": "conv_1"},
    {"type": "ping"},
    {"type": "user_transcript", "user_transcript": [{"role": "user", "content": "Grüße, 你好 😀"}], "event_id": 3},
    "no json",
    {"type": "user_transcript", "user_transcript": [{"role": "user", "content": '" and \\ and \n'}], "event_id": 9},
    {"type": "ping"},
]


async def frames_of(kind: str) -> list[str]:
    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        async def words() -> AsyncIterator[str]:
            for word in transcript[-1].content.split():
                yield word
                await asyncio.sleep(0)

        await session.send_response("You said:")
        await session.send_response(words())

    frames: list[str] = []
    async with (
        serving(kind, on_transcript=on_transcript, on_error=lambda error, session: None) as stage,
        stage.call() as api,
    ):
        for message in SCRIPT:
            await api.ws.send(message if isinstance(message, str) else json.dumps(message))
            if isinstance(message, dict) and message["type"] in ("ping", "user_transcript"):
                finals = 2 if message["type"] == "user_transcript" else 0
                while True:
                    frame = await api.ws.recv()
                    assert isinstance(frame, str)
                    frames.append(frame)
                    finals -= '"is_final":true' in frame
                    if finals <= 0:
                        break
    return frames


async def test_every_server_sends_the_same_frames(kind: str) -> None:
    """The frames of a conversation are the same behind every server."""
    frames = await frames_of(kind)
    assert frames == await frames_of("own")
    assert json.loads(frames[1]) == {"type": "agent_response", "content": "You said:", "event_id": 3, "is_final": False}
    assert frames[-1] == '{"type":"pong"}'
