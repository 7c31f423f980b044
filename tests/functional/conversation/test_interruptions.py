"""A turn that the next transcript interrupts, and a turn of several answers."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextvars import ContextVar

import pytest

from se_server.conversation.session import SpeechEngineSession
from se_server.conversation.settings import SessionSettings
from se_server.types import USER_TRANSCRIPT
from tests.functional.conversation.stage import KINDS, Eventually, serving
from tests.functional.conversation.test_handler_contract import Transcript, forever

pytestmark = pytest.mark.parametrize("kind", KINDS)

mark: ContextVar[str] = ContextVar("mark", default="clean")


async def test_no_further_handler_starts_for_a_superseded_turn(kind: str) -> None:
    log = Eventually()

    async def first(transcript: Transcript, session: SpeechEngineSession) -> None:
        log.add("first", transcript[-1].content)
        if transcript[-1].content == "one":
            try:
                await forever()
            except asyncio.CancelledError:
                return  # swallowed: from here on only the turn knows

    def second(transcript: Transcript) -> None:
        log.add("second", transcript[-1].content)

    def on_init(conversation_id: str, session: SpeechEngineSession) -> None:
        session.on(USER_TRANSCRIPT, second)

    async with serving(kind, on_init=on_init, on_transcript=first) as stage, stage.call() as api:
        await api.init()
        await api.say("one", event_id=1)
        await log.until(("first", "one"))
        await api.say("two", event_id=2)
        assert await api.answer() == []
    assert log.items == [("first", "one"), ("first", "two"), ("second", "two")]


async def test_superseded_transcripts_leave_their_room_to_events(kind: str) -> None:
    log = Eventually()
    release = asyncio.Event()

    async def on_init(conversation_id: str, session: SpeechEngineSession) -> None:
        await release.wait()

    def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        log.add(transcript[-1].content)

    def on_error(error: Exception, session: SpeechEngineSession) -> None:
        log.add(str(error))

    settings = SessionSettings(max_pending_events=4, end_timeout_s=0.1)
    async with (
        serving(kind, settings, on_init=on_init, on_transcript=on_transcript, on_error=on_error) as stage,
        stage.call() as api,
    ):
        await api.init()
        for event_id in range(6):
            await api.say(f"turn {event_id}", event_id=event_id)
        await api.send(type="error", message="look")
        await api.ping()
        release.set()
        assert await api.answer() == []
        await api.say("last", event_id=6)
        assert await api.answer() == []
    assert log.items == ["turn 5", "look", "last"]


async def test_context_variables_of_a_handler_are_its_own(kind: str) -> None:
    log = Eventually()

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        log.add(transcript[-1].content, mark.get())
        mark.set("left behind")
        if transcript[-1].content == "one":
            await forever()

    def on_close(session: SpeechEngineSession) -> None:
        log.add("close", mark.get())

    async with serving(kind, on_transcript=on_transcript, on_close=on_close) as stage, stage.call() as api:
        await api.say("one", event_id=1)
        await log.until(("one", "clean"))
        await api.say("two", event_id=2)
        assert await api.answer() == []
        await api.send(type="close")
        await api.closed()
    assert log.items == [("one", "clean"), ("two", "clean"), ("close", "clean")]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tasks do not count their cancellations")
async def test_an_interruption_does_not_wait_for_closing(kind: str) -> None:
    """An interruption is heard while a stream is late to close."""
    log = Eventually()

    class Sticky:
        """A stream without text that has still to clean up when its time to close is over."""

        def __aiter__(self) -> Sticky:
            return self

        async def __anext__(self) -> str:
            raise StopAsyncIteration

        async def aclose(self) -> None:
            try:
                await forever()
            finally:
                log.add("closing")
                await forever()

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        if transcript[-1].content == "one":
            await session.send_response(Sticky())
            log.add("paid for another LLM call")
        log.add(transcript[-1].content)

    settings = SessionSettings(stream_close_s=0.01, handover_s=60.0)
    async with serving(kind, settings, on_transcript=on_transcript) as stage, stage.call() as api:
        await api.say("one", event_id=1)
        await log.until("closing")
        await api.say("two", event_id=2)
        await log.until("two")
    assert log.items == ["closing", "two"]


async def test_a_final_follows_two_answers_at_once(kind: str) -> None:
    heard = asyncio.Event()

    async def short() -> AsyncIterator[str]:
        yield "short"

    async def long() -> AsyncIterator[str]:
        await heard.wait()
        yield "long"

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        await asyncio.gather(session.send_response(long(), final=False), session.send_response(short()))

    async with serving(kind, on_transcript=on_transcript) as stage, stage.call() as api:
        await api.say("hello", event_id=1)
        assert await api.answer() == [(1, "short")]
        heard.set()
        assert await api.answer() == [(1, "long")]
        await api.ping()
