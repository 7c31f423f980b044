"""In-process conversations: the kinds of agents, and the same behaviour as on a real server."""

from __future__ import annotations

import asyncio
import types
import unittest
from collections.abc import AsyncIterator
from typing import Any

import pytest

from se_server import SpeechEngineServer, demo
from se_server.errors import AppError
from se_server.simulator.caller import Caller as SocketCaller
from se_server.simulator.conversation import Conversation
from se_server.testing import Caller, CallerError, CallTurn, Habits, Moment, Outcome, call, run
from tests.functional.conversation.stage import own


async def echo(transcript: Any, session: Any) -> None:
    await session.send_response(f"You said {transcript[-1].content}.")


class Agent:
    def __init__(self) -> None:
        self.log: list[str] = []

    def on_startup(self) -> None:
        self.log.append("startup")

    async def on_shutdown(self) -> None:
        self.log.append("shutdown")

    def on_init(self, conversation_id: str, session: Any) -> None:
        self.log.append(conversation_id)

    async def on_transcript(self, transcript: Any, session: Any) -> None:
        await echo(transcript, session)

    async def on_close(self, session: Any) -> None:
        await asyncio.sleep(5)
        self.log.append("close")

    def on_disconnect(self, session: Any) -> None:
        self.log.append("disconnect")


MODULE = types.ModuleType("an_agent")
MODULE.on_transcript = echo  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "app",
    [
        pytest.param(echo, id="function"),
        pytest.param({"on_transcript": echo}, id="mapping"),
        pytest.param(Agent(), id="object"),
        pytest.param(MODULE, id="module"),
        pytest.param(SpeechEngineServer(on_transcript=echo), id="server"),
        pytest.param(f"{__name__}:echo", id="name"),
    ],
)
async def test_whatever_se_server_serves_can_be_called(app: object) -> None:
    if isinstance(app, str):
        import sys

        sys.modules.setdefault(__name__, types.ModuleType(__name__)).echo = echo  # type: ignore[attr-defined]
    async with call(app) as caller:
        assert (await caller.say("hello")).text == "You said hello."


@pytest.mark.parametrize("app", [None, 3, "no_such_agent", {"on_transcrip": echo}, Agent])
async def test_a_source_without_an_agent_is_refused(app: object) -> None:
    with pytest.raises(AppError) as caught:
        async with call(app):
            pass
    assert "\n" not in str(caught.value)


async def test_the_agent_sees_a_conversations_whole_life() -> None:
    agent = Agent()
    async with call(agent, conversation_id="conv_x") as caller:
        await caller.say("hello")
        await caller.hang_up()
        assert agent.log == ["startup", "conv_x", "close"]
        with pytest.raises(CallerError, match="the conversation is over"):
            await caller.say("again")
    assert agent.log == ["startup", "conv_x", "close", "shutdown"]


async def test_a_lost_connection_is_a_disconnect() -> None:
    agent = Agent()
    async with call(agent) as caller:
        await caller.drop()
        assert agent.log == ["startup", "conv_1", "disconnect"]


async def test_the_agent_may_hang_up() -> None:
    async def bye(transcript: Any, session: Any) -> None:
        await session.send_response("Bye.")
        session.close()

    async with call(bye) as caller:
        assert (await caller.say("bye")).text == "Bye."
        ended = await caller.wait_ended()
        assert (ended.by_server, ended.code, ended.is_clean) == (True, 1000, True)


async def test_options_of_the_test_override_the_servers() -> None:
    server = SpeechEngineServer(on_transcript=echo, max_message_bytes="2KiB", path="/only")
    async with call(server) as caller:
        assert caller.session is not None
        assert caller.session.path == "/only"
        caller.utter("x" * 3000)
        assert (await caller.wait_ended()).code == 1009
    async with call(server, max_message_bytes=10_000) as caller:
        assert len((await caller.say("x" * 3000)).text) > 3000


async def test_a_silent_agent_differs_from_a_slow_one() -> None:
    async def silent(transcript: Any, session: Any) -> None:
        await asyncio.sleep(1000)

    async with call(silent) as caller:
        with pytest.raises(CallerError, match="no answer from the agent for 30 s"):
            await caller.say("hello")


async def test_errors_of_handlers_come_out_at_the_end() -> None:
    async def fail(transcript: Any, session: Any) -> None:
        raise KeyError("lost")

    with pytest.raises(KeyError, match="lost"):
        async with call(fail) as caller:
            await caller.say("hello")
    with pytest.raises(AssertionError, match="mine"):  # noqa: PT012
        async with call(fail) as caller:
            await caller.say("hello")
            raise AssertionError("mine")


@pytest.mark.parametrize("register", ["on", "once"])
async def test_an_error_handled_by_the_session_passes(register: str) -> None:
    taken: list[BaseException] = []

    class Handling:
        def on_init(self, conversation_id: str, session: Any) -> None:
            getattr(session, register)("error", taken.append)

        async def on_transcript(self, transcript: Any, session: Any) -> None:
            raise KeyError("lost")

    async with call(Handling()) as caller:
        await caller.say("hello")
        assert [str(error) for error in taken] == ["'lost'"]
        assert caller.errors == []


async def test_an_idle_conversation_is_kept_alive() -> None:
    async with call(echo, habits=Habits(idle_drop_s=60)) as caller:
        await caller.pause(600)
        assert caller.ended is None
    async with call(echo, habits=Habits(idle_drop_s=60), ping_interval_s=100) as caller:
        await caller.pause(600)
        assert caller.ended is not None


async def test_a_reconnect_begins_a_new_session() -> None:
    async def slow(transcript: Any, session: Any) -> None:
        await asyncio.sleep(1)
        await echo(transcript, session)

    async with call(slow, habits=Habits(reset=Moment.BEFORE_ANSWER, reconnect=True)) as caller:
        first = caller.session
        assert (await caller.say("hello")).text == "You said hello."
        assert caller.session is not first


async def test_no_answer_outlives_an_interruption_by_a_chunk() -> None:
    async def count(transcript: Any, session: Any) -> None:
        await session.send_response(numbers())

    async def numbers() -> AsyncIterator[str]:
        for number in range(100):
            yield f"{number:03} "

    async with call(count) as caller:
        for chars in (1, 4, 5, 200):
            caller.interrupt(after_chars=chars)
            story = await caller.say("count")
            assert story.is_interrupted
            assert len(story.text) == -(-chars // 4) * 4
    assert caller.summary().is_ok


class TestWithUnittest(unittest.IsolatedAsyncioTestCase):
    async def test_call_works_there_too(self) -> None:
        async with call(demo) as caller:
            reply = await caller.say("Tell me a story")
            assert reply.text == demo.STORY
            assert reply.duration_s > 5


def test_without_any_framework() -> None:
    async def main() -> str:
        async with call(echo) as caller:
            return (await caller.say("hello")).text

    assert run(main()) == "You said hello."


# --- equality with our own door -------------------------------------------------------------------------------------


async def stream(transcript: Any, session: Any) -> None:
    said = transcript[-1].content
    if said == "fail":
        raise ValueError("no answer")
    if said == "nothing":
        return
    if said == "two":
        await session.send_response("one, ", final=False)
        await session.send_response("two")
    elif said == "both":
        await session.send_response("one")
        await session.send_response("two")
    else:
        await session.send_response(pieces(said, len(transcript)))


async def pieces(said: str, entries: int) -> AsyncIterator[str]:
    yield f"{entries} entries: "
    await asyncio.sleep(0.01)
    for word in said.split():
        yield word
    yield "\ud83d"
    yield "\ude00"


def ignore(error: Exception, session: Any) -> None:
    """Ignore errors: the script provokes them."""


SCRIPT = ("hello", "two", "nothing", "fail", "both", "é 漢 😀 \u2028", "", "the end")


async def converse(conversation: Conversation | Caller) -> None:
    for text in SCRIPT:
        await conversation.say(text)
        if isinstance(conversation, Conversation):
            await conversation.ping()  # texts after the turn's first final arrive before the pong


def seen(turns: list[CallTurn]) -> list[object]:
    return [
        (turn.said, turn.event_id, turn.chunks, turn.is_final, [ask.answers for ask in turn.asks]) for turn in turns
    ]


@pytest.mark.parametrize("habits", [Habits(), Habits(extra_ids=1, extra_id_after_s=0.3)])
async def test_a_script_gets_the_real_servers_messages(habits: Habits) -> None:
    server = SpeechEngineServer(
        port=0, host="127.0.0.1", disable_auth=True, drain_timeout_s=0.0, on_transcript=stream, on_error=ignore
    )
    async with own(server) as port:
        url = f"ws://127.0.0.1:{port}/"
        async with SocketCaller.connect(url, api_key=None, conversation_id="conv_1", habits=habits) as socket_caller:
            await converse(socket_caller)
    async with call(server, habits=habits) as caller:
        await converse(caller)
        assert caller.turns[0].chunks[0] == "1 entries: "
        assert seen(caller.turns) == seen(socket_caller.model.turns)
        assert caller.summary().turns[0].outcome is Outcome.HEARD
        assert (caller._model.violations, socket_caller.model.violations) == (0, 0)
