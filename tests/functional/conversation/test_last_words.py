"""Last words: a transcript that came before the conversation's end reaches its handler."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from typing import Any

import pytest

from se_server.conversation.session import SpeechEngineSession
from se_server.types import ConversationMessage
from tests.frames import TEXT, frame
from tests.functional.conversation.stage import KINDS, TIMEOUT_S, Api, Eventually, serving

Transcript = list[ConversationMessage]

pytestmark = pytest.mark.parametrize("kind", KINDS)


def transcript(*texts: str, event_id: int) -> dict[str, Any]:
    roles = ("user", "agent")
    said = [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]
    return {"type": "user_transcript", "user_transcript": said, "event_id": event_id}


def send_at_once(api: Api, *messages: dict[str, Any]) -> None:
    """Send messages in one write, so that the server finds them in one read."""
    api.ws.transport.write(b"".join(frame(TEXT, json.dumps(message).encode()) for message in messages))


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


class Booking:
    """A handler that notes what was said before it first waits."""

    def __init__(self) -> None:
        self.log = Eventually()

    async def on_transcript(self, transcript: Transcript, session: SpeechEngineSession) -> None:
        self.log.add(transcript[-1].content)
        try:
            await forever()
        except asyncio.CancelledError:
            self.log.add("cancelled")
            raise

    def on_error(self, error: Exception, session: SpeechEngineSession) -> None:
        self.log.add("error", repr(error))

    def on_close(self, session: SpeechEngineSession) -> None:
        self.log.add("close")

    def on_disconnect(self, session: SpeechEngineSession) -> None:
        self.log.add("disconnected")

    def handlers(self, **others: Any) -> dict[str, Any]:
        names = ("on_transcript", "on_error", "on_close", "on_disconnect")
        return {name: getattr(self, name) for name in names} | others


async def test_a_transcript_and_close_in_one_read(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "se_server.conversations")
    booking = Booking()
    async with serving(kind, **booking.handlers()) as stage, stage.call() as api:
        send_at_once(api, transcript("Book it, bye", event_id=1), {"type": "close"})
        await booking.log.until("close")
        await api.closed()
    assert booking.log.items == ["Book it, bye", "cancelled", "close"]
    assert turns_logged(caplog) == [1]


@pytest.mark.parametrize("ending", ["close", "drop"])
async def test_an_end_while_the_loop_is_busy(kind: str, ending: str) -> None:
    """The transcript and the end are read in one step after the loop was busy."""
    booking = Booking()
    async with serving(kind, **booking.handlers()) as stage, stage.call() as api:
        await api.init()
        await api.ping()
        await api.say("Book it, bye", event_id=1)
        if ending == "close":
            await api.send(type="close")
            last = "close"
        else:
            api.ws.transport.close()
            last = "disconnected"
        time.sleep(0.02)  # noqa: ASYNC251  the loop has to be busy
        await booking.log.until(last)
    assert booking.log.items == ["Book it, bye", "cancelled", last]


async def test_last_words_wait_for_on_init(kind: str) -> None:
    """A transcript that waits for on_init when the conversation ends is still heard; then the WebSocket is closed."""
    booking = Booking()

    async def on_init(conversation_id: str, session: SpeechEngineSession) -> None:
        deadline_s = asyncio.get_running_loop().time() + TIMEOUT_S
        while session.is_open:
            assert asyncio.get_running_loop().time() < deadline_s
            await asyncio.sleep(0)
        booking.log.add("init")

    async with serving(kind, **booking.handlers(on_init=on_init)) as stage, stage.call() as api:
        await api.init()
        await api.ping()
        send_at_once(api, transcript("Book it, bye", event_id=1), {"type": "close"})
        await booking.log.until("close")
        assert await api.closed() == 1000
    assert booking.log.items == ["init", "Book it, bye", "cancelled", "close"]


async def test_last_words_after_a_superseded_handler(kind: str) -> None:
    booking = Booking()
    async with serving(kind, **booking.handlers()) as stage, stage.call() as api:
        await api.say("Hello", event_id=1)
        await booking.log.until("Hello")
        send_at_once(api, transcript("Hello", "", "Book it, bye", event_id=2), {"type": "close"})
        await booking.log.until("close")
    assert booking.log.items == ["Hello", "cancelled", "Book it, bye", "cancelled", "close"]


async def test_only_the_newest_of_several_is_heard(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "se_server.conversations")
    booking = Booking()
    async with serving(kind, **booking.handlers()) as stage, stage.call() as api:
        send_at_once(
            api,
            transcript("Book it", event_id=1),
            transcript("Book it, bye", event_id=2),
            {"type": "close"},
        )
        await booking.log.until("close")
        await api.closed()
    assert booking.log.items[-3:] == ["Book it, bye", "cancelled", "close"]
    assert turns_logged(caplog) == [2]


@pytest.mark.parametrize("form", ["plain", "coroutine"])
async def test_last_words_run_past_a_text_they_send(kind: str, form: str) -> None:
    """Nobody hears the answer: `send_response` returns False, and the handler goes on to its first wait."""
    booking = Booking()
    log = booking.log

    async def answer(transcript: Transcript, session: SpeechEngineSession) -> None:
        log.add("sent", await session.send_response("Booked."))
        log.add("saved")

    def plain(transcript: Transcript, session: SpeechEngineSession) -> None:
        log.add("sent", False)
        log.add("saved")

    handler = plain if form == "plain" else answer
    async with serving(kind, **booking.handlers(on_transcript=handler)) as stage, stage.call() as api:
        send_at_once(api, transcript("Book it, bye", event_id=1), {"type": "close"})
        await log.until("close")
    assert log.items == [("sent", False), "saved", "close"]


async def test_last_words_reach_every_handler_of_the_event(kind: str) -> None:
    booking = Booking()
    log = booking.log

    def on_init(conversation_id: str, session: SpeechEngineSession) -> None:
        session.on("user_transcript", lambda transcript: log.add("second"))

    def first(transcript: Transcript, session: SpeechEngineSession) -> None:
        log.add("first")

    async with serving(kind, **booking.handlers(on_init=on_init, on_transcript=first)) as stage, stage.call() as api:
        send_at_once(
            api,
            {"type": "init", "conversation_id": "c"},
            transcript("Book it, bye", event_id=1),
            {"type": "close"},
        )
        await log.until("close")
    assert log.items == ["first", "second", "close"]


async def test_last_words_that_ignore_cancellation_hold_nothing(kind: str) -> None:
    """The last event comes after 50 ms, as behind any handler that runs on."""
    booking = Booking()
    log = booking.log
    release = asyncio.Event()

    async def stubborn(transcript: Transcript, session: SpeechEngineSession) -> None:
        for _ in range(3):
            try:
                await release.wait()
            except asyncio.CancelledError:
                log.add("ignored")

    async with serving(kind, **booking.handlers(on_transcript=stubborn)) as stage, stage.call() as api:
        send_at_once(api, transcript("Book it, bye", event_id=1), {"type": "close"})
        await log.until("close")
        release.set()
    assert log.items == ["ignored", "close"]


async def test_last_words_that_raise_are_an_error_event(kind: str) -> None:
    booking = Booking()

    async def failing(transcript: Transcript, session: SpeechEngineSession) -> None:
        raise LookupError("no such table")

    async with serving(kind, **booking.handlers(on_transcript=failing)) as stage, stage.call() as api:
        send_at_once(api, transcript("Book it, bye", event_id=1), {"type": "close"})
        await booking.log.until("close")
    assert booking.log.items == [("error", "LookupError('no such table')"), "close"]


async def test_close_called_while_a_transcript_waits(kind: str) -> None:
    """The server's own end of a conversation loses no transcript either."""
    booking = Booking()

    heard = asyncio.Event()

    async def on_init(conversation_id: str, session: SpeechEngineSession) -> None:
        await asyncio.wait_for(heard.wait(), TIMEOUT_S)
        session.close()

    async with serving(kind, **booking.handlers(on_init=on_init)) as stage, stage.call() as api:
        await api.init()
        await api.say("Book it, bye", event_id=1)
        await api.ping()
        heard.set()
        await booking.log.until("close")
    assert booking.log.items == ["Book it, bye", "cancelled", "close"]


def turns_logged(caplog: pytest.LogCaptureFixture) -> list[int]:
    return [int(found.group(1)) for message in caplog.messages if (found := re.search(r" turns=(\d+)", message))]
