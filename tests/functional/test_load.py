"""Generator processes against a real server, and against a fake with allowed and faulty behaviour."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Response

from se_server.errors import ConfigError, LoadError
from se_server.load import LoadPlan, LoadProcess, Run
from se_server.load._engine import COUNTERS, SLOT_BYTES, Engine
from se_server.load.target import Target
from tests.helpers import TEST_API_KEY, running_server

HANDLER = Path(__file__).parents[2] / "bench" / "load" / "targets" / "handler.py"


def plan(url: str, **values: Any) -> LoadPlan:
    return LoadPlan(**{"url": url, "api_key": TEST_API_KEY, "chunks": 2, "history": 1, **values})


# --- a real server --------------------------------------------------------------------------------------------------


def test_closed_loop_asks_as_often_as_told() -> None:
    """A closed loop with think time asks the planned number of turns and leaves the server idle in between."""
    with (
        running_server(app=HANDLER, workers=1) as server,
        LoadProcess(plan(server.url, conversations=7, chunks=5, history=4)) as load,
    ):
        connected = load.connect()
        assert (connected.count, connected.errors, connected.handshake.count) == (7, {}, 7)
        run = load.run(30, turns=200)
        assert (run.turns, run.chunks, run.errors, run.failures) == (200, 1000, {}, [])
        assert run.first_chunk.count == run.final.count == 200
        assert 0 < run.first_chunk.percentile(50) <= run.final.percentile(50) < 30
        assert load.run(30, turns=50).turns == 50
        load.hang_up()
        assert load.figures().up == 0
        assert load.connect().count == 7


@pytest.mark.parametrize("spins", [False, True])
def test_open_loop_keeps_its_schedule(spins: bool) -> None:
    with (
        running_server(app=HANDLER, workers=1) as server,
        LoadProcess(plan(server.url, conversations=20, turns_per_s=200, spins=spins)) as load,
    ):
        load.connect()
        run = load.run(1.0)
    assert (run.turns, run.errors) == (200, {})
    assert 1.0 <= run.wall_s < 10.0
    assert run.cpu_s < run.wall_s / 2  # a waiting generator is not the limit, even if it spins


def test_handshakes_come_at_the_given_rate() -> None:
    with running_server(app=HANDLER, workers=1) as server, LoadProcess(plan(server.url, conversations=20)) as load:
        connected = load.connect(per_s=50)
        assert connected.count == 20
        assert connected.seconds >= 19 / 50


def test_the_loop_without_epoll_does_the_same() -> None:
    memory = bytearray(SLOT_BYTES)
    with running_server(app=HANDLER, workers=1) as server:
        its = plan(server.url, conversations=5)
        engine = Engine(its, Target(its), memory, is_portable=True)
        engine.connect(10)
        engine.run(30, 100)
        engine.hang_up()
        engine.close()
    counted = dict(zip(COUNTERS, memoryview(memory).cast("q")[: len(COUNTERS)].tolist(), strict=True))
    assert (engine.errors, counted["turns"], counted["chunks"]) == ({}, 100, 200)
    assert (counted["opened"], counted["closed"], counted["up"]) == (5, 5, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux takes all of 127.0.0.0/8 for its own")
async def test_callers_connect_from_the_given_addresses() -> None:
    seen = set()

    async def answer(websocket: ServerConnection, message: dict[str, Any]) -> None:
        seen.add(websocket.remote_address[0])
        await websocket.send(response(message, "Yes.", is_final=True))

    async with answering(answer) as url:
        await loaded(plan(url, conversations=4, chunks=None, source_addresses=("127.0.0.1", "127.0.0.2")), turns=8)
    assert seen == {"127.0.0.1", "127.0.0.2"}


def test_a_generator_stays_on_its_own_core() -> None:
    if not hasattr(os, "sched_getaffinity"):
        pytest.skip("this system binds no process to a core")
    core = max(os.sched_getaffinity(0))
    with LoadProcess(plan("ws://127.0.0.1:1/"), core=core) as load:
        assert os.sched_getaffinity(load.pid) == {core}


def test_what_cannot_be_done_is_refused_at_once() -> None:
    with pytest.raises(LoadError, match=r"there is no host 'nowhere\.invalid'"):
        LoadProcess(plan("ws://nowhere.invalid/"))
    with pytest.raises(ConfigError, match="interruption_rate must be 0 to 1, not 2"):
        plan("ws://127.0.0.1:1/", interruption_rate=2)
    with LoadProcess(plan("ws://127.0.0.1:1/", conversations=2)) as load:
        connected = load.connect()
        assert (connected.count, connected.errors) == (0, {"refused": 2})
        assert load.run(5).turns == 0  # at once: no conversation is open


def test_a_generator_that_dies_raises() -> None:
    with LoadProcess(plan("ws://127.0.0.1:1/")) as load:
        os.kill(load.pid, 9)
        with pytest.raises(LoadError, match="ended with status -9"):
            load.connect()


# --- a server of any make -------------------------------------------------------------------------------------------

Answer = Callable[[ServerConnection, dict[str, Any]], Awaitable[None]]


@asynccontextmanager
async def serving(handler: Callable[[ServerConnection], Awaitable[None]], **options: Any) -> AsyncIterator[str]:
    async with serve(handler, "127.0.0.1", 0, compression=None, **options) as server:
        host, port = server.sockets[0].getsockname()
        yield f"ws://{host}:{port}/"


@asynccontextmanager
async def answering(answer: Answer, **options: Any) -> AsyncIterator[str]:
    """Serve transcripts with `answer`."""

    async def handle(websocket: ServerConnection) -> None:
        async for data in websocket:
            message = json.loads(data)
            if message["type"] == "user_transcript":
                await answer(websocket, message)
            elif message["type"] == "close":
                return

    async with serving(handle, **options) as url:
        yield url


async def loaded(plan: LoadPlan, seconds: float = 60.0, turns: int | None = None) -> Run:
    def go() -> Run:
        with LoadProcess(plan) as load:
            load.connect()
            return load.run(seconds, turns)

    return await asyncio.to_thread(go)


async def dialled(plan: LoadPlan) -> Run:
    """Run for a second; the conversations open during the run."""

    def go() -> Run:
        with LoadProcess(plan) as load:
            return load.run(1.0)

    return await asyncio.to_thread(go)


def response(message: dict[str, Any], content: str, *, is_final: bool = False, **more: Any) -> str:
    fields = {"is_final": is_final, "event_id": message["event_id"], "content": content, "type": "agent_response"}
    return json.dumps({**fields, **more})


async def test_messages_may_arrive_in_fragments_among_pings() -> None:
    pongs = []

    async def answer(websocket: ServerConnection, message: dict[str, Any]) -> None:
        async def pieces(text: str) -> AsyncIterator[str]:
            for place in range(0, len(text), 9):
                yield text[place : place + 9]

        pongs.append(await websocket.ping())
        await websocket.send('{"type": "pong"}')
        await websocket.send('{"type": "news", "list": [1, {"a": "b"}]}')
        await websocket.send(pieces(response(message, "Grüß Gott 😀")))
        await websocket.send(response(message, " and on", extra=[None]))
        await websocket.send(response(message, "", is_final=True))

    async with answering(answer) as url:
        run = await loaded(plan(url, conversations=2, chunks=None), turns=20)
        assert (run.turns, run.chunks, run.errors) == (20, 40, {})
        assert run.pings == 20
        assert all([await pong >= 0 for pong in pongs])


async def test_texts_under_another_id_are_late() -> None:
    """A text under another id counts as late and does not answer the turn."""

    async def answer(websocket: ServerConnection, message: dict[str, Any]) -> None:
        await websocket.send(response({"event_id": message["event_id"] - 1}, "late"))
        await websocket.send(response({"event_id": message["event_id"] - 1}, "", is_final=True))
        await websocket.send(response(message, "right", is_final=True))
        await websocket.send(response(message, "after the final"))

    async with answering(answer) as url:
        run = await loaded(plan(url, conversations=1, chunks=None), turns=10)
    assert (run.turns, run.chunks, run.errors) == (10, 10, {})
    assert 19 <= run.late_texts <= 20  # the last one arrives after the run


async def test_latency_counts_from_the_first_of_repeated_transcripts() -> None:
    asked: list[int] = []

    async def answer(websocket: ServerConnection, message: dict[str, Any]) -> None:
        asked.append(message["event_id"])
        if asked.count(message["event_id"]) == 2:
            await websocket.send(response(message, "at last", is_final=True))

    async with answering(answer) as url:
        run = await loaded(plan(url, conversations=1, chunks=None, resend_after_s=1.0), turns=2)
    assert (run.turns, run.resends, run.errors) == (2, 2, {})
    assert run.first_chunk.percentile(0) >= 1.0
    assert asked[0] == asked[1] != asked[2] == asked[3]


@pytest.mark.parametrize(
    ("texts", "kind", "words"),
    [
        (["TAG", "b", "c"], "wrong answer", "3 texts, and should be 2"),
        (["TAG"], "wrong answer", "1 texts, and should be 2"),
        (["c0e0", "b"], "wrong answer", "text 1 is 'c0e0', and should be 'c0e"),
        (["TAG", "wrong"], "wrong answer", "text 2 is 'wrong', and should be 'b'"),
    ],
)
async def test_wrong_answers_are_no_turns(texts: list[str], kind: str, words: str) -> None:
    async def answer(websocket: ServerConnection, message: dict[str, Any]) -> None:
        chunks, tag, _ = message["user_transcript"][-1]["content"].split(" ", 2)
        assert chunks == "2"
        for text in texts:
            await websocket.send(response(message, tag if text == "TAG" else text))
        await websocket.send(response(message, "", is_final=True))

    async with answering(answer) as url:
        run = await loaded(plan(url, conversations=1, expected_words=("", "b")), turns=16)
    assert run.turns + run.errors[kind] == 16
    assert run.errors[kind] >= 1  # one turn in 16 is checked word for word
    assert words in run.failures[0]


@pytest.mark.parametrize(
    ("data", "kind", "words"),
    [
        ("{", "bad message", "a text that is not JSON: '{'"),
        ('{"type": "agent_response", "content": 1}', "bad message", "whose content is not a string"),
        (b"\x00", "bad frame", "the server sent a binary message"),
    ],
)
async def test_what_breaks_the_protocol_is_named(data: str | bytes, kind: str, words: str) -> None:
    async def answer(websocket: ServerConnection, message: dict[str, Any]) -> None:
        await websocket.send(data)
        await websocket.send(response(message, "fine", is_final=True))

    async with answering(answer) as url:
        run = await loaded(plan(url, conversations=1, chunks=None), turns=1)
    assert run.errors == {kind: 1}
    assert words in run.failures[0]
    assert run.turns == (kind == "bad message")  # a broken frame ends the conversation


async def test_an_error_names_the_close_code() -> None:
    async def answer(websocket: ServerConnection, message: dict[str, Any]) -> None:
        await websocket.close(1011, "out of order")

    async with answering(answer) as url:
        run = await loaded(plan(url, conversations=2, chunks=None))
    assert run.errors == {"cut": 2}
    assert "turn 1: the server closed the conversation with code 1011 ('out of order')" in run.failures[0]
    assert run.wall_s < 30  # no conversation is left, so the run ends early


async def test_turns_wait_for_a_conversation_to_open() -> None:
    """A turn that is due during the handshake is asked after it, and its latency counts from the schedule."""

    async def open_late(*_: object) -> None:
        await asyncio.sleep(0.3)

    async def answer(websocket: ServerConnection, message: dict[str, Any]) -> None:
        await websocket.send(response(message, "Yes.", is_final=True))

    async with answering(answer, process_request=open_late) as url:
        run = await dialled(plan(url, conversations=2, chunks=None, turns_per_s=50, reconnects=True))
    assert (run.turns, run.errors) == (50, {})
    assert run.first_chunk.percentile(90) > 0.1


async def test_turns_that_no_conversation_opens_for_are_errors() -> None:
    async def refuse(websocket: ServerConnection, *_: object) -> Response:
        return websocket.respond(HTTPStatus.SERVICE_UNAVAILABLE, "full")

    async def answer(websocket: ServerConnection, message: dict[str, Any]) -> None:
        raise AssertionError

    async with answering(answer, process_request=refuse) as url:
        run = await dialled(plan(url, conversations=2, chunks=None, turns_per_s=50, reconnects=True))
    assert run.turns == 0
    assert run.errors["nobody up"] == 50
    assert run.wall_s < 10  # no time is left for a conversation that may still open


async def test_a_slow_reader_gets_every_transcript_whole() -> None:
    sizes = []

    async def answer(websocket: ServerConnection, message: dict[str, Any]) -> None:
        sizes.append(len(message["user_transcript"]))
        await asyncio.sleep(0.05)  # meanwhile the socket's buffer fills
        await websocket.send(response(message, "word " * 20_000, is_final=True))

    async with answering(answer, max_size=None, max_queue=1, write_limit=1024) as url:
        run = await loaded(plan(url, conversations=2, chunks=None, history=None), turns=20)
    assert (run.turns, run.errors) == (20, {})
    assert sizes.count(1) == 2
    assert max(sizes) >= 19
