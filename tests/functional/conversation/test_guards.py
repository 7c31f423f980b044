"""Nobody hears silence: first words, failure texts, an end for what takes too long or says too much; interruptions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from se_server.conversation.session import SpeechEngineSession
from se_server.conversation.settings import SessionSettings
from se_server.errors import AnswerTooLong, ConfigError, TurnTimeout
from se_server.protocol.turn import Turn
from tests.functional.conversation.stage import KINDS, Eventually, serving
from tests.functional.conversation.test_handler_contract import Transcript, forever, stubbornly

each_kind = pytest.mark.parametrize("kind", KINDS)

SOON_S = 0.02
# Long enough for a quick handler on a busy machine.
LATER_S = 0.25


async def broken(*texts: str) -> AsyncIterator[str]:
    for text in texts:
        yield text
    raise ConnectionError("provider")


# --- the first word ---


@each_kind
async def test_the_answer_follows_the_first_word(kind: str) -> None:
    """A slow handler gets a first word and its answer follows."""
    release = asyncio.Event()

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        await release.wait()
        release.clear()
        await session.send_response("Here it is.")
        assert session.turn is not None
        texts.append(session.turn.text)

    texts: list[str] = []
    settings = SessionSettings(first_word_after_s=SOON_S, first_word_text=("One moment, please.", "Let me see. "))
    async with serving(kind, settings, on_transcript=on_transcript) as stage, stage.call() as api:
        for event_id, filler in enumerate(["One moment, please. ", "Let me see. ", "One moment, please. "]):
            await api.say(f"hello {event_id}", event_id=event_id)
            assert await api.receive() == {
                "type": "agent_response", "content": filler, "event_id": event_id, "is_final": False,
            }  # fmt: skip
            release.set()
            assert await api.answer() == [(event_id, "Here it is.")]
        await api.ping()
    assert texts[0] == "One moment, please. Here it is."
    assert stage.server.stats.first_words_sent == 3


@each_kind
async def test_the_first_word_does_not_wait_for_handlers(kind: str) -> None:
    """The first word does not wait for a handler that waits itself."""
    release = asyncio.Event()

    async def on_init(conversation_id: str, session: SpeechEngineSession) -> None:
        await release.wait()

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        await session.send_response("Welcome.")

    settings = SessionSettings(first_word_after_s=SOON_S, first_word_text=("Hm.",))
    async with serving(kind, settings, on_init=on_init, on_transcript=on_transcript) as stage, stage.call() as api:
        await api.init()
        await api.say("hello", event_id=1)
        assert (await api.receive())["content"] == "Hm. "
        release.set()
        assert await api.answer() == [(1, "Welcome.")]


@each_kind
async def test_no_first_word_follows_an_answer(kind: str) -> None:
    """There is no first word behind a text an empty answer or the end."""
    late = asyncio.Event()
    started = Eventually()

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        if transcript[-1].content != "nothing":
            await session.send_response("" if transcript[-1].content == "empty" else "Hi.", final=True)
            started.add(transcript[-1].content)
            await late.wait()

    settings = SessionSettings(first_word_after_s=LATER_S, first_word_text=("Hm.",))
    async with serving(kind, settings, on_transcript=on_transcript) as stage, stage.call() as api:
        await api.say("nothing", event_id=1)
        assert await api.answer() == []
        await api.say("text", event_id=2)
        assert await api.answer() == [(2, "Hi.")]
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(api.ws.recv(), 2 * LATER_S)
        late.set()
    assert stage.server.stats.first_words_sent == 0


def test_first_word_and_its_time_need_each_other() -> None:
    with pytest.raises(ConfigError, match="first_word_after_s and first_word_text need each other"):
        SessionSettings(first_word_after_s=2.5)
    with pytest.raises(ConfigError, match="first_word_after_s and first_word_text need each other"):
        SessionSettings(first_word_text=("Hm.",))


# --- failures ---


@each_kind
@pytest.mark.parametrize("where", ["handler", "stream"])
async def test_a_failure_before_any_text_is_spoken(kind: str, where: str) -> None:
    """A failure before any text is spoken and the turn finalised."""
    errors = Eventually()

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        if where == "handler":
            raise ConnectionError("provider")
        await session.send_response(broken())

    settings = SessionSettings(failure_text="I am sorry, that did not work.")
    async with (
        serving(
            kind, settings, on_transcript=on_transcript, on_error=lambda error, _: errors.add(repr(error))
        ) as stage,
        stage.call() as api,
    ):
        await api.say("hello", event_id=1)
        assert await api.answer() == [(1, "I am sorry, that did not work.")]
        await api.ping()
        await api.say("hello again", event_id=2)
        assert await api.answer() == [(2, "I am sorry, that did not work.")]
        await api.ping()
    assert errors.items == ["ConnectionError('provider')"] * 2


@each_kind
@pytest.mark.parametrize("where", ["handler", "stream"])
async def test_a_failure_after_text_only_finalises(kind: str, where: str) -> None:
    errors = Eventually()

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        if where == "handler":
            await session.send_response("Your order ", final=False)
            raise ConnectionError("provider")
        await session.send_response(broken("Your order "))

    settings = SessionSettings(failure_text="Sorry.")
    async with (
        serving(
            kind, settings, on_transcript=on_transcript, on_error=lambda error, _: errors.add(repr(error))
        ) as stage,
        stage.call() as api,
    ):
        await api.say("hello", event_id=1)
        assert await api.answer() == [(1, "Your order ")]
        await api.ping()
    assert errors.items == ["ConnectionError('provider')"]


@each_kind
async def test_a_first_word_is_not_the_handlers_text(kind: str) -> None:
    release = asyncio.Event()

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        await release.wait()
        raise ConnectionError("provider")

    settings = SessionSettings(first_word_after_s=SOON_S, first_word_text=("Hm.",), failure_text="Sorry.")
    async with (
        serving(kind, settings, on_transcript=on_transcript, on_error=lambda error, session: None) as stage,
        stage.call() as api,
    ):
        await api.say("hello", event_id=1)
        assert (await api.receive())["content"] == "Hm. "
        release.set()
        assert await api.answer() == [(1, "Sorry.")]
        await api.ping()


@each_kind
async def test_an_empty_text_is_not_a_word(kind: str) -> None:
    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        await session.send_response("", final=False)
        if transcript[-1].content == "fail":
            raise ConnectionError("provider")
        await forever()

    settings = SessionSettings(first_word_after_s=LATER_S, first_word_text=("Hm.",), failure_text="Sorry.")
    async with (
        serving(kind, settings, on_transcript=on_transcript, on_error=lambda error, session: None) as stage,
        stage.call() as api,
    ):
        await api.say("fail", event_id=1)
        assert await api.answer() == [(1, "Sorry.")]
        await api.say("slow", event_id=2)
        assert (await api.receive())["content"] == "Hm. "


# --- too slow, too long ---


@each_kind
@pytest.mark.parametrize("stubborn", [False, True])
async def test_a_turn_over_its_timeout_fails(kind: str, stubborn: bool) -> None:
    log = Eventually()
    release = asyncio.Event()

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        if transcript[-1].content == "next":
            await session.send_response("here")
            return
        try:
            await (stubbornly(release) if stubborn else forever())
        finally:
            log.add("sent", await session.send_response("too late"))

    def on_error(error: Exception, session: SpeechEngineSession) -> None:
        log.add(type(error))

    settings = SessionSettings(turn_timeout_s=LATER_S, failure_text="Sorry.", stray_report_s=60.0)
    async with serving(kind, settings, on_transcript=on_transcript, on_error=on_error) as stage, stage.call() as api:
        await api.say("hello", event_id=1)
        assert await api.answer() == [(1, "Sorry.")]
        await log.until(TurnTimeout)
        release.set()
        await log.until(("sent", False))
        await api.say("hello", event_id=1)  # it counts as answered
        await api.say("next", event_id=2)
        assert await api.answer() == [(2, "here")]
        await api.ping()
    assert stage.server.stats.turns_timed_out == 1


@each_kind
async def test_a_quick_turn_sees_no_guard(kind: str) -> None:
    """The first word comes before the timeout and a quick turn sees neither."""

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        if transcript[-1].content == "slow":
            await forever()
        await session.send_response("quick")

    settings = SessionSettings(first_word_after_s=LATER_S, first_word_text=("Hm.",), turn_timeout_s=1.5 * LATER_S)
    async with (
        serving(kind, settings, on_transcript=on_transcript, on_error=lambda error, session: None) as stage,
        stage.call() as api,
    ):
        await api.say("slow", event_id=1)
        assert await api.answer() == [(1, "Hm. ")]
        await api.say("quick", event_id=2)
        assert await api.answer() == [(2, "quick")]
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(api.ws.recv(), 2 * LATER_S)


@each_kind
@pytest.mark.parametrize("how", ["stream", "string", "strings"])
async def test_a_runaway_answer_is_cut_between_characters(kind: str, how: str) -> None:
    """A runaway answer is cut between characters and ends with its final."""
    log = Eventually()

    async def runaway() -> AsyncIterator[str]:
        try:
            while True:
                yield "äöü"
        finally:
            log.add("closed")

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        assert session.turn is not None
        event_id = session.turn.event_id
        if how == "stream":
            log.add("sent", event_id, await session.send_response(runaway()))
        elif how == "string":
            log.add("sent", event_id, await session.send_response("äöü" * 1000))
        else:
            for _ in range(3):
                await session.send_response("äöü", final=False)
            log.add("sent", event_id, await session.send_response("more"))

    def on_error(error: Exception, session: SpeechEngineSession) -> None:
        log.add(type(error))

    settings = SessionSettings(max_answer_bytes=15)
    async with serving(kind, settings, on_transcript=on_transcript, on_error=on_error) as stage, stage.call() as api:
        for event_id in (1, 2):
            await api.say(f"hello {event_id}", event_id=event_id)
            chunks = await api.answer()
            assert "".join(text for _, text in chunks) == "äöüäöüä"
            await log.until(("sent", event_id, False))
        await api.ping()
    assert log.items.count(AnswerTooLong) == 2
    assert log.items.count("closed") == (2 if how == "stream" else 0)


@each_kind
async def test_an_answer_of_just_the_limit_passes(kind: str) -> None:
    """An answer of just the limit is whole and no error."""

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        assert await session.send_response("äöü", final=False)
        assert await session.send_response("abc")

    settings = SessionSettings(max_answer_bytes=9)
    async with serving(kind, settings, on_transcript=on_transcript) as stage, stage.call() as api:
        await api.say("hello", event_id=1)
        assert await api.answer() == [(1, "äöü"), (1, "abc")]
        await api.ping()
    assert stage.server.stats.answers_too_long == 0


@each_kind
async def test_a_cut_answer_does_not_delay_turns(kind: str) -> None:
    """A handler that goes on behind its cut answer does not hold up the next turn."""
    log = Eventually()

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        log.add(transcript[-1].content)
        if transcript[-1].content == "long":
            await session.send_response("x" * 100)
            await forever()
        await session.send_response("here")

    settings = SessionSettings(max_answer_bytes=10)
    async with (
        serving(kind, settings, on_transcript=on_transcript, on_error=lambda error, session: None) as stage,
        stage.call() as api,
    ):
        await api.say("long", event_id=1)
        assert await api.answer() == [(1, "x" * 10)]
        await api.say("next", event_id=2)
        assert await api.answer() == [(2, "here")]


# --- interruptions ---


@each_kind
async def test_interrupt_handlers_run_before_the_next_turn(kind: str) -> None:
    """An interrupt handler learns what was sent before the next handler starts."""
    log = Eventually()

    async def story() -> AsyncIterator[str]:
        yield "Once "
        yield "upon "
        log.add("told")
        await forever()

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        if transcript[-1].content == "tell":
            await session.send_response(story())
        log.add("next")
        await session.send_response("ok")

    async def on_interrupt(turn: Turn, session: SpeechEngineSession) -> None:
        await asyncio.sleep(0)
        log.add(turn.event_id, turn.text, turn.chunks, turn.interrupted)
        assert turn.first_chunk_at is not None
        assert turn.started_at <= turn.first_chunk_at
        assert turn.spoken_s >= 0

    def on_init(conversation_id: str, session: SpeechEngineSession) -> None:
        @session.on("interrupted")
        def interrupted(turn: Turn) -> None:
            log.add("decorated", turn.text)

    async with (
        serving(kind, on_init=on_init, on_transcript=on_transcript, on_interrupt=on_interrupt) as stage,
        stage.call() as api,
    ):
        await api.init()
        await api.say("tell", event_id=1)
        await log.until("told")
        await api.say("stop", event_id=2)
        await log.until("next")
        assert (await api.receive())["content"] == "Once "
        assert (await api.receive())["content"] == "upon "
        assert await api.answer() == [(2, "ok")]
        await api.send(type="close")
        await api.closed()
    assert log.items == ["told", (1, "Once upon ", 2, True), ("decorated", "Once upon "), "next"]


@each_kind
async def test_a_slow_interrupt_handler_is_bounded(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """A slow interrupt handler holds up the next turn for its time only."""
    log = Eventually()

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        log.add(transcript[-1].content)
        if transcript[-1].content == "first":
            await forever()
        await session.send_response("ok")

    async def on_interrupt(turn: Turn, session: SpeechEngineSession) -> None:
        await forever()

    settings = SessionSettings(interrupt_timeout_s=SOON_S)
    async with (
        serving(kind, settings, on_transcript=on_transcript, on_interrupt=on_interrupt) as stage,
        stage.call() as api,
    ):
        await api.say("first", event_id=1)
        await log.until("first")
        await api.say("second", event_id=2)
        assert await api.answer() == [(2, "ok")]
    assert "interrupted handler" in caplog.text


@each_kind
async def test_only_a_newer_transcript_interrupts(kind: str) -> None:
    """Only a newer transcript interrupts and only what has begun."""
    log = Eventually()
    release = asyncio.Event()

    async def on_init(conversation_id: str, session: SpeechEngineSession) -> None:
        await release.wait()

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        log.add(transcript[-1].content)
        if transcript[-1].content != "answered":
            await forever()

    settings = SessionSettings(retranscription="adopt")
    async with (
        serving(
            kind, settings, on_init=on_init, on_transcript=on_transcript,
            on_interrupt=lambda turn, session: log.add("interrupted"), on_close=lambda session: log.add("close"),
        ) as stage,
        stage.call() as api,
    ):  # fmt: skip
        await api.init()
        await api.say("not begun", event_id=1)
        await api.say("answered", event_id=2)
        release.set()
        assert await api.answer() == []
        await api.say("running", event_id=3)
        await log.until("running")
        await api.say("Running.", event_id=4)  # adopted
        await api.send(type="close")
        await log.until("close")
        await api.closed()
    assert log.items == ["answered", "running", "close"]
