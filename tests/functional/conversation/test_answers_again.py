"""Answers that are sent again, handlers that run again, finals and silence, on every kind of connection."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import AsyncIterator

import pytest

from se_server.conversation.session import SpeechEngineSession
from se_server.conversation.settings import SessionSettings
from tests.functional.conversation.stage import KINDS, Eventually, serving
from tests.functional.conversation.test_handler_contract import Transcript
from tests.functional.conversation.test_last_words import send_at_once
from tests.functional.conversation.test_last_words import transcript as transcript_of

pytestmark = pytest.mark.parametrize("kind", KINDS)

_numbers = itertools.count()


class Time:
    """A clock that a test sets."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def note_error(error: Exception, session: SpeechEngineSession) -> None:
    """Take the errors of handlers that fail on purpose."""


async def words(*pieces: str) -> AsyncIterator[str]:
    for piece in pieces:
        yield piece


async def test_a_lost_answer_is_sent_again_twice(kind: str) -> None:
    time, log = Time(), Eventually()

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        log.add(transcript[-1].content)
        await session.send_response(words("Here ", "it is."))

    settings = SessionSettings(clock=time)
    async with serving(kind, settings, on_transcript=on_transcript) as stage, stage.call() as api:
        await api.say("hello", event_id=7)
        assert await api.answer() == [(7, "Here "), (7, "it is.")]
        for wait_s in (0.9, 0.1, 1.0):
            time.now += wait_s
            await api.say("hello", event_id=7)
            if wait_s < 1 and time.now < 1000.95:
                await api.ping()  # nothing came before the pong
                continue
            assert await api.answer() == [(7, "Here it is.")]
        time.now += 4
        await api.say("hello", event_id=7)
        await api.ping()
    assert log.items == ["hello"]
    assert stage.server.stats.answers_replayed == 2
    assert stage.server.stats.turns_started == 1


@pytest.mark.parametrize("fails", [False, True])
async def test_a_transcript_that_waited_has_crossed_its_answer(kind: str, fails: bool) -> None:
    """It was sent right after the final, but read after code had blocked the event loop."""
    if kind != "own":
        pytest.skip("other libraries read before the session does")

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        if fails:
            raise ConnectionError("the model is away")
        await session.send_response("Here.")

    settings = SessionSettings(failed_transcripts="retry")
    async with serving(kind, settings, on_transcript=on_transcript, on_error=note_error) as stage, stage.call() as api:
        await api.say("hello", event_id=7)
        assert await api.answer(blank=True) == [(7, " " if fails else "Here.")]
        await api.say("hello", event_id=7)
        time.sleep(1.2)  # noqa: ASYNC251  code that blocks the loop
        # A ping would hide how long the transcript has waited.
        while not stage.server.stats.transcripts_answered:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        await api.ping()
    assert stage.server.stats.answers_replayed == stage.server.stats.turns_retried == 0
    assert stage.server.stats.transcripts_answered == 1


@pytest.mark.parametrize("why", ["late", "long", "older", "ignored", "other words"])
async def test_no_other_answer_is_sent_again(kind: str, why: str) -> None:
    time = Time()
    text = "x" * 70_000 if why == "long" else "Here."

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        await session.send_response(text if transcript[-1].content == "hello" else "Other.")

    settings = SessionSettings(clock=time, answered_transcripts="ignore" if why == "ignored" else "replay")
    async with serving(kind, settings, on_transcript=on_transcript) as stage, stage.call() as api:
        await api.say("hello", event_id=7)
        assert await api.answer() == [(7, text)]
        if why == "older":
            await api.say("next", event_id=9)
            await api.answer()
        time.now += 20.5 if why == "late" else 4
        if why == "other words":
            await api.say("hello you", event_id=7)
            assert await api.answer() == [(7, "Other.")], "the same id with other words is a new turn"
        else:
            await api.say("hello", event_id=7)
            await api.ping()
    assert stage.server.stats.answers_replayed == 0


async def test_an_answer_is_sent_again_while_its_handler_goes_on(kind: str) -> None:
    """A handler that keeps its books after the answer does not keep the answer from being sent again."""
    time, log = Time(), Eventually()

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        await session.send_response("Booked.")
        await log.until("end")

    async with serving(kind, SessionSettings(clock=time), on_transcript=on_transcript) as stage, stage.call() as api:
        await api.say("book it", event_id=7)
        assert await api.answer() == [(7, "Booked.")]
        time.now += 4
        await api.say("book it", event_id=7)
        assert await api.answer() == [(7, "Booked.")]
        log.add("end")
        await api.ping()
    assert stage.server.stats.turns_started == 1


@pytest.mark.parametrize("failed_transcripts", ["ignore", "retry"])
async def test_a_failed_handler_runs_again_on_request(kind: str, failed_transcripts: str) -> None:
    time, log = Time(), Eventually()

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        log.add(transcript[-1].content)
        raise ConnectionError("the model is away")

    settings = SessionSettings(clock=time, failed_transcripts=failed_transcripts)
    async with serving(kind, settings, on_transcript=on_transcript, on_error=note_error) as stage, stage.call() as api:
        await api.say("hello", event_id=7)
        assert await api.answer(blank=True) == [(7, " ")]
        for _ in range(2):
            time.now += 4
            await api.say("hello", event_id=7)
            assert await api.answer(blank=True) == [(7, " ")], "a second run, or the same answer again"
    assert log.items.count("hello") == (2 if failed_transcripts == "retry" else 1)
    assert stage.server.stats.turns_retried == (1 if failed_transcripts == "retry" else 0)


async def test_a_retry_may_succeed(kind: str) -> None:
    time, log = Time(), Eventually()

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        log.add("run")
        if log.items.count("run") == 1:
            raise ConnectionError("the model is away")
        await session.send_response("Back again.")

    settings = SessionSettings(clock=time, failed_transcripts="retry")
    async with serving(kind, settings, on_transcript=on_transcript, on_error=note_error) as stage, stage.call() as api:
        await api.say("hello", event_id=7)
        await api.answer()
        time.now += 0.5
        await api.say("hello", event_id=7)
        await api.ping()
        time.now += 4
        await api.say("hello", event_id=7)
        assert await api.answer() == [(7, "Back again.")]
        await api.say("hello", event_id=7)
        await api.ping()
    assert log.items.count("run") == 2


@pytest.mark.parametrize("finals", ["response", "turn"])
async def test_finals_of_several_answers(kind: str, finals: str) -> None:
    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        await session.send_response("One. ")
        await session.send_response(words("Two. "))
        await session.send_response("")

    async with serving(kind, SessionSettings(finals=finals), on_transcript=on_transcript) as stage, stage.call() as api:
        await api.say("hello", event_id=7)
        if finals == "turn":
            assert await api.answer() == [(7, "One. "), (7, "Two. ")]
        else:
            assert await api.answer() == [(7, "One. ")]
            assert await api.answer() == [(7, "Two. ")]
        await api.ping()


async def test_a_second_final_is_logged_once_a_handler(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    async def answers_twice(transcript: Transcript, session: SpeechEngineSession) -> None:
        await session.send_response("One. ")
        await session.send_response("Two. ")

    name = answers_twice.__qualname__ = f"answers_twice_{next(_numbers)}"  # other tests of this process have others
    with caplog.at_level(logging.WARNING, "se_server"):
        async with serving(kind, on_transcript=answers_twice) as stage, stage.call() as api:
            for event_id in (1, 2):
                await api.say(f"hello {event_id}", event_id=event_id)
                await api.answer()
                await api.answer()
    (warning,) = [record.getMessage() for record in caplog.records if "second answer" in record.getMessage()]
    assert name in warning
    assert "final=False" in warning
    assert "finals='turn'" in warning


async def test_an_answer_in_parts_is_no_second_answer(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    async def in_parts(transcript: Transcript, session: SpeechEngineSession) -> None:
        await session.send_response("One. ", final=False)
        await session.send_response("Two. ")
        await session.send_response("")

    with caplog.at_level(logging.WARNING, "se_server"):
        async with serving(kind, on_transcript=in_parts) as stage, stage.call() as api:
            await api.say("hello", event_id=1)
            assert await api.answer() == [(1, "One. "), (1, "Two. ")]
            await api.ping()
    assert not [record for record in caplog.records if "second answer" in record.getMessage()]


@pytest.mark.parametrize("empty_answer_text", [" ", "", "Mm-hm."])
async def test_a_turn_without_text_gets_the_empty_answer(kind: str, empty_answer_text: str) -> None:
    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        await session.send_response("")
        await session.send_response(words("", ""))
        await session.send_response("", final=False)

    settings = SessionSettings(empty_answer_text=empty_answer_text)
    async with serving(kind, settings, on_transcript=on_transcript) as stage, stage.call() as api:
        await api.say("hello", event_id=7)
        assert await api.answer(blank=True) == ([(7, empty_answer_text)] if empty_answer_text else [])
        await api.ping()
    assert stage.server.stats.answers_empty == 1


@pytest.mark.parametrize("silence_turns", ["handle", "stay_silent"])
async def test_silence_is_handled_or_met_with_silence(kind: str, silence_turns: str) -> None:
    log = Eventually()

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        assert session.turn is not None
        log.add((session.turn.event_id, session.turn.is_silence))
        await session.send_response("Are you there?" if session.turn.is_silence else "Yes.")

    settings = SessionSettings(silence_turns=silence_turns)
    async with serving(kind, settings, on_transcript=on_transcript) as stage, stage.call() as api:
        await api.say("hello", event_id=1)
        assert await api.answer() == [(1, "Yes.")]
        for event_id, text in enumerate(("...", "…", ".", " ", "?!"), 2):
            await api.say(text, event_id=event_id)
            expected = " " if silence_turns == "stay_silent" else "Are you there?"
            assert await api.answer(blank=True) == [(event_id, expected)]
        await api.send(
            type="user_transcript",
            event_id=9,
            user_transcript=[{"role": "user", "content": "hello"}, {"role": "agent", "content": "Yes."}],
        )
        assert await api.answer(blank=True) == [(9, expected)]
        await api.say("3", event_id=10)
        assert await api.answer() == [(10, "Yes.")]
    handled = [event_id for event_id, _ in log.items]
    assert handled == ([1, 10] if silence_turns == "stay_silent" else [1, 2, 3, 4, 5, 6, 9, 10])
    assert all(is_silence is (event_id not in (1, 10)) for event_id, is_silence in log.items)
    assert stage.server.stats.silences == (6 if silence_turns == "stay_silent" else 0)


async def test_a_silent_handler_is_held(kind: str) -> None:
    """A blank goes out on every kind of connection, and is no text of the answer."""
    log = Eventually()

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        assert session.turn is not None
        await log.until(f"go on {session.turn.event_id}")
        await session.send_response("Here.")
        log.add((session.turn.text, session.turn.chunks))

    settings = SessionSettings(hold_after_s=0.02)
    async with serving(kind, settings, on_transcript=on_transcript) as stage, stage.call() as api:
        for event_id in (1, 2):
            await api.say(f"hello {event_id}", event_id=event_id)
            blank = {"type": "agent_response", "content": " ", "event_id": event_id, "is_final": False}
            assert await api.receive() == blank
            log.add(f"go on {event_id}")
            assert await api.answer() == [(event_id, "Here.")]
        await api.ping()
    assert log.items.count(("Here.", 1)) == 2
    assert stage.server.stats.blanks_sent == 2


async def test_an_utterance_that_grows_settles(kind: str) -> None:
    log = Eventually()

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        log.add(transcript[-1].content)
        await session.send_response("Yes.")

    settings = SessionSettings(settle_s=0.1)
    async with serving(kind, settings, on_transcript=on_transcript) as stage, stage.call() as api:
        parts = enumerate(("one", "one two", "one two three"), 1)
        send_at_once(api, *(transcript_of(text, event_id=event_id) for event_id, text in parts))
        assert await api.answer() == [(3, "Yes.")]
        await api.say("goodbye", event_id=4)
        await api.send(type="close")
        await log.until("goodbye")
    assert log.items == ["one two three", "goodbye"]
