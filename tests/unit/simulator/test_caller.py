"""The simulated caller on a real socket, against servers of another WebSocket implementation."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any
from unittest.mock import Mock

import pytest
from websockets.asyncio.server import Request, Response, ServerConnection, serve
from websockets.frames import Close

from se_server.auth import AUTHORIZATION_HEADER, TokenVerifier
from se_server.errors import CallerError
from se_server.simulator.caller import Caller
from se_server.simulator.calls import Discarded, Heard, Said, Violation
from se_server.simulator.conversation import Conversation, Ended, Happening, Link, LinkEvents
from se_server.simulator.habits import Habits
from se_server.simulator.link import open_websocket
from se_server.simulator.model import ApiModel
from tests.helpers import TEST_API_KEY

Handler = Callable[[ServerConnection], Awaitable[None]]


def chunk(event_id: int, content: str, is_final: bool = False) -> str:
    return json.dumps(
        {"type": "agent_response", "content": content, "event_id": event_id, "is_final": is_final},
        separators=(",", ":"),
    )


async def read(websocket: ServerConnection) -> dict[str, Any]:
    message = json.loads(await websocket.recv())
    assert isinstance(message, dict)
    return message


@asynccontextmanager
async def server(handler: Handler, **options: Any) -> AsyncIterator[str]:
    async with serve(handler, "127.0.0.1", 0, compression=None, **options) as running:
        yield f"ws://127.0.0.1:{running.sockets[0].getsockname()[1]}/ws"


async def parrot(websocket: ServerConnection) -> None:
    """Repeat the user's last words, one word a chunk; answer `wait` with half an answer."""
    async for raw in websocket:
        message = json.loads(raw)
        if message["type"] == "ping":
            await websocket.send('{"type":"pong"}')
        if message["type"] != "user_transcript":
            continue
        event_id, said = message["event_id"], message["user_transcript"][-1]["content"]
        for word in said.split():
            await websocket.send(chunk(event_id, f"{word} "))
        if said != "wait":
            await websocket.send(chunk(event_id, "", True))


async def test_a_conversation_of_several_turns() -> None:
    async with server(parrot) as url, Caller.connect(url, api_key=TEST_API_KEY) as caller:
        reply = await caller.say("hello over there")
        assert reply.text == "hello over there "
        assert reply.chunks == ("hello ", "over ", "there ")
        assert not reply.is_interrupted
        assert reply.first_word_s is not None
        assert 0 < reply.first_word_s <= reply.duration_s
        assert (await caller.say("and now")).text == "and now "
        assert caller.model.history == [
            {"role": "user", "content": "hello over there"},
            {"role": "agent", "content": "hello over there "},
            {"role": "user", "content": "and now"},
            {"role": "agent", "content": "and now "},
        ]
        assert caller.is_open
    assert caller.ended == Ended(1000, "", by_server=False, is_clean=True)
    assert str(caller.ended) == "the caller hung up"


async def test_the_upgrade_has_token_headers_and_query() -> None:
    seen: list[Request] = []
    first: list[dict[str, Any]] = []

    async def look(websocket: ServerConnection) -> None:
        assert websocket.request is not None
        seen.append(websocket.request)
        first.append(await read(websocket))
        await websocket.wait_closed()

    async with server(look) as url:
        headers = {"X-Caller": "+49 1"}
        async with Caller.connect(f"{url}?a=b", api_key="k", headers=headers, conversation_id="conv_7") as caller:
            caller.utter("hello")
    assert seen[0].path == "/ws?a=b"
    assert seen[0].headers["X-Caller"] == "+49 1"
    assert TokenVerifier("k").verify(seen[0].headers[AUTHORIZATION_HEADER])
    assert first == [{"type": "init", "conversation_id": "conv_7"}]


async def test_no_key_sends_no_token() -> None:
    seen: list[bool] = []

    async def look(websocket: ServerConnection) -> None:
        assert websocket.request is not None
        seen.append(AUTHORIZATION_HEADER in websocket.request.headers)

    async with server(look) as url, Caller.connect(url, api_key=None) as caller:
        await caller.wait_ended()
    assert seen == [False]


async def test_speaking_during_an_answer_interrupts_it() -> None:
    async with server(parrot) as url, Caller.connect(url, api_key=TEST_API_KEY) as caller:
        heard = []
        async for text in caller.stream("wait"):
            heard.append(text)
            reply = await caller.interrupt("stop")
        assert heard == ["wait "]
        assert reply.text == "stop "
        assert caller.model.turns[0].is_interrupted
        with pytest.raises(CallerError, match="no answer to interrupt"):
            await caller.interrupt("again")


async def test_a_cancellation_with_an_event_is_kept() -> None:
    async with server(parrot) as url, Caller.connect(url, api_key=TEST_API_KEY) as caller:
        waiting = asyncio.ensure_future(caller.event("word"))
        await asyncio.sleep(0)
        caller.utter("hello")  # completes what `event` waits for
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting


async def test_a_connection_cancelled_as_it_opens_is_dropped() -> None:
    asked = asyncio.Event()
    opened: list[ServerConnection] = []

    async def hold(websocket: ServerConnection) -> None:
        opened.append(websocket)
        await websocket.wait_closed()

    def note(websocket: ServerConnection, request: Request) -> None:
        asked.set()

    async with server(hold, process_request=note) as url:
        for steps in range(12):
            asked.clear()
            task = asyncio.ensure_future(open_websocket(url, {}, 5.0, LinkEvents(Mock()), Habits()))
            await asked.wait()
            for _ in range(steps):
                await asyncio.sleep(0)
            is_early = not task.done()
            task.cancel()
            if is_early:
                with pytest.raises(asyncio.CancelledError):
                    await task
            else:
                (await task).drop()
        for websocket in opened:
            await websocket.wait_closed()


async def test_a_waiting_say_returns_when_another_interrupts_it() -> None:
    async with server(parrot) as url, Caller.connect(url, api_key=TEST_API_KEY) as caller:
        waiting = asyncio.create_task(caller.say("wait"))
        await caller.changed()  # said
        await caller.changed()  # the first word of an endless answer
        assert (await caller.interrupt("stop")).text == "stop "
        reply = await waiting
        assert reply.is_interrupted
        assert reply.text == "wait "


async def test_an_answer_at_once_is_noticed() -> None:
    """The answer arrives while the wait for it begins."""
    loop = asyncio.get_running_loop()

    class Prompt:
        """A link whose server answers in the next step of the loop."""

        def __init__(self, events: LinkEvents) -> None:
            self._events = events

        def send(self, message: str | bytes, *, is_joined: bool = False) -> None:
            said = json.loads(message)
            if said["type"] == "user_transcript":
                loop.call_soon(self._events.received, chunk(said["event_id"], "prompt", True))

        def close(self, code: int) -> None:
            loop.call_soon(self._events.gone, code)

        def drop(self) -> None:
            loop.call_soon(self._events.gone)

        reset = drop

    async def connect(events: LinkEvents) -> Link:
        return Prompt(events)

    conversation = Conversation(connect, ApiModel("conv_test"), reply_timeout_s=2.0)
    await conversation.open()
    assert (await conversation.say("hi")).text == "prompt"
    await conversation.close()


async def test_fragments_are_put_together_and_pings_answered() -> None:
    async def fragmented(websocket: ServerConnection) -> None:
        await read(websocket)
        event_id = (await read(websocket))["event_id"]
        text = chunk(event_id, "größer", True)
        middle = text.encode().index(b"\\u00f6") + 3
        await websocket.send([text[:middle], text[middle:]])
        await (await websocket.ping())
        await websocket.send(chunk(event_id, "pinged", True))
        await websocket.wait_closed()

    async with server(fragmented) as url, Caller.connect(url, api_key=TEST_API_KEY) as caller:
        assert (await caller.say("x")).text == "größer"
        while caller.model.turns[0].heard != "größerpinged":
            await caller.changed()


async def test_ping_returns_when_the_pong_is_there() -> None:
    async with server(parrot) as url, Caller.connect(url, api_key=TEST_API_KEY) as caller:
        assert 0 < await caller.ping() < 5
        assert caller.model.pings_unanswered == 0


async def test_every_event_is_reported_and_the_end_last() -> None:
    async def messy(websocket: ServerConnection) -> None:
        await read(websocket)
        old = (await read(websocket))["event_id"]
        new = (await read(websocket))["event_id"]
        for raw in [chunk(old, "late"), "nonsense", chunk(new, "yes", True)]:
            await websocket.send(raw)
        await websocket.close(4001, "enough")
        answers.append(websocket.protocol.close_rcvd)

    answers: list[Close | None] = []
    events: list[Happening] = []
    async with server(messy) as url, Caller.connect(url, api_key=TEST_API_KEY, on_event=events.append) as caller:
        caller.utter("one")
        caller.utter("two")
        ended = await caller.wait_ended()
        with pytest.raises(CallerError, match=r"over: the server closed the conversation \(4001 enough\)"):
            caller.utter("three")
    assert answers == [Close(1000, "")]
    assert [type(event) for event in events] == [Said, Said, Discarded, Violation, Heard, Ended]
    assert events[-1] == ended == Ended(4001, "enough", by_server=True, is_clean=True)


async def test_an_error_of_on_event_reaches_the_loop() -> None:
    """The conversation goes on."""
    raised: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: raised.append(context))

    def fail(event: Happening) -> None:
        raise LookupError("mine")

    async with server(parrot) as url, Caller.connect(url, api_key=TEST_API_KEY, on_event=fail) as caller:
        assert (await caller.say("hello")).text == "hello "
    assert {str(context["exception"]) for context in raised} == {"mine"}


async def test_a_lost_connection_ends_the_wait() -> None:
    async def vanish(websocket: ServerConnection) -> None:
        await read(websocket)
        await read(websocket)
        websocket.transport.abort()

    async with server(vanish) as url, Caller.connect(url, api_key=TEST_API_KEY) as caller:
        with pytest.raises(CallerError, match="the connection was lost"):
            await caller.say("hello")
        assert caller.ended == Ended(None, "", by_server=True, is_clean=False)


async def test_broken_frames_are_reported_and_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def break_it(websocket: ServerConnection) -> None:
        await read(websocket)
        websocket.transport.write(b"\x83\x00")  # a reserved opcode
        await websocket.wait_closed()

    caplog.set_level(logging.DEBUG)
    async with server(break_it) as url, Caller.connect(url, api_key=TEST_API_KEY) as caller:
        ended = await caller.wait_ended()
    assert "broke the WebSocket protocol" in str(ended)
    assert {record.name.partition(".")[0] for record in caplog.records} <= {"asyncio", "websockets"}


async def test_silence_has_a_bound() -> None:
    async with (
        server(parrot) as url,
        Caller.connect(url, api_key=TEST_API_KEY, reply_timeout_s=0.05) as caller,
    ):
        with pytest.raises(CallerError, match=r"no answer .* for 0\.05 s"):
            await caller.say("wait")


async def test_close_says_close_and_is_safe_twice() -> None:
    received: list[dict[str, Any]] = []

    async def listen(websocket: ServerConnection) -> None:
        async for raw in websocket:
            received.append(json.loads(raw))

    async with server(listen) as url, Caller.connect(url, api_key=TEST_API_KEY) as caller:
        await caller.close()
        await caller.close()
    assert [message["type"] for message in received] == ["init", "close"]


async def test_close_drops_an_unresponsive_server() -> None:
    released = asyncio.Event()

    async def ignore(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from websockets.server import ServerProtocol

        protocol = ServerProtocol()
        protocol.receive_data(await reader.readuntil(b"\r\n\r\n"))
        request = protocol.events_received()[0]
        assert isinstance(request, Request)
        protocol.send_response(protocol.accept(request))
        writer.write(b"".join(protocol.data_to_send()))
        await released.wait()
        writer.close()

    running = await asyncio.start_server(ignore, "127.0.0.1", 0)
    url = f"ws://127.0.0.1:{running.sockets[0].getsockname()[1]}"
    async with Caller.connect(url, api_key=TEST_API_KEY) as caller:
        await caller.close(timeout_s=0.05)
        assert caller.ended is not None
        assert not caller.ended.is_clean
    released.set()
    running.close()


# --- refusals -------------------------------------------------------------------------------------------------------


async def refusal(url: str, **options: Any) -> CallerError:
    with pytest.raises(CallerError) as caught:
        async with Caller.connect(url, api_key=TEST_API_KEY, **options):
            pytest.fail("it connected")
    assert TEST_API_KEY not in str(caught.value)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("status", "way_out"), [(401, "API key"), (404, "--path"), (503, "later"), (302, "HTTP 302"), (200, "HTTP 200")]
)
async def test_a_refused_upgrade_names_the_way_out(status: int, way_out: str) -> None:
    def refuse(connection: ServerConnection, _request: Request) -> Response:
        return connection.respond(HTTPStatus(status), "no\n")

    async with server(parrot, process_request=refuse) as url:
        error = await refusal(url)
    assert error.status == status
    assert way_out in str(error)


async def test_nothing_listening_is_one_sentence() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        error = await refusal(f"ws://127.0.0.1:{free.getsockname()[1]}/ws")
    assert "start se-server" in str(error)
    assert error.status is None


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1/ws", "127.0.0.1:3001", "ws:///x", "ws://127.0.0.1:99999/", "ws://[::1"]
)
async def test_a_wrong_address_shows_a_right_one(url: str) -> None:
    assert "ws://127.0.0.1:3001/ws" in str(await refusal(url))


@pytest.mark.parametrize("answer", [b"", b"220 smtp ready\r\n\r\n", b"\x15\x03\x01\x00\x02\x02\x50"])
async def test_another_protocol_is_one_sentence(answer: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as running:
        error = await refusal(f"ws://127.0.0.1:{running.sockets[0].getsockname()[1]}/ws")
    assert any(words in str(error) for words in ("is a WebSocket server listening there?", "Speech Engine server"))


async def test_tls_where_none_is_spoken() -> None:
    async with server(parrot) as url:
        error = await refusal(url.replace("ws://", "wss://"))
    assert "use ws://" in str(error)


async def test_a_server_that_never_answers_the_upgrade() -> None:
    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(hold, "127.0.0.1", 0) as running:
        error = await refusal(f"ws://127.0.0.1:{running.sockets[0].getsockname()[1]}/ws", connect_timeout_s=0.05)
    assert "within 0.05 s" in str(error)
