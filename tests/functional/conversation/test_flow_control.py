"""Peers that do not read, and what is never written."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from se_server.conversation.session import SpeechEngineSession
from se_server.conversation.settings import SessionSettings
from tests.functional.conversation.stage import KINDS, Api, Eventually, serving
from tests.functional.conversation.test_handler_contract import Transcript
from tests.helpers import peak_memory_kib

pytestmark = pytest.mark.parametrize("kind", KINDS)

CHUNK = "x" * 4096
# More than the kernel holds for a peer that does not read and whose receive buffer is fixed.
LONG_TEXT = "x" * (16 * 1024 * 1024)


def small_receive_buffer() -> dict[str, Any]:
    """Options of a client whose kernel takes little, so that a peer that does not read is noticed soon."""
    return {"max_queue": 1, "max_size": None, "compression": None}


def stop_reading(api: Api) -> None:
    """Let what the server writes fill its own buffers, after little in the kernel's."""
    api.ws.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    api.ws.transport.pause_reading()


async def test_send_response_waits_for_a_slow_peer(kind: str) -> None:
    log = Eventually()
    sent = 0
    sessions: list[SpeechEngineSession] = []

    async def endless() -> AsyncIterator[str]:
        nonlocal sent
        while sent < 50_000:
            sent += 1
            yield CHUNK

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        sessions.append(session)
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
        while not sessions or sessions[0]._outbox.writable:  # until the stream is held back for the first time
            assert log.items == []
            await asyncio.sleep(0)
        for _ in range(2_000):  # turns of the loop, in each of which it could say 64 KiB
            await asyncio.sleep(0)
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


async def test_a_peer_that_read_while_code_blocked_the_loop_stays(
    kind: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("adapter", "_listener"):
        monkeypatch.setattr(f"se_server.conversation.{module}.LAST_LOOK_S", 5.0)
    sessions: list[SpeechEngineSession] = []

    full = asyncio.Event()

    async def until_full() -> AsyncIterator[str]:
        while not full.is_set():
            yield CHUNK

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        sessions.append(session)
        await session.send_response(until_full())

    async with (
        serving(kind, SessionSettings(write_timeout_s=0.1), on_transcript=on_transcript) as stage,
        stage.call(**small_receive_buffer()) as api,
    ):
        stop_reading(api)
        with socket.socket(fileno=os.dup(api.ws.transport.get_extra_info("socket").fileno())) as peer:
            await api.say("hello", event_id=1)
            held = 0
            while held < 100:  # the writer of other libraries holds the stream back for a moment now and then
                await asyncio.sleep(0)
                held = held + 1 if sessions and not sessions[0]._outbox.writable else 0
            full.set()
            peer.settimeout(0.2)
            with contextlib.suppress(TimeoutError):  # a handler that blocks the loop, while the peer reads
                while peer.recv(1_000_000):
                    pass
            peer.setblocking(False)
            while not sessions[0]._outbox.writable:
                with contextlib.suppress(BlockingIOError):
                    peer.recv(1_000_000)
                await asyncio.sleep(0)
        api.ws.transport.abort()
    assert "does not read" not in caplog.text


async def test_an_interrupted_wait_leaves_the_next_its_own(kind: str) -> None:
    """A turn interrupted while it waits for room leaves the next its own wait."""
    log = Eventually()

    async def long_answer() -> AsyncIterator[str]:
        log.add("speaks")
        yield LONG_TEXT

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        if transcript[-1].content == "one":
            await session.send_response(long_answer())
            return
        log.add("interrupted")
        log.add("sent", await session.send_response("second answer"))

    def on_error(error: Exception, session: SpeechEngineSession) -> None:
        log.add(repr(error))

    async with (
        serving(kind, on_transcript=on_transcript, on_error=on_error) as stage,
        stage.call(**small_receive_buffer()) as api,
    ):
        stop_reading(api)
        await api.say("one", event_id=1)
        await log.until("speaks")
        await api.say("two", event_id=2)
        await log.until("interrupted")
        # The second answer waits for room too; uvicorn takes one message more.
        assert log.items == ["speaks", "interrupted"] or kind == "starlette"
        api.ws.transport.resume_reading()
        chunks = []
        while (2, "second answer") not in chunks:
            chunks += await api.answer()
        assert [event_id for event_id, _ in chunks] == [1, 2]
        await log.until(("sent", True))
    assert log.items == ["speaks", "interrupted", ("sent", True)]


async def test_text_yielded_before_a_close_is_sent(kind: str) -> None:
    """Text that a stream yielded before it closes the session is sent."""

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        async def words() -> AsyncIterator[str]:
            yield "Goodbye!"
            session.close()

        await session.send_response(words())

    async with serving(kind, on_transcript=on_transcript) as stage, stage.call() as api:
        await api.say("bye", event_id=1)
        assert (await api.receive())["content"] == "Goodbye!"
        assert await api.closed() == 1000


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


async def test_turns_of_a_deaf_peer_add_no_text(kind: str) -> None:
    log = Eventually()

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        log.add(transcript[-1].content)
        await session.send_response("x" * 65536)

    async with (
        serving(kind, on_transcript=on_transcript) as stage,
        stage.call(**small_receive_buffer()) as api,
    ):
        stop_reading(api)
        for event_id in range(1, 201):
            await api.say(str(event_id), event_id=event_id)
            await log.until(str(event_id))
        api.ws.transport.resume_reading()
        heard: set[int] = set()
        while 200 not in heard:
            message = await api.receive()
            heard.add(message["event_id"])
        assert len(heard) < 120  # what the kernel holds, and one or two more
