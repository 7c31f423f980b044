"""Mistakes in handlers are named: at registration, or by an `error` event and one log line."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import pytest

from se_server.conversation.session import SpeechEngineSession
from se_server.conversation.settings import SessionSettings
from se_server.errors import HandlerMistake
from se_server.sdk.server import SpeechEngineServer
from se_server.types import ConversationMessage
from tests.functional.conversation.stage import KINDS, Eventually, serving

Transcript = list[ConversationMessage]
Session = SpeechEngineSession


# --- seen when the server is made ---


async def yields_async(transcript: Transcript, session: Session) -> AsyncIterator[str]:
    yield "hi"


def yields_plain(transcript: Transcript, session: Session) -> Iterator[str]:
    yield "hi"


class Yielding:
    async def __call__(self, transcript: Transcript, session: Session) -> AsyncIterator[str]:
        yield "hi"

    def method(self, transcript: Transcript, session: Session) -> Iterator[str]:
        yield "hi"


async def three(mood: str, transcript: Transcript, session: Session) -> AsyncIterator[str]:
    yield mood


@pytest.mark.parametrize(
    "handler",
    [yields_async, yields_plain, Yielding(), Yielding().method, functools.partial(three, "glad")],
    ids=["async", "plain", "object", "method", "partial"],
)
def test_a_generator_handler_is_refused(handler: Any) -> None:
    with pytest.raises(TypeError, match="yields, so calling it runs nothing") as caught:
        SpeechEngineServer(on_transcript=handler)
    assert "write `async def on_transcript(transcript, session)`" in str(caught.value)
    assert "`await session.send_response(...)`" in str(caught.value)


async def no_session(transcript: Transcript) -> None: ...
async def needs_keyword(transcript: Transcript, session: Session, *, mood: str) -> None: ...


class NeedsTwo:
    async def __call__(self, transcript: Transcript) -> None: ...


@pytest.mark.parametrize(
    ("name", "handler", "form"),
    [
        ("on_transcript", no_session, "on_transcript(transcript, session)"),
        ("on_transcript", needs_keyword, "on_transcript(transcript, session)"),
        ("on_transcript", NeedsTwo(), "on_transcript(transcript, session)"),
        ("on_transcript", functools.partial(no_session, []), "on_transcript(transcript, session)"),
        ("on_init", lambda session: None, "on_init(conversation_id, session)"),
        ("on_close", lambda: None, "on_close(session)"),
        ("on_disconnect", lambda code, session: None, "on_disconnect(session)"),
        ("on_error", lambda error: None, "on_error(error, session)"),
        ("on_interrupt", lambda: None, "on_interrupt(turn, session)"),
    ],
)
def test_parameters_of_every_callback_are_checked(name: str, handler: Any, form: str) -> None:
    with pytest.raises(TypeError) as caught:
        SpeechEngineServer(**{name: handler})
    assert f"cannot be called as {form}: write `async def {form}`" in str(caught.value)


def decorated(function: Any) -> Any:
    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        return await function(*args, SimpleNamespace(), **kwargs)

    return wrapper


@decorated
async def with_database(transcript: Transcript, session: Session, database: object) -> None: ...
async def with_default(transcript: Transcript, session: Session, mood: str = "glad", *, loud: bool = False) -> None: ...
async def with_rest(*args: Any, **kwargs: Any) -> None: ...


@pytest.mark.parametrize(
    "handler",
    [with_database, with_default, with_rest, AsyncMock(), functools.partial(with_default, mood="sad"), print],
)
def test_handlers_of_other_forms_are_accepted(handler: Any) -> None:
    assert SpeechEngineServer(on_transcript=handler).handlers.on_transcript is handler


@pytest.mark.parametrize(
    ("event", "handler", "form"),
    [
        ("user_transcript", lambda transcript, session: None, "handler(transcript)"),
        ("init", lambda: None, "handler(conversation_id)"),
        ("close", lambda session: None, "handler()"),
        ("disconnected", lambda session: None, "handler()"),
        ("error", lambda error, session: None, "handler(error)"),
    ],
)
@pytest.mark.parametrize("way", ["call", "decorator", "once"])
async def test_session_on_refuses_wrong_parameters(event: str, handler: Any, form: str, way: str) -> None:
    session = SpeechEngineSession(SimpleNamespace(recv=AsyncMock(), send=AsyncMock(), close=AsyncMock()))
    register = {
        "call": session.on,
        "decorator": lambda event, handler: session.on(event)(handler),
        "once": session.once,
    }
    with pytest.raises(TypeError, match="cannot handle") as caught:
        register[way](event, handler)
    assert f"write `async def {form}`" in str(caught.value)
    assert repr(event) in str(caught.value)


async def test_session_on_refuses_a_generator() -> None:
    session = SpeechEngineSession(SimpleNamespace(recv=AsyncMock(), send=AsyncMock(), close=AsyncMock()))

    async def stream(transcript: Transcript) -> AsyncIterator[str]:
        yield "hi"

    with pytest.raises(TypeError, match="yields, so calling it runs nothing"):
        session.on("user_transcript", stream)


# --- seen when it has run ---


async def returns_text(transcript: Transcript, session: Session) -> str:
    return "hi"


def returns_text_plainly(transcript: Transcript, session: Session) -> str:
    return "hi"


async def returns_texts(transcript: Transcript, session: Session) -> list[str]:
    return ["hi", "there"]


async def returns_generator(transcript: Transcript, session: Session) -> Any:
    async def words() -> AsyncIterator[str]:
        yield "hi"

    return words()


def returns_iterator(transcript: Transcript, session: Session) -> Any:
    return (word for word in ("hi", "there"))


async def returns_coroutine(transcript: Transcript, session: Session) -> Any:
    return session.send_response("hi")


async def helper(session: Session) -> None:
    await session.send_response("hi")


async def forgets_await(transcript: Transcript, session: Session) -> None:
    session.send_response("hi")


def forgets_async(transcript: Transcript, session: Session) -> None:
    session.send_response("hi")


async def forgets_await_of_helper(transcript: Transcript, session: Session) -> None:
    if transcript:
        helper(session)  # type: ignore[unused-coroutine]


async def drops_what_it_made(transcript: Transcript, session: Session) -> None:
    sent = session.send_response("hi")  # noqa: F841


def answers_greetings(transcript: Transcript, said: Session) -> None:
    said.send_response("hi")


async def forgets_in_a_helper(transcript: Transcript, session: Session) -> None:
    answers_greetings(transcript, session)


TOPICS = {"hello": answers_greetings}


async def forgets_in_a_table(transcript: Transcript, session: Session) -> None:
    TOPICS[transcript[-1].content](transcript, session)


async def returns_an_object(transcript: Transcript, session: Session) -> Any:
    return SimpleNamespace(text="hi")


async def returns_a_dict(transcript: Transcript, session: Session) -> Any:
    return {"role": "agent", "content": "hi"}


async def returns_messages(transcript: Transcript, session: Session) -> Any:
    return [{"role": "agent", "content": "hi"}]


class Broken:
    def __repr__(self) -> str:
        raise ValueError("no text")


async def returns_a_broken_object(transcript: Transcript, session: Session) -> Any:
    return Broken()


class Agent:
    async def reply(self, session: Session) -> None: ...

    async def on_transcript(self, transcript: Transcript, session: Session) -> None:
        self.reply(session)  # type: ignore[unused-coroutine]


class ByMethod:
    def reply(self, session: Session) -> None:
        session.send_response("hi")

    async def on_transcript(self, transcript: Transcript, session: Session) -> None:
        self.reply(session)


async def returns_a_number(transcript: Transcript, session: Session) -> int:
    return 3


def logged(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        return function(*args)

    return wrapper


hidden_generator = logged(yields_async)


AT_RUN_TIME = [
    (returns_text, "returned a text"),
    (returns_text_plainly, "returned a text"),
    (lambda *args: returns_text(*args), "returned a text"),  # noqa: PLW0108
    (returns_texts, "returned a text"),
    (returns_generator, "returned a stream (async_generator)"),
    (returns_iterator, "returned a stream (generator)"),
    (hidden_generator, "returned a stream (async_generator)"),
    (returns_coroutine, "which nobody awaits"),
    (forgets_await, "`await session.send_response(...)`"),
    (forgets_async, "`async def` and `await session.send_response(...)`"),
    (forgets_await_of_helper, "`await helper(...)`"),
    (Agent().on_transcript, "`await self.reply(...)`"),
    (ByMethod().on_transcript, "in ByMethod.reply, line"),
    (drops_what_it_made, "`await session.send_response(...)`"),
    (forgets_in_a_helper, "in answers_greetings, line"),
    (forgets_in_a_table, "write `async def` and `await said.send_response(...)`"),
    (returns_an_object, "returned a value (SimpleNamespace)"),
    (returns_a_dict, "returned a value (dict)"),
    (returns_messages, "returned a value (list)"),
    (returns_a_broken_object, "returned a value (Broken)"),
    (returns_a_number, "returned a value (int)"),
]


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(("handler", "words"), AT_RUN_TIME)
async def test_a_silent_handler_is_an_error_event(
    handler: Callable[..., Any], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Each turn has its error and the failure text; the log has one line for the handler."""
    from se_server.conversation import findings

    findings._mistaken.clear()
    log = Eventually()
    settings = SessionSettings(failure_text="Sorry.")
    async with (
        serving("own", settings, on_transcript=handler, on_error=lambda error, session: log.add(error)) as stage,
        stage.call() as api,
    ):
        for event_id in (1, 2):
            await api.say("hello", event_id=event_id)
            assert await api.answer() == [(event_id, "Sorry.")]
        await log.until(lambda items: len(items) == 2)
    assert all(isinstance(error, HandlerMistake) for error in log.items)
    assert words in str(log.items[0])
    (line,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert str(log.items[0]) in line
    assert __name__ in line


@pytest.mark.parametrize("kind", KINDS)
async def test_a_mistake_is_logged_once_without_on_error(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    from se_server.conversation import findings

    findings._mistaken.clear()
    async with serving(kind, on_transcript=returns_text) as stage, stage.call() as api:
        for event_id in (1, 2):
            await api.say("hello", event_id=event_id)
            assert await api.answer() == []
    (line,) = [message for message in caplog.messages if "returned a text" in message]
    assert "write `await session.send_response(...)`" in line


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
async def test_each_mistake_of_a_handler_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A handler has several ways out: one that was reported hides no other."""
    from se_server.conversation import findings

    async def several(transcript: Transcript, session: Session) -> Any:
        if transcript[-1].content == "return":
            return "hi"
        session.send_response("hi")  # type: ignore[unused-coroutine]
        return None

    findings._mistaken.clear()
    async with serving("own", on_transcript=several) as stage, stage.call() as api:
        for event_id, text in enumerate(("return", "forget", "return"), 1):
            await api.say(text, event_id=event_id)
            await api.answer()
    assert len([text for text in caplog.messages if "returned a text" in text]) == 1
    assert len([text for text in caplog.messages if "without" in text or "await" in text]) == 2


async def test_a_returned_text_keeps_later_handlers() -> None:
    """A mistake is no failure: the handlers behind it run."""

    def on_init(conversation_id: str, session: Session) -> None:
        async def second(transcript: Transcript) -> None:
            await session.send_response("second")

        session.on("user_transcript", second)

    async with serving("own", on_init=on_init, on_transcript=returns_text) as stage, stage.call() as api:
        await api.init()
        await api.say("hello", event_id=1)
        assert await api.answer() == [(1, "second")]


@pytest.mark.parametrize("result", [None, True, False, 3, {"turn": 1}, object()])
async def test_harmless_results_are_no_mistakes(result: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def on_transcript(transcript: Transcript, session: Session) -> Any:
        await session.send_response("hi")
        return result

    mock = AsyncMock()
    async with serving("own", on_init=mock, on_transcript=on_transcript, on_error=mock) as stage, stage.call() as api:
        await api.init()
        await api.say("hello", event_id=1)
        assert await api.answer() == [(1, "hi")]
    mock.assert_awaited_once()
    assert not caplog.messages or all("returned" not in message for message in caplog.messages)


async def test_a_text_returned_by_on_init_is_an_error() -> None:
    log = Eventually()

    async def on_init(conversation_id: str, session: Session) -> str:
        return "Welcome!"

    async with (
        serving("own", on_init=on_init, on_error=lambda error, session: log.add(str(error))) as stage,
        stage.call() as api,
    ):
        await api.init()
        await log.until(lambda items: len(items) == 1)
    assert "returned a text, which nobody speaks: only a handler of user_transcript answers" in log.items[0]


# --- a coroutine that blocks the loop ---


class Blocking:
    async def __call__(self, transcript: Transcript, session: Session) -> None:
        time.sleep(0.3)  # noqa: ASYNC251


async def block_at_once(transcript: Transcript, session: Session) -> None:
    time.sleep(0.3)  # noqa: ASYNC251


async def block_later(transcript: Transcript, session: Session) -> None:
    await asyncio.sleep(0.01)
    await deeper()


async def deeper() -> None:
    time.sleep(0.3)  # noqa: ASYNC251


async def block_in_a_stream(transcript: Transcript, session: Session) -> None:
    async def words() -> AsyncIterator[str]:
        yield "hi"
        time.sleep(0.3)  # noqa: ASYNC251

    await session.send_response(words())


@pytest.mark.parametrize("kind", ["own", "websockets"])
@pytest.mark.parametrize(
    ("handler", "name", "place"),
    [
        (block_at_once, "block_at_once", "block_at_once"),
        (block_later, "block_later", "deeper"),
        (block_in_a_stream, "block_in_a_stream", "words"),
        (Blocking(), "Blocking", "__call__"),
        (functools.partial(block_at_once), "block_at_once", "block_at_once"),
    ],
)
async def test_a_coroutine_that_blocks_is_reported(
    kind: str, handler: Any, name: str, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    from se_server.conversation.blocking import block_watch

    block_watch()._reported.clear()
    async with serving(kind, on_transcript=handler) as stage, stage.call() as api:
        for event_id in (1, 2):
            await api.say("hello", event_id=event_id)
            await api.answer()
    (report,) = [message for message in caplog.messages if "blocks the event loop" in message]
    assert f"{__name__}.{name} blocks" in report
    assert "test_mistakes.py:" in report
    assert f" in {place}." in report


async def test_a_busy_coroutine_that_yields_is_not_reported(caplog: pytest.LogCaptureFixture) -> None:
    """Many short steps of one task are no block."""

    async def busy(transcript: Transcript, session: Session) -> None:
        until = time.monotonic() + 0.4
        while time.monotonic() < until:  # noqa: ASYNC110  it has to be busy
            await asyncio.sleep(0)

    async with serving("own", on_transcript=busy) as stage, stage.call() as api:
        await api.say("hello", event_id=1)
        await api.answer()
    assert not [message for message in caplog.messages if "blocks the event loop" in message]
