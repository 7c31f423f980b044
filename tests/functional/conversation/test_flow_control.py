"""Peers that do not read, and what is never written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from se_server.conversation.session import SpeechEngineSession
from se_server.conversation.settings import SessionSettings
from tests.functional.conversation.stage import KINDS, Eventually, serving
from tests.functional.conversation.test_handler_contract import Transcript
from tests.helpers import peak_memory_kib

pytestmark = pytest.mark.parametrize("kind", KINDS)

CHUNK = "x" * 4096


def small_receive_buffer() -> dict[str, Any]:
    """Options of a client whose kernel takes little, so that a peer that does not read is noticed soon."""
    return {"max_queue": 1, "max_size": None, "compression": None}


async def test_send_response_waits_for_a_peer_that_does_not_read(kind: str) -> None:
    log = Eventually()
    sent = 0

    async def endless() -> AsyncIterator[str]:
        nonlocal sent
        while sent < 50_000:
            sent += 1
            yield CHUNK

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        try:
            await session.send_response(endless())
        finally:
            log.add("over")

    async with (
        serving(kind, SessionSettings(), on_transcript=on_transcript) as stage,
        stage.call(**small_receive_buffer()) as api,
    ):
        before_kib = peak_memory_kib()
        await api.say("hello", event_id=1)
        previous = -1
        while previous != sent or not sent:  # until the stream stands still
            previous = sent
            await asyncio.sleep(0.1)
        assert log.items == []
        assert sent < 10_000  # far less than the 200 MB it would say to a peer that reads
        assert peak_memory_kib() - before_kib < 64 * 1024
        stalled_at = sent
        for _ in range(sent):
            await api.receive()
        while sent == stalled_at:  # and goes on once the peer reads again
            await api.receive()
        api.ws.transport.abort()
        await log.until("over")


async def test_a_peer_that_never_reads_is_disconnected(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    log = Eventually()

    async def endless() -> AsyncIterator[str]:
        while True:
            yield CHUNK

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        await session.send_response(endless())

    def on_disconnect(session: SpeechEngineSession) -> None:
        log.add("disconnected")

    settings = SessionSettings(write_timeout_s=0.2, close_timeout_s=0.2)
    async with (
        serving(kind, settings, on_transcript=on_transcript, on_disconnect=on_disconnect) as stage,
        stage.call(**small_receive_buffer()) as api,
    ):
        await api.say("hello", event_id=1)
        await log.until("disconnected")
        assert stage.server.stats.write_timeouts == 1 or kind != "own"
    assert "does not read" in caplog.text


async def test_nothing_follows_a_close(kind: str) -> None:
    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        async def words() -> AsyncIterator[str]:
            yield "before"
            await asyncio.sleep(0)
            session.close()
            yield "after"

        await session.send_response(words())

    async with serving(kind, on_transcript=on_transcript) as stage, stage.call() as api:
        await api.say("hello", event_id=1)
        assert (await api.receive())["content"] == "before"
        assert await api.closed() == 1000
        with pytest.raises(Exception, match="1000"):
            await api.ws.recv()
