"""The failures measured in the published SDK, by the same names: here the caller hears the answer, and pays once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from se_server.conversation.session import SpeechEngineSession
from tests.functional.conversation.stage import KINDS, Eventually, serving
from tests.functional.conversation.test_handler_contract import Transcript, forever, stubbornly

pytestmark = pytest.mark.parametrize("kind", KINDS)


async def test_event_26_resent_while_45_streams(kind: str) -> None:
    log = Eventually()
    release = asyncio.Event()

    async def words(name: str) -> AsyncIterator[str]:
        yield f"{name} "
        log.add(name)
        await release.wait()
        yield "and goes on"

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        await session.send_response(words(transcript[-1].content))

    async with serving(kind, on_transcript=on_transcript) as stage, stage.call() as api:
        await api.say("first", event_id=26)
        await log.until("first")
        await api.say("second", event_id=45)
        await log.until("second")
        await api.say("first", event_id=26)
        assert (await api.receive())["content"] == "first "
        assert (await api.receive())["content"] == "second "
        # The API is told to stop asking, and 45 is not disturbed.
        assert await api.receive() == {"type": "agent_response", "content": "", "event_id": 26, "is_final": True}
        release.set()
        assert await api.answer() == [(45, "and goes on")]
        await api.ping()
    assert log.items == ["first", "second"]


async def test_an_answered_event_resent(kind: str) -> None:
    log = Eventually()

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        log.add(transcript[-1].content)
        await session.send_response("done")

    async with serving(kind, on_transcript=on_transcript) as stage, stage.call() as api:
        for event_id in (26, 45):
            await api.say(f"book {event_id}", event_id=event_id)
            assert await api.answer() == [(event_id, "done")]
        for _ in range(3):
            await api.say("book 26", event_id=26)
            await api.say("book 45", event_id=45)
        await api.ping()  # and nothing before its pong
        assert log.items == ["book 26", "book 45"]
        await api.say("book 26 twice", event_id=26)  # other content: a new turn
        assert await api.answer() == [(26, "done")]


async def test_a_handler_cleans_up_for_long(kind: str) -> None:
    """A handler that needs long to clean up after its cancellation keeps nobody waiting."""
    log = Eventually()
    release = asyncio.Event()

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        log.add(transcript[-1].content)
        if transcript[-1].content == "slow":
            try:
                await forever()
            finally:
                await release.wait()
                log.add("cleaned up")
        await session.send_response("here")

    async with serving(kind, on_transcript=on_transcript) as stage, stage.call() as api:
        await api.say("slow", event_id=1)
        await log.until("slow")
        await api.say("next", event_id=2)
        await api.ping()
        assert await api.answer() == [(2, "here")]
        assert "cleaned up" not in log.items
        release.set()
        await log.until("cleaned up")


async def test_handler_swallows_cancellation(kind: str) -> None:
    log = Eventually()
    release = asyncio.Event()

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        log.add(transcript[-1].content)
        if transcript[-1].content == "stuck":
            await stubbornly(release)
        await session.send_response("here")

    async with serving(
        kind, on_transcript=on_transcript, on_disconnect=lambda session: log.add("disconnected")
    ) as stage:
        async with stage.call() as api:
            await api.say("stuck", event_id=1)
            await log.until("stuck")
            await api.say("next", event_id=2)
            assert await api.answer() == [(2, "here")]
            await api.say("stuck", event_id=3)
            await log.until(lambda items: items.count("stuck") == 2)
            api.ws.transport.abort()
        await log.until("disconnected")
        release.set()


async def test_one_entry_with_content_null(kind: str) -> None:
    heard = Eventually()

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        heard.add([message.content for message in transcript])
        await session.send_response("here")

    entries = [{"role": "agent", "content": None}, {"role": "user", "content": "hello"}]
    async with (
        serving(kind, on_transcript=on_transcript, on_error=lambda error, session: heard.add(str(error))) as stage,
        stage.call() as api,
    ):
        await api.send(type="user_transcript", user_transcript=entries, event_id=1)
        assert await api.answer() == [(1, "here")]
        await api.say("and on", event_id=2)
        assert await api.answer() == [(2, "here")]
    assert [item for item in heard.items if isinstance(item, list)] == [["hello"], ["and on"]]


async def test_interruption(kind: str) -> None:
    log = Eventually()

    class Stream:
        """A provider's stream that goes on for ever, until it is closed."""

        def __aiter__(self) -> Stream:
            return self

        async def __anext__(self) -> str:
            if "speaking" in log.items:
                await forever()
            log.add("speaking")
            return "long story "

        async def close(self) -> None:
            log.add("closed")

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        if transcript[-1].content == "tell":
            await session.send_response(Stream())
        log.add("next")

    async with serving(kind, on_transcript=on_transcript) as stage, stage.call() as api:
        await api.say("tell", event_id=1)
        await log.until("speaking")
        await api.say("stop", event_id=2)
        await log.until("next")
    assert log.items == ["speaking", "closed", "next"]


async def test_handler_raises_before_the_first_chunk(kind: str) -> None:
    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        raise ConnectionError("no LLM today")

    async with (
        serving(kind, on_transcript=on_transcript, on_error=lambda error, session: None) as stage,
        stage.call() as api,
    ):
        await api.say("hello", event_id=1)
        assert await api.receive() == {"type": "agent_response", "content": " ", "event_id": 1, "is_final": False}
        assert await api.receive() == {"type": "agent_response", "content": "", "event_id": 1, "is_final": True}
