"""Turns of a real session with a real handler and no socket: the cost of a turn without the network.

Our session runs once behind our own transport, and once behind another library's WebSocket, as `create_session` has
it; the published SDK's session runs behind the same WebSocket. On uvloop, 100 turns a round.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
import uvloop
from pytest_benchmark.fixture import BenchmarkFixture

from bench.micro.in_memory import FINAL, UNLIMITED, InMemoryWebSocket, answer
from bench.micro.material import ANSWERS, entries, transcript
from se_server import SpeechEngineSession
from se_server.conversation._outbox import MessageOutbox, Outbox
from se_server.conversation.handlers import Handlers
from se_server.conversation.settings import DEFAULT_SETTINGS
from se_server.protocol._wire import History, decode
from se_server.types import NO_REQUEST, Counters

TURNS = 100
MESSAGES = 20

Ask = Callable[[bytes], Awaitable[list[str]]]
"""Asks, and returns the texts of the answer's messages, the final one included."""


class InMemoryTransport:
    """A connection that pushes messages to its session, as our own does, and keeps those that the session writes."""

    def __init__(self, handlers: Handlers) -> None:
        self.outbox: Outbox = MessageOutbox(self._deliver)
        self.ending: tuple[int | None, str] = (None, "")
        self._answers: list[str] = []
        self._answered: asyncio.Future[None] | None = None
        self._history = History()
        self._session = SpeechEngineSession._over(self, NO_REQUEST, handlers, DEFAULT_SETTINGS, Counters())

    async def ask(self, question: bytes) -> list[str]:
        """Send a transcript, and return the messages of its answer."""
        self._answers = []
        self._answered = asyncio.get_running_loop().create_future()
        self._session.receive(decode(question, self._history))
        await self._answered
        return self._answers

    def _deliver(self, messages: list[str], _size_bytes: int) -> None:
        self._answers += messages
        if messages[-1].endswith(FINAL) and self._answered is not None:
            self._answered.set_result(None)

    def start_reading(self) -> bool:
        """Read nothing: messages are pushed."""
        return False

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Nothing depends on the loop."""

    def finish(self) -> None:
        """Nothing is kept open."""

    def close(self, code: int, reason: str) -> None:
        """Nothing is kept open."""

    def abort(self) -> None:
        """Nothing is kept open."""

    async def wait_closed(self) -> None:
        """Nothing is kept open."""


async def our_transport(chunks: int) -> Ask:
    async def on_transcript(transcript: Any, session: SpeechEngineSession) -> None:
        await session.send_response(answer(chunks))

    return InMemoryTransport(Handlers(on_transcript=on_transcript)).ask


async def _over_a_websocket(session_class: Any, chunks: int, **options: Any) -> Ask:
    websocket = InMemoryWebSocket()
    session = session_class(websocket, **options)

    async def on_transcript(transcript: Any) -> None:
        await session.send_response(answer(chunks))

    session.on("user_transcript", on_transcript)
    websocket.session = asyncio.create_task(session.run())

    async def ask(question: bytes) -> list[str]:
        await websocket.ask(question.decode())
        return websocket.answers

    return ask


async def our_session(chunks: int) -> Ask:
    return await _over_a_websocket(SpeechEngineSession, chunks, **UNLIMITED)


async def published_session(chunks: int) -> Ask:
    published = pytest.importorskip("elevenlabs.speech_engine.session")
    return await _over_a_websocket(published.SpeechEngineSession, chunks)


SESSIONS = {
    "ours": our_transport,
    "ours, over a WebSocket": our_session,
    "published SDK, over a WebSocket": published_session,
}


async def end_tasks() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = uvloop.new_event_loop()
    try:
        yield loop
    finally:
        loop.run_until_complete(end_tasks())
        loop.close()


@pytest.mark.parametrize("chunks", [1, len(ANSWERS)])
@pytest.mark.parametrize("session", SESSIONS)
def test_turns(benchmark: BenchmarkFixture, loop: asyncio.AbstractEventLoop, chunks: int, session: str) -> None:
    benchmark.group = f"session: {TURNS} turns of {chunks} chunk{'s' if chunks > 1 else ''}, {MESSAGES} messages"
    ask = loop.run_until_complete(SESSIONS[session](chunks))
    messages = entries(MESSAGES)
    head = transcript(messages, 0)[: -len("0}")]
    event_id = 0

    async def turns() -> list[str]:
        nonlocal event_id
        said: list[str] = []
        for _ in range(TURNS):
            event_id += 1
            said = await ask(b"%b%d}" % (head, event_id))
        return said

    assert [json.loads(message) for message in loop.run_until_complete(turns())] == [
        {"type": "agent_response", "content": text, "event_id": TURNS, "is_final": not text}
        for text in (*ANSWERS[:chunks], "")
    ]
    benchmark.pedantic(lambda: loop.run_until_complete(turns()), rounds=20, warmup_rounds=2)  # type: ignore[no-untyped-call]
