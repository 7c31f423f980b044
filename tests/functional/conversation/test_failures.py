"""Streams, handlers and connections that fail where it hurts most."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import pytest

from se_server.conversation.session import SpeechEngineSession
from se_server.conversation.settings import SessionSettings
from se_server.errors import MessageError
from se_server.types import DISCONNECTED, ERROR
from tests.functional.conversation.stage import KINDS, Eventually, serving
from tests.functional.conversation.test_handler_contract import Transcript, forever

each_kind = pytest.mark.parametrize("kind", KINDS)


@each_kind
async def test_an_error_handler_is_not_called_by_itself(kind: str) -> None:
    """A stream that fails in an error handler does not call it again."""
    log = Eventually()

    async def broken() -> AsyncIterator[str]:
        raise ValueError("provider is down")
        yield ""

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        await session.send_response(broken())
        log.add("over")

    async def on_error(error: Exception, session: SpeechEngineSession) -> None:
        log.add("error")
        if len(log.items) < 4:
            await session.send_response(broken())

    async with serving(kind, on_transcript=on_transcript, on_error=on_error) as stage, stage.call() as api:
        await api.say("hello", event_id=1)
        await log.until("over")
    assert log.items == ["error", "over"]


@each_kind
async def test_an_apology_ends_the_answer_once(kind: str) -> None:
    """An apology of the error handler ends the answer once."""

    async def broken() -> AsyncIterator[str]:
        yield "Your order "
        raise ConnectionError("provider")

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        await session.send_response(broken())

    async def on_error(error: Exception, session: SpeechEngineSession) -> None:
        await session.send_response("Sorry.")

    async with serving(kind, on_transcript=on_transcript, on_error=on_error) as stage, stage.call() as api:
        await api.say("hello", event_id=1)
        assert await api.answer() == [(1, "Your order "), (1, "Sorry.")]
        await api.ping()  # no second final comes before its pong


@each_kind
async def test_disconnected_is_last_after_a_late_failure(kind: str) -> None:
    log = Eventually()
    release = asyncio.Event()

    async def slow_to_end() -> AsyncIterator[str]:
        yield "hello"
        try:
            await forever()
        finally:
            await release.wait()
            raise ValueError("late")

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        try:
            await session.send_response(slow_to_end())
        finally:
            log.add("over")

    settings = SessionSettings(handover_s=0.001)
    async with serving(
        kind,
        settings,
        on_transcript=on_transcript,
        on_error=lambda error, session: log.add("error"),
        on_disconnect=lambda session: log.add("disconnected"),
    ) as stage:
        async with stage.call() as api:
            await api.say("hello", event_id=1)
            assert (await api.receive())["content"] == "hello"
        await log.until("disconnected")
        release.set()
        await log.until("over")
    assert log.items == ["disconnected", "over"]


@each_kind
async def test_text_before_a_failure_is_heard_at_once(kind: str) -> None:
    heard = asyncio.Event()

    class FailsAtOnce:
        """A stream whose second `__anext__` fails when it is called, not when it is awaited."""

        def __init__(self) -> None:
            self.calls = 0

        def __aiter__(self) -> FailsAtOnce:
            return self

        def __anext__(self) -> Awaitable[str]:
            self.calls += 1
            if self.calls == 2:
                raise ValueError("at once")
            return self.text()

        async def text(self) -> str:
            return "so far"

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        await session.send_response(FailsAtOnce())

    async def on_error(error: Exception, session: SpeechEngineSession) -> None:
        await heard.wait()

    async with serving(kind, on_transcript=on_transcript, on_error=on_error) as stage, stage.call() as api:
        await api.say("hello", event_id=1)
        message = await api.receive()
        assert (message["content"], message["is_final"]) == ("so far", False)
        heard.set()
        assert await api.answer() == []


class Scripted:
    """A WebSocket-like object that gives, or raises, one thing after another."""

    def __init__(self, *script: Any) -> None:
        self.script = [*script, ConnectionError("over")]
        self.closed = False

    async def recv(self) -> Any:
        item = self.script.pop(0)
        if isinstance(item, BaseException):
            raise item
        return item

    async def send(self, data: str) -> None: ...

    async def close(self) -> None:
        self.closed = True


INIT = '{"type": "init", "conversation_id": "conv_1"}'


@pytest.mark.parametrize("last", [asyncio.CancelledError(), None], ids=repr)
async def test_every_end_of_a_websocket_ends_the_session(last: Any) -> None:
    log = Eventually()
    session = SpeechEngineSession(Scripted(INIT, last))
    session.on(DISCONNECTED, lambda: log.add("disconnected"))
    await asyncio.wait_for(session.run(), 10)
    assert session.conversation_id == "conv_1"
    assert not session.is_open
    assert log.items == ["disconnected"]


@pytest.mark.parametrize("received", [{"type": "ping"}, 7], ids=repr)
async def test_neither_text_nor_bytes_is_an_error(received: Any) -> None:
    """A message that is neither text nor bytes is an error, and the session goes on."""
    errors = Eventually()
    session = SpeechEngineSession(Scripted(received, INIT))
    session.on(ERROR, errors.add)
    await asyncio.wait_for(session.run(), 10)
    assert session.conversation_id == "conv_1"
    (error,) = errors.items
    assert isinstance(error, MessageError)
