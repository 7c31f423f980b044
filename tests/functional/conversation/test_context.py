"""Context variables: all handlers of a session run in one context, and a turn's handler in a copy of it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

import pytest
import websockets

from se_server.conversation.session import SpeechEngineSession
from se_server.types import ConversationMessage
from tests.functional.conversation.stage import KINDS, Api, Eventually, serving

Transcript = list[ConversationMessage]

customer: ContextVar[str] = ContextVar("customer", default="nobody")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["coroutine", "plain"])
async def test_on_init_sets_variables_for_later_handlers(kind: str, form: str) -> None:
    """Handlers that start at once and those that had to wait see what on_init has set."""
    log = Eventually()
    release = asyncio.Event()

    async def slow_init(conversation_id: str, session: SpeechEngineSession) -> None:
        await release.wait()
        customer.set(f"of {conversation_id}")

    def quick_init(conversation_id: str, session: SpeechEngineSession) -> None:
        release.set()
        customer.set(f"of {conversation_id}")

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        log.add(transcript[-1].content, customer.get())
        await session.send_response(customer.get())

    def on_error(error: Exception, session: SpeechEngineSession) -> None:
        log.add("error", customer.get())

    def on_close(session: SpeechEngineSession) -> None:
        log.add("close", customer.get())

    async with (
        serving(
            kind,
            on_init=slow_init if form == "coroutine" else quick_init,
            on_transcript=on_transcript,
            on_error=on_error,
            on_close=on_close,
        ) as stage,
        stage.call() as api,
    ):
        await api.init("conv_1")
        await api.say("waits", event_id=1)
        await api.ping()
        release.set()
        assert await api.answer() == [(1, "of conv_1")]
        await api.say("waits", "of conv_1", "at once", event_id=2)
        assert await api.answer() == [(2, "of conv_1")]
        await api.send(type="error", message="something")
        await api.send(type="close")
        await log.until(lambda items: ("close", "of conv_1") in items)
    assert log.items == [
        ("waits", "of conv_1"),
        ("at once", "of conv_1"),
        ("error", "of conv_1"),
        ("close", "of conv_1"),
    ]
    assert customer.get() == "nobody"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_turns_variables_are_its_own(kind: str) -> None:
    """Another turn of the conversation, its last event and other conversations do not see them."""
    log = Eventually()

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        seen = customer.get()
        customer.set("of a turn")
        await session.send_response(seen)
        await asyncio.create_task(check())

    async def check() -> None:
        log.add("child", customer.get())

    async def on_close(session: SpeechEngineSession) -> None:
        log.add("close", customer.get())

    async with serving(kind, on_transcript=on_transcript, on_close=on_close) as stage, stage.call() as api:
        for event_id in (1, 2):
            await api.say("hello", event_id=event_id)
            assert await api.answer() == [(event_id, "nobody")]
        async with stage.call() as other:
            await other.say("hello", event_id=1)
            assert await other.answer() == [(1, "nobody")]
        await api.send(type="close")
        await log.until(("close", "nobody"))
    assert ("child", "of a turn") in log.items


@pytest.mark.parametrize("kind", KINDS)
async def test_variables_of_two_conversations_are_apart(kind: str) -> None:
    """Conversations of one connection code do not see each other's variables."""

    def on_init(conversation_id: str, session: SpeechEngineSession) -> None:
        customer.set(conversation_id)

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        await session.send_response(customer.get())

    async with (
        serving(kind, on_init=on_init, on_transcript=on_transcript) as stage,
        stage.call() as first,
        stage.call() as second,
    ):
        await first.init("conv_1")
        await second.init("conv_2")
        await first.say("hello", event_id=1)
        await second.say("hello", event_id=1)
        assert await second.answer() == [(1, "conv_2")]
        assert await first.answer() == [(1, "conv_1")]


@asynccontextmanager
async def sessions(prepare: Any) -> AsyncIterator[str]:
    """Serve with `create_session`; `prepare(session)` runs before each `run()`."""

    async def handle(ws: Any) -> None:
        session = SpeechEngineSession(ws)
        await prepare(session)
        await session.run()

    async with websockets.serve(handle, "127.0.0.1", 0, close_timeout=1) as listening:
        yield f"ws://127.0.0.1:{next(iter(listening.sockets)).getsockname()[1]}"


@pytest.mark.parametrize("waits", [False, True])
async def test_code_before_run_sets_variables_for_handlers(waits: bool) -> None:
    release = asyncio.Event()

    async def on_init(conversation_id: str) -> None:
        if waits:
            await release.wait()

    async def prepare(session: SpeechEngineSession) -> None:
        async def on_transcript(transcript: Transcript) -> None:
            await session.send_response(customer.get())

        session.on("init", on_init).on("user_transcript", on_transcript)
        customer.set("of the endpoint")

    async with sessions(prepare) as url, websockets.connect(url) as ws:
        api = Api(ws)
        await api.init()
        await api.say("hello", event_id=1)
        await api.ping()
        release.set()
        assert await api.answer() == [(1, "of the endpoint")]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.skipif(sys.version_info < (3, 11), reason="tasks of Python 3.10 take no context")
async def test_on_close_may_reset_what_on_init_set(kind: str) -> None:
    """A token belongs to its context: tracing attaches in on_init and detaches in on_close."""
    log = Eventually()

    async def on_init(conversation_id: str, session: SpeechEngineSession) -> None:
        session.token = customer.set("of the conversation")

    async def on_close(session: SpeechEngineSession) -> None:
        customer.reset(session.token)
        log.add("close", customer.get())

    async def on_error(error: Exception, session: SpeechEngineSession) -> None:
        log.add(repr(error))

    async with serving(kind, on_init=on_init, on_close=on_close, on_error=on_error) as stage, stage.call() as api:
        await api.init()
        await api.send(type="close")
        await log.until(bool)
    assert log.items == [("close", "nobody")]


async def test_a_task_factory_keeps_the_sessions_context() -> None:
    """A task factory, such as a tracer's, changes nothing."""
    loop = asyncio.get_running_loop()

    def on_init(conversation_id: str, session: SpeechEngineSession) -> None:
        customer.set(conversation_id)

    async def on_transcript(transcript: Transcript, session: SpeechEngineSession) -> None:
        await session.send_response(customer.get())

    loop.set_task_factory(lambda loop, coroutine, **options: asyncio.Task(coroutine, loop=loop, **options))
    try:
        async with serving("own", on_init=on_init, on_transcript=on_transcript) as stage, stage.call() as api:
            await api.init("conv_1")
            for event_id in (1, 2):
                await api.say("hello", event_id=event_id)
                assert await api.answer() == [(event_id, "conv_1")]
    finally:
        loop.set_task_factory(None)
