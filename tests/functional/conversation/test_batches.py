"""Turns that start in one step of the event loop: who waits for whom, and in which order the API hears it."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
from websockets.exceptions import ConnectionClosedOK
from websockets.frames import Frame, Opcode

from se_server.conversation.session import SpeechEngineSession
from se_server.conversation.settings import SessionSettings
from se_server.types import ConversationMessage
from tests.functional.conversation.stage import Api, serving

TURNS_TO_TRUST = 200
"""More than the batch needs to see that handlers are quick."""


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
    async with serving("own", SessionSettings(), on_transcript=agent) as stage, AsyncExitStack() as stack:
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
    async with serving("own", SessionSettings(), on_transcript=agent) as stage, stage.call() as api:
        if is_trusted:
            await trust(api)
        ask_at_once([api], "then", 1000)
        assert await api.answer() == [(1000, "yes")]
    assert seen == [True]


async def test_one_who_blocks_after_his_answer_keeps_at_most_the_first() -> None:
    seen = []

    async def look_and_block(session: SpeechEngineSession) -> None:
        seen.append([has_arrived(api) for api in apis])
        time.sleep(0.1)  # noqa: ASYNC251  what a handler should not do, and some do

    agent = Agent()
    agent.then = look_and_block
    async with serving("own", SessionSettings(), on_transcript=agent) as stage, AsyncExitStack() as stack:
        apis = [await stack.enter_async_context(stage.call()) for _ in range(2)]
        await trust(apis[0])
        for event_id in (1000, 1001):
            ask_at_once(apis, "then", event_id)
            for api in apis:
                assert await api.answer() == [(event_id, "yes")]
    # Whoever was first had blocked when the second looked: by then his answer was there.
    assert [sum(arrived) for arrived in seen] == [0, 1, 1, 2]
