"""Transcripts that the API sends again: what each setting makes of them, and how it is counted and shown."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from se_server.conversation.session import SpeechEngineSession
from se_server.conversation.settings import SessionSettings
from tests.functional.conversation.stage import KINDS, Eventually, serving
from tests.functional.conversation.test_handler_contract import Transcript, forever

pytestmark = pytest.mark.parametrize("kind", KINDS)


async def test_ignored_superseded_transcripts_get_nothing(kind: str) -> None:
    log = Eventually()

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        log.add(transcript[-1].content)
        if transcript[-1].content == "first":
            await forever()
        await session.send_response("here")

    settings = SessionSettings(superseded_transcripts="ignore")
    async with serving(kind, settings, on_transcript=on_transcript) as stage, stage.call() as api:
        await api.say("first", event_id=26)
        await log.until("first")
        await api.say("second", event_id=45)
        assert await api.answer() == [(45, "here")]
        await api.say("first", event_id=26)
        await api.ping()
    assert log.items == ["first", "second"]
    assert stage.server.stats.transcripts_superseded == 1


async def test_an_acknowledgement_never_ends_another_answer(kind: str) -> None:
    """A superseded transcript again never ends the answer under the same id."""
    log = Eventually()
    release = asyncio.Event()

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        log.add(transcript[-1].content)
        await release.wait()
        await session.send_response("booked")

    async with serving(kind, on_transcript=on_transcript) as stage, stage.call() as api:
        await api.say("book it", event_id=26)
        await log.until("book it")
        await api.say("book it for two", event_id=26)
        await log.until("book it for two")
        await api.say("book it", event_id=26)
        await api.ping()
        release.set()
        assert await api.answer() == [(26, "booked")]
        await api.ping()
    assert log.items == ["book it", "book it for two"]


async def test_the_same_words_start_again_by_default(kind: str) -> None:
    """By default the same words under a new id start again."""
    log = Eventually()

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        log.add(transcript[-1].content)
        if len(log.items) == 1:
            await forever()
        await session.send_response("here")

    async with serving(kind, on_transcript=on_transcript) as stage, stage.call() as api:
        await api.say("Book it.", event_id=26)
        await log.until("Book it.")
        await api.say("book it", event_id=43)
        assert await api.answer() == [(43, "here")]
    assert log.items == ["Book it.", "book it"]


async def test_an_adopted_answer_has_the_new_id(kind: str) -> None:
    """An adopted answer goes out under the new id and its handler runs once."""
    log = Eventually()
    release = asyncio.Event()

    async def words() -> AsyncIterator[str]:
        log.add("asked the LLM")
        await release.wait()
        yield "booked "
        yield "for two"

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        await session.send_response(words())
        assert session.turn is not None
        log.add(session.turn.event_id)

    settings = SessionSettings(retranscription="adopt")
    async with serving(kind, settings, on_transcript=on_transcript) as stage, stage.call() as api:
        await api.say("book it", event_id=26)
        await log.until("asked the LLM")
        await api.say("Book it.", event_id=43)
        await api.say("book it", event_id=26)
        assert await api.receive() == {"type": "agent_response", "content": "", "event_id": 26, "is_final": True}
        await api.say("BOOK IT!", event_id=45)
        await api.ping()
        release.set()
        assert await api.answer() == [(45, "booked "), (45, "for two")]
        await api.say("BOOK IT!", event_id=45)
        await api.ping()
    assert log.items == ["asked the LLM", 45]
    assert stage.server.stats.transcripts_adopted == 2


async def test_a_begun_answer_is_not_adopted(kind: str) -> None:
    """An answer that has begun or failed is not adopted."""
    log = Eventually()

    async def begun() -> AsyncIterator[str]:
        yield "one moment "
        log.add("begun")
        await forever()

    async def broken() -> AsyncIterator[str]:
        raise ConnectionError("provider")
        yield ""

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        if session.turn is not None and session.turn.event_id == 3:
            await session.send_response("here")
            return
        if session.turn is not None and session.turn.event_id == 2:
            await session.send_response(broken())
            log.add("failed")
            await forever()
        await session.send_response(begun())

    settings = SessionSettings(retranscription="adopt")
    async with (
        serving(kind, settings, on_transcript=on_transcript, on_error=lambda error, session: None) as stage,
        stage.call() as api,
    ):
        await api.say("hello", event_id=1)
        await log.until("begun")
        await api.say("hello", event_id=2)
        await log.until("failed")
        await api.say("hello", event_id=3)
        assert (await api.receive())["content"] == "one moment "
        # The broken stream had no text: nothing was sent for it while its handler ran.
        assert await api.answer() == [(3, "here")]
    assert stage.server.stats.transcripts_adopted == 0


async def test_every_verdict_is_counted_and_shown(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    log = Eventually()
    release = asyncio.Event()

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        log.add(transcript[-1].content)
        await release.wait()

    settings = SessionSettings(debug=True, retranscription="adopt")
    async with serving(kind, settings, on_transcript=on_transcript) as stage, stage.call() as api:
        await api.say("one", event_id=1)
        await log.until("one")
        await api.say("two", event_id=2)
        await log.until("two")
        await api.say("two", event_id=2)
        await api.say("Two.", event_id=3)
        await api.say("one", event_id=1)
        assert (await api.receive())["event_id"] == 1
        release.set()
        assert await api.answer() == []
        await api.say("Two.", event_id=3)
        await api.ping()
    stats = stage.server.stats
    counted = (
        stats.transcripts_repeated, stats.transcripts_adopted, stats.transcripts_superseded, stats.transcripts_answered,
    )  # fmt: skip
    assert counted == (1, 1, 1, 1)
    shown = [line for line in capsys.readouterr().out.splitlines() if "again" in line]
    assert shown == [
        "[SpeechEngine] skipped a transcript sent again: its answer is under way, event_id=2",
        "[SpeechEngine] the same words again: the answer to event_id=2 goes on as event_id=3",
        "[SpeechEngine] skipped a transcript sent again: it was superseded, event_id=1",
        "[SpeechEngine] skipped a transcript sent again: it was answered, event_id=3",
    ]
