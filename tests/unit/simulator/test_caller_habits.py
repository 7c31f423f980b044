"""The habits on a real socket, as a server of another implementation sees them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.server import ServerProtocol

from se_server.errors import CallerError
from se_server.simulator.caller import Caller
from se_server.simulator.calls import Heard, Reconnect, Said
from se_server.simulator.conversation import Happening
from se_server.simulator.habits import Habits, Malformed, Moment
from se_server.simulator.judge import Outcome
from se_server.simulator.recording import Recording
from tests.helpers import TEST_API_KEY


def chunk(event_id: int, content: str, is_final: bool = False) -> str:
    return json.dumps({"type": "agent_response", "content": content, "event_id": event_id, "is_final": is_final})


class Server:
    """A server that answers each transcript with the user's last words, and keeps what it got.

    With `is_silent` it answers nothing.
    """

    def __init__(self) -> None:
        self.messages: list[str | bytes] = []
        self.frames: list[Frame] = []
        self.ends: list[ConnectionClosed] = []
        self.connections = 0
        self.is_silent = False
        self.url = ""
        self.end = asyncio.Event()

    def transcripts(self) -> list[dict[str, Any]]:
        found = []
        for message in self.messages:
            try:
                found.append(json.loads(message))
            except ValueError:
                continue
        return [message for message in found if message["type"] == "user_transcript"]

    async def handle(self, websocket: ServerConnection) -> None:
        self.connections += 1
        receive = websocket.protocol.recv_frame

        def look(frame: Frame) -> None:
            self.frames.append(frame)
            receive(frame)

        websocket.protocol.recv_frame = look  # type: ignore[method-assign]
        try:
            while True:
                message = await websocket.recv()
                self.messages.append(message)
                if b'"user_transcript":' in (message if isinstance(message, bytes) else message.encode()):
                    await self.answer(websocket, message)
        except ConnectionClosed as end:
            self.ends.append(end)
            self.end.set()

    async def answer(self, websocket: ServerConnection, raw: str | bytes) -> None:
        try:
            message = json.loads(raw)
        except ValueError:
            return
        if not self.is_silent:
            words = message["user_transcript"][-1]["content"].split()
            for word in words:
                await websocket.send(chunk(message["event_id"], f"{word} "))
            await websocket.send(chunk(message["event_id"], "", True))


@asynccontextmanager
async def server() -> AsyncIterator[Server]:
    state = Server()
    async with serve(state.handle, "127.0.0.1", 0, compression=None) as running:
        state.url = f"ws://127.0.0.1:{running.sockets[0].getsockname()[1]}/ws"
        yield state


@asynccontextmanager
async def call(state: Server, habits: Habits, **options: Any) -> AsyncIterator[Caller]:
    async with Caller.connect(state.url, api_key=TEST_API_KEY, habits=habits, reply_timeout_s=10, **options) as caller:
        yield caller


async def test_messages_leave_in_fragments() -> None:
    async with server() as state, call(state, Habits(fragment_bytes=20)) as caller:
        assert (await caller.say("größer and größer")).text == "größer and größer "
        opcodes = [frame.opcode for frame in state.frames]
        assert opcodes.count(Opcode.CONT) > 4
        assert opcodes.count(Opcode.TEXT) == 2
        assert all(len(frame.data) <= 20 for frame in state.frames)


async def test_frames_leave_in_small_segments_and_arrive_whole() -> None:
    reads: list[bytes] = []
    original = ServerProtocol.receive_data

    def count(self: ServerProtocol, data: bytes) -> None:
        reads.append(data)
        original(self, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ServerProtocol, "receive_data", count)
        async with server() as state, call(state, Habits(segment_bytes=7, fragment_bytes=50)) as caller:
            reads.clear()
            assert (await caller.say("a word or two")).text == "a word or two "
            assert sum(len(data) <= 7 for data in reads) > 5
            await caller.close()
            assert caller.ended is not None
            assert caller.ended.is_clean


async def test_a_ping_does_not_break_a_segmented_frame() -> None:
    async with server() as state:

        async def ping_all_the_time(websocket: ServerConnection) -> None:
            pinging = asyncio.create_task(ping(websocket))
            await state.handle(websocket)
            pinging.cancel()

        async def ping(websocket: ServerConnection) -> None:
            for _ in range(50):
                await (await websocket.ping())

        async with serve(ping_all_the_time, "127.0.0.1", 0, compression=None) as running:
            state.url = f"ws://127.0.0.1:{running.sockets[0].getsockname()[1]}/ws"
            async with call(state, Habits(segment_bytes=3)) as caller:
                for _ in range(3):
                    assert (await caller.say("still whole")).text == "still whole "


async def test_a_reset_is_one_for_the_server() -> None:
    errors: list[BaseException | None] = []
    reset = asyncio.Event()

    class Raw(asyncio.Protocol):
        def __init__(self) -> None:
            self.protocol = ServerProtocol()

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            self.protocol.receive_data(data)
            for event in self.protocol.events_received():
                if not isinstance(event, Frame):
                    self.protocol.send_response(self.protocol.accept(event))  # type: ignore[arg-type]
            self.transport.writelines(self.protocol.data_to_send())

        def connection_lost(self, exc: Exception | None) -> None:
            errors.append(exc)
            reset.set()

    running = await asyncio.get_running_loop().create_server(Raw, "127.0.0.1", 0)
    url = f"ws://127.0.0.1:{running.sockets[0].getsockname()[1]}/"
    async with Caller.connect(url, api_key=TEST_API_KEY, habits=Habits(reset=Moment.BEFORE_ANSWER)) as caller:
        turn = caller.utter("hello")
        await asyncio.wait_for(reset.wait(), 5)
        assert "reset" in str(await caller.wait_ended())
        with pytest.raises(CallerError, match="is over"):
            caller.utter("anybody there")
        assert caller.verdict(turn).outcome is Outcome.HUNG_UP
    assert isinstance(errors[0], ConnectionResetError)
    running.close()


async def test_a_reconnect_continues_the_conversation_and_its_history() -> None:
    told: list[Happening] = []
    async with (
        server() as state,
        call(state, Habits(reconnect=True, reconnect_after_s=0.01), on_event=told.append) as caller,
    ):
        for text in ("one", "two", "three"):
            assert (await caller.say(text)).text == f"{text} "
        inits = [json.loads(message) for message in state.messages if b"init" in str(message).encode()]
        assert [init["conversation_id"] for init in inits] == [caller.model.conversation_id] * state.connections
        assert state.connections == 3
        assert [entry["content"] for entry in state.transcripts()[-1]["user_transcript"]] == [
            "one",
            "one ",
            "two",
            "two ",
            "three",
        ]
        assert caller.is_open
        assert caller.summary().is_ok
    assert sum(isinstance(event, Reconnect) for event in told) >= 2


async def test_an_unanswered_question_is_repeated_after_a_reconnect() -> None:
    habits = Habits(reset=Moment.BEFORE_ANSWER, reconnect=True, reconnect_after_s=0.01)
    async with server() as state, call(state, habits) as caller:
        reply = await caller.say("hello")
        assert reply.text == "hello "
        assert state.connections == 2
        assert reply.verdict.tries == 2


async def test_a_failed_reconnect_is_reported() -> None:
    async with server() as state, serve(state.handle, "127.0.0.1", 0, compression=None) as short_lived:
        state.url = f"ws://127.0.0.1:{short_lived.sockets[0].getsockname()[1]}/ws"
        context = call(state, Habits(reconnect=True, reconnect_after_s=0.1))
        caller = await context.__aenter__()
        await caller.say("hello")
        short_lived.close(close_connections=False)
        ended = await asyncio.wait_for(caller.wait_ended(), 5)
        assert "nothing listens there" in str(ended)
        await context.__aexit__(None, None, None)


async def test_three_unanswered_tries_end_the_conversation() -> None:
    async with server() as state, call(state, Habits.live().scaled(0.01)) as caller:
        state.is_silent = True
        with pytest.raises(CallerError, match="Speech Engine generation failed"):
            await caller.say("hello")
        await asyncio.wait_for(state.end.wait(), 5)
        kinds = [json.loads(message)["type"] for message in state.messages]
        assert kinds == ["init", *["user_transcript"] * 3, "error", "close"]
        assert state.ends[0].rcvd is not None
        assert state.ends[0].rcvd.code == 1000
        (verdict,) = caller.summary().turns
        assert "asked 3 times" in verdict.reason


async def test_an_idle_connection_is_dropped_without_a_word() -> None:
    async with server() as state, call(state, Habits(idle_drop_s=0.3)) as caller:
        await caller.say("hello")
        ended = await asyncio.wait_for(caller.wait_ended(), 5)
        assert "0.3 s" in str(ended)
        await asyncio.wait_for(state.end.wait(), 5)
        assert state.ends[0].rcvd is None


async def test_pings_of_the_server_keep_an_idle_connection() -> None:
    async with server() as state:

        async def ping(websocket: ServerConnection) -> None:
            for _ in range(30):
                await (await websocket.ping())
                await asyncio.sleep(0.05)
            await websocket.close(4000)

        async with serve(ping, "127.0.0.1", 0, compression=None) as running:
            state.url = f"ws://127.0.0.1:{running.sockets[0].getsockname()[1]}/ws"
            async with call(state, Habits(idle_drop_s=1.0)) as caller:
                assert (await asyncio.wait_for(caller.wait_ended(), 10)).code == 4000


async def test_malformed_messages_arrive_as_they_are_meant() -> None:
    async with server() as state, call(state, Habits(malformed=tuple(Malformed))) as caller:
        assert (await caller.say("hello")).text == "hello "
        _, no_json, not_utf8, unknown, transcript = state.messages
        assert isinstance(no_json, str)
        assert isinstance(not_utf8, bytes)
        assert json.loads(unknown)["type"] == "vad_score"
        assert json.loads(transcript)["user_transcript"][0]["content"] is None


async def test_a_slow_reader_stops_the_server() -> None:
    size = 40_000_000
    async with server() as state, call(state, Habits(slow_read_bytes_s=100_000)) as caller:
        sent_at: list[float] = []

        async def flood(websocket: ServerConnection, raw: str | bytes) -> None:
            event_id = json.loads(raw)["event_id"]
            await websocket.send(chunk(event_id, "begin "))
            for _ in range(400):
                await websocket.send(chunk(event_id, "x" * (size // 400)))
                sent_at.append(caller.now)

        state.answer = flood  # type: ignore[method-assign]
        turn = caller.utter("hello")
        while not turn.chunks:
            await caller.changed()
        await asyncio.sleep(0.5)  # an unthrottled server has sent everything by then
        assert len(turn.heard) < size // 4
        assert len(sent_at) < 400, "the server still waits to be read"
        caller.drop()


async def test_an_utterance_waits_for_a_habits_interruption() -> None:
    async with server() as state, call(state, Habits(interrupt_after_chars=4, interruption="stop it now")) as caller:

        async def endless(websocket: ServerConnection, raw: str | bytes) -> None:
            message = json.loads(raw)
            said = message["user_transcript"][-1]["content"]
            await websocket.send(chunk(message["event_id"], f"about {said}", said == "stop it now"))

        state.answer = endless  # type: ignore[method-assign]
        reply = await caller.say("trains")
        assert reply.is_interrupted
        await caller.say("ships")
        await caller.quiet()
        assert [turn.said for turn in caller.model.turns] == ["trains", "stop it now", "ships", "stop it now"]
        assert [verdict.outcome for verdict in caller.summary().turns] == [Outcome.INTERRUPTED, Outcome.HEARD] * 2


async def test_a_recording_has_every_message_in_order() -> None:
    recording = Recording()
    async with server() as state, call(state, Habits(), recording=recording) as caller:
        await caller.say("hello")
    kinds = [(record.direction, record.kind) for record in recording.records]
    text_out, text_in = ("out", "text"), ("in", "text")
    assert kinds == [("out", "open"), text_out, text_out, text_in, text_in, text_out, ("out", "close"), ("in", "end")]
    times = [record.t_s for record in recording.records]
    assert times == sorted(times)
    assert [record.content for record in recording.records if record.direction == "out" and record.content] == [
        *state.messages
    ]


async def test_a_due_habit_precedes_the_next_utterance() -> None:
    told: list[str] = []

    def speak_at_once(event: Happening) -> None:
        if isinstance(event, Said | Reconnect):
            told.append(type(event).__name__)
        if isinstance(event, Heard) and event.is_final and len(caller.model.turns) == 1:
            caller.utter("two")

    async with (
        server() as state,
        call(state, Habits(reconnect=True, reconnect_after_s=0.01), on_event=speak_at_once) as caller,
    ):
        await caller.say("one")
        turn = caller.model.turns[-1]
        await caller.answered(turn)
        assert turn.heard == "two "
        assert told[:3] == ["Said", "Reconnect", "Said"]
