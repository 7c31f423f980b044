"""Turns that start in one step of the event loop: who waits for whom, and in which order the API hears it."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosedOK
from websockets.frames import Frame, Opcode

from se_server.conversation._batch import batch_of
from se_server.conversation._outbox import buffers_out
from se_server.conversation.session import SpeechEngineSession
from se_server.conversation.settings import SessionSettings
from se_server.types import ConversationMessage
from tests.functional.conversation.stage import Api, serving

SETTINGS = SessionSettings(max_messages_per_s=1_000_000, max_messages_burst=1_000_000)

STARTS_EAGERLY = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="handlers run in asyncio's own tasks, which the batch does not step"
)

TURNS_TO_TRUST = 300
"""More than a batch needs to see that handlers are quick."""


class Clock:
    """The batch's: handlers take as long as a test says."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def ask_at_once(apis: list[Api], text: str, event_id: int) -> None:
    """Have all questions arrive in one step of the loop: nothing else runs between them."""
    message = {
        "type": "user_transcript",
        "user_transcript": [{"role": "user", "content": text}],
        "event_id": event_id,
    }
    frame = Frame(Opcode.TEXT, json.dumps(message).encode()).serialize(mask=True)
    for api in apis:
        assert os.write(api.ws.transport.get_extra_info("socket").fileno(), frame) == len(frame)


def has_arrived(api: Api) -> bool:
    """Whether the API's side of a connection has bytes to read."""
    with socket.socket(fileno=os.dup(api.ws.transport.get_extra_info("socket").fileno())) as itself:
        try:
            return bool(itself.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except BlockingIOError:
            return False


async def trust(api: Api) -> None:
    for event_id in range(TURNS_TO_TRUST):
        await api.say("quick", event_id=event_id)
        assert await api.answer() == [(event_id, "yes")]


Then = Callable[[SpeechEngineSession], Awaitable[None]]


@pytest.fixture(params=[False, True], ids=["new", "trusted"])
def is_trusted(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


class Agent:
    """Answers, and then does as a test tells it."""

    def __init__(self) -> None:
        self.then: Then | None = None

    async def __call__(self, transcript: list[ConversationMessage], session: SpeechEngineSession) -> None:
        await session.send_response("yes")
        if self.then is not None and transcript[-1].content == "then":
            await self.then(session)


async def test_a_close_comes_after_the_answer(is_trusted: bool) -> None:
    async def close(session: SpeechEngineSession) -> None:
        session.close()

    agent = Agent()
    agent.then = close
    async with serving("own", SETTINGS, on_transcript=agent) as stage, AsyncExitStack() as stack:
        apis = [await stack.enter_async_context(stage.call()) for _ in range(40)]
        if is_trusted:
            await trust(apis[0])
        ask_at_once(apis, "then", 1000)
        for api in apis:
            assert await api.answer() == [(1000, "yes")]
            with pytest.raises(ConnectionClosedOK):
                await api.receive()
            assert api.ws.close_code == 1000


async def test_an_answer_alone_waits_for_nothing(is_trusted: bool) -> None:
    seen = []

    async def look(session: SpeechEngineSession) -> None:
        seen.append(has_arrived(api))

    agent = Agent()
    agent.then = look
    async with serving("own", SETTINGS, on_transcript=agent) as stage, stage.call() as api:
        if is_trusted:
            await trust(api)
        ask_at_once([api], "then", 1000)
        assert await api.answer() == [(1000, "yes")]
    assert seen == [True]


@STARTS_EAGERLY
@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_blocking_after_an_answer_keeps_it_once() -> None:
    seen: list[int] = []
    clock = Clock()
    block_s = 0.0

    async def look(session: SpeechEngineSession) -> None:
        seen.append(sum(has_arrived(api) for api in apis))
        if len(seen) == 1:
            clock.now_s += block_s

    async def ask(event_id: int) -> list[int]:
        seen.clear()
        ask_at_once(apis, "then", event_id)
        for api in apis:
            assert await api.answer() == [(event_id, "yes")]
        return seen

    agent = Agent()
    agent.then = look
    batch = batch_of(asyncio.get_running_loop(), clock)
    async with serving("own", SETTINGS, on_transcript=agent) as stage, AsyncExitStack() as stack:
        apis = [await stack.enter_async_context(stage.call()) for _ in range(2)]
        await trust(apis[0])
        assert await ask(1000) == [0, 0]
        block_s = 0.1
        # The first had blocked before the second looked, so its answer was there.
        assert await ask(1001) == [0, 2]
        assert await ask(1002) == [1, 2]
        block_s = 0.0
        await trust(apis[0])
        assert await ask(1003) == [1, 2]
        for _ in range(4):
            await trust(apis[0])
        assert await ask(1004) == [0, 0]
    del batch


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_slow_handlers_switch_holding_off() -> None:
    """Nobody waits for handlers that are all a little slow."""
    seen: list[int] = []
    clock = Clock()

    async def look(session: SpeechEngineSession) -> None:
        seen.append(sum(has_arrived(api) for api in apis))
        clock.now_s += 0.001

    agent = Agent()
    agent.then = look
    batch = batch_of(asyncio.get_running_loop(), clock)
    async with serving("own", SETTINGS, on_transcript=agent) as stage, AsyncExitStack() as stack:
        apis = [await stack.enter_async_context(stage.call()) for _ in range(2)]
        await trust(apis[0])
        for event_id in range(1000, 1050):
            ask_at_once(apis, "then", event_id)
            for api in apis:
                assert await api.answer() == [(event_id, "yes")]
    assert seen[-2:] == [1, 2]
    del batch


@STARTS_EAGERLY
@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_a_handler_writing_to_many_holds_few_buffers() -> None:
    held = []

    async def tell_all(session: SpeechEngineSession) -> None:
        for other in sessions:
            other._outbox.send("news", b"1", False)
            held.append(buffers_out())

    sessions: list[SpeechEngineSession] = []
    agent = Agent()
    batch = batch_of(asyncio.get_running_loop(), Clock())
    async with (
        serving("own", SETTINGS, on_transcript=agent, on_init=lambda _, session: sessions.append(session)) as stage,
        AsyncExitStack() as stack,
    ):
        apis = [await stack.enter_async_context(stage.call()) for _ in range(100)]
        for api in apis:
            await api.init()
        await trust(apis[0])
        agent.then = tell_all
        ask_at_once(apis[:2], "then", 1000)
        for api in apis[2:]:
            assert (await api.receive())["content"] == "news"
    assert 2 <= max(held) <= 17
    del batch


async def test_a_late_task_factory_makes_every_turn() -> None:
    """A task factory that comes late is asked for every turn."""
    made: list[asyncio.Task[Any]] = []
    ran: list[asyncio.Task[Any] | None] = []

    def factory(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        made.append(asyncio.Task(coroutine, loop=loop, **options))
        return made[-1]

    async def note_task(session: SpeechEngineSession) -> None:
        ran.append(asyncio.current_task())

    agent = Agent()
    agent.then = note_task
    async with serving("own", SETTINGS, on_transcript=agent) as stage, stage.call() as api:
        await api.say("quick", event_id=1)
        assert await api.answer() == [(1, "yes")]
        loop = asyncio.get_running_loop()
        loop.set_task_factory(factory)
        try:
            for event_id in (2, 3):
                await api.say("then", event_id=event_id)
                assert await api.answer() == [(event_id, "yes")]
        finally:
            loop.set_task_factory(None)
        assert len(ran) == 2
        assert all(task in made for task in ran)
