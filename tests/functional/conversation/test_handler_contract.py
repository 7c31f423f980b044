"""The promises to handlers, point by point, behind our own door and behind every adapter."""

from __future__ import annotations

import asyncio
import json
import logging
import pickle
import threading
import time
import traceback
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pydantic
import pytest

from se_server.conversation.session import SpeechEngineSession
from se_server.conversation.settings import SessionSettings
from se_server.errors import MessageError, WrongThread
from se_server.types import ConversationMessage
from tests.functional.conversation.stage import KINDS, Eventually, serving

pytestmark = pytest.mark.parametrize("kind", KINDS)

Transcript = list[ConversationMessage]


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


async def stubbornly(release: asyncio.Event) -> None:
    """Swallow what cancellations a session sends; not so many that a failing test could never end."""
    for _ in range(3):
        try:
            await release.wait()
            return
        except asyncio.CancelledError:
            continue


# --- 1. Order ---


async def test_events_reach_handlers_in_wire_order(kind: str) -> None:
    """Events reach handlers in wire order and init ends before the first transcript."""
    log = Eventually()
    release = asyncio.Event()

    async def on_init(conversation_id: str, session: SpeechEngineSession) -> None:
        log.add("init starts", conversation_id)
        await release.wait()
        log.add("init ends")

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        log.add("transcript", transcript[-1].content)

    async def on_error(error: Exception, session: SpeechEngineSession) -> None:
        log.add("error")

    async def on_close(session: SpeechEngineSession) -> None:
        log.add("close")

    async def on_disconnect(session: SpeechEngineSession) -> None:
        log.add("disconnected")

    async with (
        serving(
            kind,
            on_init=on_init,
            on_transcript=on_transcript,
            on_close=on_close,
            on_disconnect=on_disconnect,
            on_error=on_error,
        ) as stage,
        stage.call() as api,
    ):
        await api.init("conv_7")
        await api.ws.send("no json")
        await api.say("hello", event_id=1)
        await api.ping()  # answered although on_init still runs
        assert log.items == [("init starts", "conv_7")]
        release.set()
        assert await api.answer() == []
        await api.send(type="close")
        await log.until("close")
        await api.closed()
    assert log.items == [("init starts", "conv_7"), "init ends", "error", ("transcript", "hello"), "close"]


@pytest.mark.parametrize("ending", ["close", "disconnected"])
async def test_exactly_one_of_close_and_disconnected_comes_last(kind: str, ending: str) -> None:
    log = Eventually()

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        log.add("transcript")
        try:
            await forever()
        finally:
            log.add("cancelled")

    async def on_error(error: Exception, session: SpeechEngineSession) -> None:
        log.add("error")

    async with (
        serving(
            kind,
            on_transcript=on_transcript,
            on_error=on_error,
            on_close=lambda session: log.add("close"),
            on_disconnect=lambda session: log.add("disconnected"),
        ) as stage,
        stage.call() as api,
    ):
        await api.say("hello", event_id=1)
        await log.until("transcript")
        if ending == "close":
            await api.send(type="close")
            await api.send(type="close")
            await api.closed()
        else:
            api.ws.transport.abort()
        await log.until(ending)
    assert log.items == ["transcript", "cancelled", ending]


# --- 2. One turn at a time ---


async def test_the_next_handler_follows_the_cancelled_one(kind: str) -> None:
    """A superseded handler is cancelled and the next starts when it has ended."""
    log = Eventually()

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        name = transcript[-1].content
        log.add(name, "starts")
        if name == "first":
            try:
                await forever()
            finally:
                await asyncio.sleep(0)
                log.add(name, "ends")
        await session.send_response(name)

    async with serving(kind, on_transcript=on_transcript) as stage, stage.call() as api:
        await api.say("first", event_id=1)
        await log.until(("first", "starts"))
        await api.say("second", event_id=2)
        assert await api.answer() == [(2, "second")]
    assert log.items == [("first", "starts"), ("first", "ends"), ("second", "starts")]


async def test_a_slow_clean_up_delays_nothing(kind: str) -> None:
    """A handler that takes long to clean up delays neither pings nor the next turn."""
    log = Eventually()
    release = asyncio.Event()
    tries = 5  # the best counts: the machine may be busy with something else

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        log.add(transcript[-1].content)
        if transcript[-1].content.startswith("slow"):
            try:
                await forever()
            finally:
                await release.wait()
                log.add("cleaned up")
        await session.send_response("here")

    pongs_s, answers_s = [], []
    async with serving(kind, on_transcript=on_transcript) as stage, stage.call() as api:
        for number in range(tries):
            await api.say(f"slow {number}", event_id=2 * number + 1)
            await log.until(f"slow {number}")
            sent_at = time.monotonic()
            await api.say("next", event_id=2 * number + 2)
            await api.ping()
            pongs_s.append(time.monotonic() - sent_at)
            assert await api.answer() == [(2 * number + 2, "here")]
            answers_s.append(time.monotonic() - sent_at)
        assert "cleaned up" not in log.items
        release.set()
        await log.until(lambda items: items.count("cleaned up") == tries)
    assert min(pongs_s) < 0.05
    assert min(answers_s) < 0.1


async def test_a_handler_swallowing_cancellation_is_reported(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """A handler that swallows cancellation is reported and hangs nothing."""
    log = Eventually()
    release = asyncio.Event()

    async def stubborn(transcript: Transcript, session: SpeechEngineSession) -> None:
        log.add(transcript[-1].content)
        if transcript[-1].content != "stuck":
            await session.send_response("here")
            return
        await stubbornly(release)

    settings = SessionSettings(stray_report_s=0.01)
    with caplog.at_level(logging.WARNING, "se_server.session"):

        def lost(session: SpeechEngineSession) -> None:
            log.add("disconnected")

        async with (
            serving(kind, settings, on_transcript=stubborn, on_disconnect=lost) as stage,
            stage.call() as api,
        ):
            await api.say("stuck", event_id=1)
            await log.until("stuck")
            await api.say("next", event_id=2)
            assert await api.answer() == [(2, "here")]
            while not caplog.messages:  # the report comes a moment after the hand-over
                await api.ping()
            await api.say("stuck", event_id=3)
            await log.until(lambda items: items.count("stuck") == 2)
            api.ws.transport.abort()
            await log.until("disconnected")
            release.set()
    report = caplog.messages[0]
    assert "stubborn" in report
    assert "test_handler_contract.py" in report


@pytest.mark.parametrize("ends", [False, True], ids=["beside a turn", "after the end"])
async def test_a_late_failure_of_an_event_is_only_logged(
    kind: str, ends: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """An event handler that outlives its cancellation calls no error handler beside other user code."""
    log = Eventually()
    release, go_on = asyncio.Event(), asyncio.Event()

    async def on_interrupt(turn: Any, session: SpeechEngineSession) -> None:
        log.add("interrupted")
        await stubbornly(release)
        log.add("raises")
        raise ValueError("too late")

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        text = transcript[-1].content
        log.add(text)
        if text == "one":
            await session.send_response("Well, ", final=False)
            await forever()
        await go_on.wait()
        await session.send_response(text)

    def on_error(error: Exception, session: SpeechEngineSession) -> None:
        log.add("error")

    settings = SessionSettings(interrupt_timeout_s=0.001, handover_s=0.001)
    with caplog.at_level(logging.WARNING, "se_server.session"):
        async with (
            serving(
                kind,
                settings,
                on_transcript=on_transcript,
                on_interrupt=on_interrupt,
                on_error=on_error,
                on_close=lambda session: log.add("closed"),
            ) as stage,
            stage.call() as api,
        ):
            await api.say("one", event_id=1)
            await api.receive()
            await api.say("one", "Well, ", "two", event_id=2)
            await log.until("two")
            if ends:
                go_on.set()
                await api.send(type="close")
                await log.until("closed")
            release.set()
            await log.until("raises")
            for _ in range(10_000):  # turns of the loop; the report needs a few
                if "failed after it was cancelled" in caplog.text:
                    break
                await asyncio.sleep(0)
            go_on.set()
            if not ends:
                assert await api.answer() == [(2, "two")]
    assert "error" not in log.items
    assert "on_interrupt failed after it was cancelled" in caplog.text
    assert "ValueError: too late" in caplog.text


async def test_handlers_that_never_end_are_bounded(kind: str) -> None:
    """Handlers that never end are bounded and refused turns are finalised."""
    errors = Eventually()
    started = Eventually()
    release = asyncio.Event()

    async def stubborn(transcript: Transcript, session: SpeechEngineSession) -> None:
        started.add(transcript[-1].content)
        await stubbornly(release)

    async def on_error(error: Exception, session: SpeechEngineSession) -> None:
        errors.add(str(error))

    settings = SessionSettings(handover_s=0.001, max_stray_handlers=2)
    async with serving(kind, settings, on_transcript=stubborn, on_error=on_error) as stage, stage.call() as api:
        for event_id in (1, 2):
            await api.say(f"turn {event_id}", event_id=event_id)
            await started.until(f"turn {event_id}")
        await api.say("turn 3", event_id=3)
        assert await api.answer() == []
        assert errors.items == ["2 cancelled handlers of this conversation still run; the turn was not started"]
        release.set()
    assert started.items == ["turn 1", "turn 2"]


# --- 3. Several answers in one turn ---


async def test_each_answer_has_its_own_final(kind: str) -> None:
    """Each send response is an answer with its own final."""

    async def words() -> AsyncIterator[str]:
        yield "two "
        yield ""
        yield "three"

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        assert await session.send_response("one") is True
        assert await session.send_response(words()) is True

    async with serving(kind, on_transcript=on_transcript) as stage, stage.call() as api:
        await api.say("hello", event_id=26)
        assert await api.answer() == [(26, "one")]
        assert await api.answer() == [(26, "two "), (26, "three")]
        await api.ping()  # and no third final


async def test_the_server_finalises_an_open_answer(kind: str) -> None:
    """An answer left open goes on and is finalised by the server."""

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        await session.send_response("one ", final=False)
        await session.send_response("two", final=False)

    async with serving(kind, on_transcript=on_transcript) as stage, stage.call() as api:
        await api.say("hello", event_id=1)
        assert await api.answer() == [(1, "one "), (1, "two")]
        await api.ping()


async def test_a_handler_that_sends_nothing_finalises_its_turn(kind: str) -> None:
    async with serving(kind, on_transcript=lambda transcript, session: None) as stage, stage.call() as api:
        await api.say("hello", event_id=5)
        assert await api.receive() == {"type": "agent_response", "content": " ", "event_id": 5, "is_final": False}
        assert await api.receive() == {"type": "agent_response", "content": "", "event_id": 5, "is_final": True}


# --- 4. Answered ---


async def test_a_turn_ends_with_its_handler(kind: str) -> None:
    log = Eventually()

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        turn = session.turn
        assert turn is not None
        log.add("turn", turn)
        await session.send_response("hello")
        log.add("sent", turn.state.name)

    async with serving(kind, on_transcript=on_transcript) as stage, stage.call() as api:
        await api.say("hello", event_id=1)
        await api.answer()
        await api.ping()
        (_, turn), sent = log.items
        assert sent == ("sent", "RUNNING")
        assert turn.state.name == "ANSWERED"
        assert turn.first_chunk_at >= turn.started_at


# --- 5. Identity ---


async def test_a_task_left_behind_sends_nothing(kind: str) -> None:
    """A task left behind by a superseded handler sends nothing."""
    results = Eventually()
    late = asyncio.Event()

    async def speak_late(session: SpeechEngineSession) -> None:
        await late.wait()
        results.add(await session.send_response("too late"))

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        if transcript[-1].content == "first":
            session.late = asyncio.create_task(speak_late(session))
            results.add("started")
            await forever()
        late.set()
        await session.late
        assert await session.send_response("in time")

    async with serving(kind, on_transcript=on_transcript) as stage, stage.call() as api:
        await api.say("first", event_id=1)
        await results.until("started")
        await api.say("second", event_id=2)
        assert await api.answer() == [(2, "in time")]
    assert results.items == ["started", False]


async def test_other_tasks_speak_for_the_running_turn(kind: str) -> None:
    async def consume(session: SpeechEngineSession) -> None:
        while True:
            text, done = await session.queue.get()
            await session.send_response(text)
            done.set()

    async def on_init(conversation_id: str, session: SpeechEngineSession) -> None:
        session.queue = asyncio.Queue()
        session.consumer = asyncio.create_task(consume(session))

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        done = asyncio.Event()
        session.queue.put_nowait((transcript[-1].content, done))
        await done.wait()

    async def on_disconnect(session: SpeechEngineSession) -> None:
        session.consumer.cancel()

    async with (
        serving(kind, on_init=on_init, on_transcript=on_transcript, on_disconnect=on_disconnect) as stage,
        stage.call() as api,
    ):
        await api.init()
        for event_id in (1, 3):
            await api.say(f"turn {event_id}", event_id=event_id)
            assert await api.answer() == [(event_id, f"turn {event_id}")]


async def test_send_response_outside_a_turn_warns(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    results = Eventually()

    async def on_init(conversation_id: str, session: SpeechEngineSession) -> None:
        results.add(await session.send_response("hello there"))

    async with serving(kind, on_init=on_init) as stage, stage.call() as api:
        with caplog.at_level(logging.WARNING, "se_server.session"):
            await api.init("conv_3")
            await results.until(False)
        await api.ping()
    assert "outside a transcript handler" in caplog.text
    assert "conv_3" in caplog.text


# --- 6. Streams ---


class Stream:
    """Yields, then ends, fails or waits; remembers in which task it was closed, and when."""

    def __init__(self, *items: Any) -> None:
        self.items = list(items)
        self.iterated_in: object = None
        self.closed_in: list[object] = []
        self.waits = asyncio.Event()

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> Any:
        self.iterated_in = asyncio.current_task()
        if not self.items:
            raise StopAsyncIteration
        item = self.items.pop(0)
        if isinstance(item, Exception):
            raise item
        if item is forever:
            self.waits.set()
            await forever()
        return item

    async def close(self) -> None:
        self.closed_in.append(asyncio.current_task())


@pytest.mark.parametrize("ending", ["end", "error", "cancellation"])
async def test_the_iterating_task_closes_the_stream(kind: str, ending: str) -> None:
    """Send response closes the stream in the task that iterates it."""
    stream = Stream("a", *{"end": [], "error": [ConnectionError("provider")], "cancellation": [forever]}[ending])
    errors = Eventually()

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        if transcript[-1].content == "next":
            return
        await session.send_response(stream)

    async def on_error(error: Exception, session: SpeechEngineSession) -> None:
        errors.add(repr(error))

    async with serving(kind, on_transcript=on_transcript, on_error=on_error) as stage, stage.call() as api:
        await api.say("hello", event_id=1)
        if ending == "cancellation":
            await asyncio.wait_for(stream.waits.wait(), 5)
            assert (await api.receive())["content"] == "a"  # sent at once, although more was to come
            await api.say("next", event_id=2)
            assert await api.answer() == []
        else:
            assert await api.answer() == [(1, "a")]
            await api.ping()
    assert stream.closed_in == [stream.iterated_in]
    assert errors.items == (["ConnectionError('provider')"] if ending == "error" else [])


async def test_closing_a_stream_is_bounded(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """A stream that does not close is waited for half a second at most."""

    class Stuck(Stream):
        async def close(self) -> None:
            await super().close()
            await forever()

    stream = Stuck("a", forever)

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        if transcript[-1].content == "hello":
            await session.send_response(stream)

    settings = SessionSettings(stream_close_s=0.05, handover_s=60.0)
    async with serving(kind, settings, on_transcript=on_transcript) as stage, stage.call() as api:
        await api.say("hello", event_id=1)
        await api.receive()
        await api.say("next", event_id=2)
        assert await api.answer() == []
    assert stream.closed_in == [stream.iterated_in]
    assert "closing tests.Stuck took longer" in caplog.text


# --- 7. Bad entries ---


async def test_a_bad_entry_is_reported_once(kind: str) -> None:
    """A bad entry is left out and reported once in the session."""
    seen: list[Transcript] = []
    errors = Eventually()

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        seen.append(transcript)
        await session.send_response("ok")

    async def on_error(error: Exception, session: SpeechEngineSession) -> None:
        errors.add(error)

    history: list[Any] = [{"role": "user", "content": "one"}, {"role": "agent", "content": None}, 5]
    async with serving(kind, on_transcript=on_transcript, on_error=on_error) as stage, stage.call() as api:
        for event_id in (1, 2):
            history.append({"role": "user", "content": f"turn {event_id}"})
            await api.send(type="user_transcript", user_transcript=history, event_id=event_id)
            assert await api.answer() == [(event_id, "ok")]
    assert [[message.content for message in transcript] for transcript in seen] == [
        ["one", "turn 1"],
        ["one", "turn 1", "turn 2"],
    ]
    (error,) = errors.items
    assert isinstance(error, MessageError)


# --- 8. The transcript ---


async def test_the_transcript_is_a_new_list(kind: str) -> None:
    seen: list[Transcript] = []

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        seen.append(list(transcript))
        assert type(transcript) is list
        transcript.clear()  # the handler's own: it must not show in the next turn
        await session.send_response("ok")

    async with serving(kind, on_transcript=on_transcript) as stage, stage.call() as api:
        await api.say("one", event_id=1)
        await api.answer()
        await api.say("one", "ok", "two", event_id=2)
        await api.answer()
    first, second = seen
    assert [message.content for message in second] == ["one", "ok", "two"]
    message = second[0]
    assert message == first[0]
    assert hash(message) == hash(first[0])
    assert message != second[2]
    with pytest.raises(AttributeError):
        message.content = "other"  # type: ignore[misc]
    as_dict = {"role": "user", "content": "one"}
    assert dict(message) == message.model_dump() == json.loads(message.model_dump_json()) == as_dict
    assert orjson.loads(orjson.dumps(second)) == [m.model_dump() for m in second]
    assert json.loads(json.dumps([m.model_dump() for m in second]))[0] == as_dict
    assert pydantic.TypeAdapter(list[ConversationMessage]).dump_python(second)[0] == as_dict
    assert pickle.loads(pickle.dumps(second)) == second


# --- 9. The session ---


async def test_the_session_takes_attributes_and_knows_its_request(kind: str) -> None:
    sessions: list[SpeechEngineSession] = []

    async def on_init(conversation_id: str, session: SpeechEngineSession) -> None:
        session.user = "Ada"

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        sessions.append(session)
        turn = session.turn
        assert turn is not None
        await session.send_response(f"{session.user} {turn.event_id}")

    async with (
        serving(kind, on_init=on_init, on_transcript=on_transcript) as stage,
        stage.call(additional_headers={"X-Caller-Id": "+49 1"}) as api,
    ):
        await api.init("conv_9")
        await api.say("hello", event_id=4)
        assert await api.answer() == [(4, "Ada 4")]
        (session,) = sessions
        assert session.headers["x-caller-ID"] == "+49 1"
        assert (session.path, session.query) == ("/call", "x=1")
        assert session.remote.startswith("127.0.0.1")
        assert session.conversation_id == "conv_9"
        assert session.is_open
        await api.ping()
        assert session.turn is None
        assert "+49" not in repr(session.headers)


# --- 10 is tested with the processes it is about: tests/functional/test_se_server.py ---


# --- 11. Plain functions ---


@pytest.mark.asyncio(loop_factories=["uvloop"])  # once is once in a process
async def test_a_blocking_function_is_reported_once(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """A plain function that blocks the loop is reported once with where it stood."""

    def busy(transcript: Transcript, session: SpeechEngineSession) -> None:
        until = time.monotonic() + 0.4
        while time.monotonic() < until:
            pass

    busy.__qualname__ = f"busy_{kind}"  # reported once by name
    async with serving(kind, on_transcript=busy) as stage, stage.call() as api:
        for event_id in (1, 2):
            await api.say("hello", event_id=event_id)
            assert await api.answer() == []
    (report,) = [message for message in caplog.messages if "blocks the event loop" in message]
    assert f"busy_{kind}" in report
    assert "test_handler_contract.py" in report


# --- 12. Exceptions ---


class Abort(BaseException):
    """An exception past `except Exception`, as some libraries raise."""


@pytest.mark.parametrize("raised", [ValueError("my bug"), SystemExit(3), Abort()])
async def test_a_handlers_exception_becomes_an_error_event(kind: str, raised: BaseException) -> None:
    """An exception in a handler becomes an error event and the turn is finalised."""
    errors: list[BaseException] = []

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        await session.send_response("so far ", final=False)
        raise raised

    async def on_error(error: Exception, session: SpeechEngineSession) -> None:
        errors.append(error)

    async with serving(kind, on_transcript=on_transcript, on_error=on_error) as stage, stage.call() as api:
        for event_id in (1, 2):
            await api.say("hello", event_id=event_id)
            assert await api.answer() == [(event_id, "so far ")]
    assert errors == [raised, raised]


async def test_tracebacks_begin_in_the_users_code(kind: str) -> None:
    """No frame of the server's own precedes the handler's or the stream's."""
    errors: list[Exception] = []

    async def failing() -> AsyncIterator[str]:
        yield "so far "
        raise ValueError("my bug")

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        if transcript[-1].content == "stream":
            await session.send_response(failing())
        else:
            raise ValueError("my bug")

    async def on_error(error: Exception, session: SpeechEngineSession) -> None:
        errors.append(error)

    async with serving(kind, on_transcript=on_transcript, on_error=on_error) as stage, stage.call() as api:
        for event_id, words in ((1, "handler"), (2, "stream")):
            await api.say(words, event_id=event_id)
            await api.answer()
    assert [traceback.extract_tb(error.__traceback__)[0].name for error in errors] == ["on_transcript", "failing"]


async def test_an_error_handlers_exception_is_logged(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """An exception in an error handler is logged with the conversation id."""

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        raise ValueError("my bug")

    async def on_error(error: Exception, session: SpeechEngineSession) -> None:
        raise KeyError("my other bug")

    async with serving(kind, on_transcript=on_transcript, on_error=on_error) as stage, stage.call() as api:
        await api.init("conv_12")
        await api.say("hello", event_id=1)
        assert await api.answer() == []
        await api.ping()
    assert "conv_12" in caplog.text
    assert "my other bug" in caplog.text


# --- 13. Closing ---


async def test_close_may_be_called_any_time(kind: str) -> None:
    log = Eventually()

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        session.close()
        session.close()
        try:
            await forever()
        except asyncio.CancelledError:
            log.add("cancelled")
            raise

    async def on_close(session: SpeechEngineSession) -> None:
        session.close()
        log.add("close", session.is_open)
        with pytest.raises(RuntimeError, match="session is closed"):
            await session.send_response("too late")
        log.add("done")

    async with serving(kind, on_transcript=on_transcript, on_close=on_close) as stage, stage.call() as api:
        await api.say("hello", event_id=1)
        assert await api.closed() == 1000
        await log.until("done")
    assert log.items == ["cancelled", ("close", False), "done"]


# --- 14. Threads ---


async def test_a_call_from_another_thread_raises(kind: str) -> None:
    """A call from another thread raises and names the way."""
    caught = Eventually()

    def elsewhere(session: SpeechEngineSession) -> None:
        for attempt in (
            session.close,
            lambda: session.on("close", print),
            lambda: asyncio.run(session.send_response("x")),
        ):
            with pytest.raises(WrongThread, match="run_coroutine_threadsafe"):
                attempt()

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        await asyncio.to_thread(elsewhere, session)
        loop = asyncio.get_running_loop()

        def properly() -> None:
            caught.add(asyncio.run_coroutine_threadsafe(session.send_response("from a thread"), loop).result(5))

        await asyncio.to_thread(properly)

    async with serving(kind, on_transcript=on_transcript) as stage, stage.call() as api:
        await api.say("hello", event_id=1)
        assert await api.answer() == [(1, "from a thread")]
        await caught.until(True)
    assert threading.current_thread() is threading.main_thread()
