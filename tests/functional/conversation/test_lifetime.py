"""Conversations that last too long, or have nothing to say: their end, with a goodbye, is an ordinary one."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from se_server.conversation.handlers import NO_HANDLERS
from se_server.conversation.settings import SessionSettings
from se_server.server.config.app import App
from se_server.server.config.config import load_config
from se_server.server.worker.loading import route_of
from tests.functional.conversation.stage import KINDS, Eventually, serving


async def answering(transcript: Any, session: Any) -> None:
    await session.send_response("yes")


@pytest.mark.parametrize("kind", KINDS)
async def test_an_idle_conversation_is_closed_with_1000(kind: str) -> None:
    """Pings are no speech, transcripts are: each starts the time again."""
    log = Eventually()
    settings = SessionSettings(idle_timeout_s=0.8)
    async with (
        serving(kind, settings, on_transcript=answering, on_close=lambda session: log.add("close")) as stage,
        stage.call() as api,
    ):
        began = time.monotonic()
        for event_id in range(1, 8):
            await api.say("hello", event_id=event_id)
            assert await api.answer() == [(event_id, "yes")]
            await asyncio.sleep(0.15)  # the time of a conversation, not a wait for something
        await api.ping()
        assert await api.closed() == 1000
        assert 1.5 < time.monotonic() - began < 10.0
        await log.until("close")


@pytest.mark.parametrize("kind", KINDS)
async def test_a_conversation_ends_at_its_longest_age(kind: str) -> None:
    """An answer under way is spoken to its end first."""
    goes_on = asyncio.Event()

    async def on_transcript(transcript: Any, session: Any) -> None:
        await goes_on.wait()
        await session.send_response("the last words")

    settings = SessionSettings(max_conversation_s=0.4)
    async with serving(kind, settings, on_transcript=on_transcript) as stage, stage.call() as api:
        await api.say("hello", event_id=1)
        asyncio.get_running_loop().call_later(0.6, goes_on.set)
        assert await api.answer() == [(1, "the last words")]
        assert await api.closed() == 1000


async def test_the_goodbye_answers_the_last_turn() -> None:
    """A caller who speaks while the last answer ends hears the goodbye, under the new id, and then the close."""
    goes_on = asyncio.Event()

    async def on_transcript(transcript: Any, session: Any) -> None:
        await goes_on.wait()
        await session.send_response("unheard")

    settings = SessionSettings(max_conversation_s=0.4, goodbye="We have to stop here.")
    async with serving("own", settings, on_transcript=on_transcript) as stage, stage.call() as api:
        await api.say("hello", event_id=1)
        await asyncio.sleep(0.6)
        await api.say("and another thing", event_id=2)
        assert await api.answer() == [(2, "We have to stop here.")]
        assert await api.closed() == 1000


async def test_the_goodbye_follows_the_last_answer() -> None:
    """Without a further turn the goodbye goes out under the id of the last one."""
    settings = SessionSettings(max_conversation_s=0.4, goodbye="We have to stop here.")
    async with serving("own", settings, on_transcript=answering) as stage, stage.call() as api:
        await api.say("hello", event_id=1)
        assert await api.answer() == [(1, "yes")]
        assert await api.answer() == [(1, "We have to stop here.")]
        assert await api.closed() == 1000


def test_the_goodbye_is_the_option_of_the_server() -> None:
    config = load_config({"goodbye_text": "Goodbye.", "disable_auth": True}, {})
    app = App(handlers=NO_HANDLERS)
    assert route_of(config, app).settings.goodbye == "Goodbye."
