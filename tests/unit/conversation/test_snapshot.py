"""A snapshot shows a session at each point of its life, and stays as it was taken."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from se_server.conversation._outbox import MessageOutbox
from se_server.conversation.handlers import Handlers
from se_server.conversation.session import SpeechEngineSession
from se_server.conversation.settings import SessionSettings
from se_server.conversation.snapshot import MAX_ID, Snapshot, snapshot_of
from se_server.protocol._wire import decode
from se_server.protocol.turn import ANSWERED, SUPERSEDED, Turn, TurnState
from se_server.telemetry.counters import Counters
from se_server.telemetry.turn_record import TurnRecord
from se_server.types import NO_REQUEST


class NoConnection:
    """A connection that takes everything and goes nowhere."""

    fd = -1

    def __init__(self) -> None:
        self.outbox = MessageOutbox(lambda messages, size_bytes: None)
        self.ending: tuple[int | None, str] = (1006, "")

    def start_reading(self) -> bool:
        return True

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        pass

    def finish(self) -> None:
        pass

    def close(self, code: int, reason: str) -> None:
        pass

    def abort(self) -> None:
        pass

    async def wait_closed(self) -> None:
        pass


@dataclass
class Stage:
    """A real session whose time stands still unless a test or its handler sets it; its handler answers in steps."""

    now: float = 10.0
    connection: NoConnection = field(default_factory=NoConnection)
    steps: asyncio.Queue[float] = field(default_factory=asyncio.Queue)
    progress: asyncio.Queue[str] = field(default_factory=asyncio.Queue)

    def __post_init__(self) -> None:
        self.session = SpeechEngineSession._over(
            self.connection,
            NO_REQUEST,
            Handlers(on_init=lambda name, session: self.progress.put_nowait("init"), on_transcript=self._answer),
            SessionSettings(clock=lambda: self.now),
            Counters(),
        )

    async def _answer(self, transcript: Any, session: SpeechEngineSession) -> None:
        """Start, say a word when the test gives its time, and end when the test gives another time."""
        self.progress.put_nowait("started")
        self.now = await self.steps.get()
        await session.send_response("word", final=False)
        self.progress.put_nowait("spoke")
        self.now = await self.steps.get()

    def receive(self, **message: Any) -> None:
        self.session.receive(decode(json.dumps(message).encode()))

    def ask(self, text: str, event_id: int) -> None:
        self.receive(type="user_transcript", user_transcript=[{"role": "user", "content": text}], event_id=event_id)

    async def reach(self, step: str) -> None:
        assert await asyncio.wait_for(self.progress.get(), 10) == step

    async def quiet(self) -> None:
        """Wait until the handler has ended: an event waits for it."""
        self.receive(type="init", conversation_id="conv_1")
        await self.reach("init")

    def seen(self, at: float) -> Snapshot:
        return snapshot_of(self.session, at)


async def test_the_state_follows_the_turn() -> None:
    stage = Stage()
    states = [stage.seen(12.0).state]
    stage.ask("hello", 1)
    states.append(stage.seen(12.0).state)
    await stage.reach("started")
    states.append(stage.seen(12.0).state)
    stage.steps.put_nowait(11.0)
    await stage.reach("spoke")
    states.append(stage.seen(12.0).state)
    stage.session.connection_lost()
    states.append(stage.seen(12.0).state)
    assert states == ["listening", "waiting", "thinking", "speaking", "ending"]
    await stage.session._lane.wait_ended()


async def test_ages_count_from_session_and_turn() -> None:
    stage = Stage()
    assert stage.seen(12.0).turn_age_s is None
    stage.now = 11.0
    stage.ask("hello", 1)
    seen = stage.seen(12.0)
    assert (seen.age_s, seen.duration_s, seen.turn_age_s) == (2.0, 2.0, 1.0)
    stage.session.connection_lost()
    await stage.session._lane.wait_ended()


async def test_the_duration_stops_at_the_end() -> None:
    stage = Stage()
    stage.now = 13.0
    stage.session.connection_lost()
    seen = stage.seen(20.0)
    assert (seen.age_s, seen.duration_s) == (10.0, 3.0)


async def test_an_open_session_has_no_ending() -> None:
    seen = Stage().seen(12.0)
    assert (seen.code, seen.reason) == (None, "")


@pytest.mark.parametrize(
    ("ending", "says_goodbye", "reason"),
    [
        ((1000, "bye"), True, "bye"),
        ((1000, ""), True, "close message"),
        ((1006, ""), False, "connection lost"),
    ],
)
async def test_the_reason_is_the_most_exact(ending: tuple[int, str], says_goodbye: bool, reason: str) -> None:
    stage = Stage()
    stage.connection.ending = ending
    if says_goodbye:
        stage.receive(type="close")
    stage.session.connection_lost()
    seen = stage.seen(12.0)
    assert (seen.code, seen.reason) == (ending[0], reason)


async def test_the_pace_of_all_turns_is_shown() -> None:
    stage = Stage()
    for event_id, first_text_at in ((1, 10.2), (2, 10.6)):
        stage.ask(f"question {event_id}", event_id)
        await stage.reach("started")
        stage.steps.put_nowait(first_text_at)
        await stage.reach("spoke")
        if event_id == 1:
            stage.steps.put_nowait(10.2)
            await stage.quiet()
    stage.ask("question 3", 3)
    seen = stage.seen(12.0)
    assert (seen.turns, seen.interruptions) == (2, 1)
    assert seen.first_text_p50_s == pytest.approx(0.2)
    assert seen.first_text_max_s == pytest.approx(0.4)
    stage.session.connection_lost()
    await stage.session._lane.wait_ended()


async def test_a_long_id_is_cut() -> None:
    stage = Stage()
    stage.receive(type="init", conversation_id="x" * 1000)
    assert stage.seen(12.0).conversation_id == "x" * MAX_ID


@pytest.mark.parametrize(
    ("state", "failed", "outcome"),
    [(ANSWERED, False, "answered"), (ANSWERED, True, "failed"), (SUPERSEDED, False, "superseded")],
)
def test_a_record_names_the_outcome(state: TurnState, failed: bool, outcome: str) -> None:
    one = Turn(7, started_at=1.0)
    one.note_texts(2, 1.25)
    one.end(state, 3.0)
    assert str(TurnRecord.of(one, failed)) == (
        f"event_id=7 outcome={outcome} chunks=2 first_text_s=0.250 duration_s=2.000"
    )


async def test_a_part_of_a_growing_utterance_is_no_interruption() -> None:
    stage = Stage()
    stage.ask("question", 1)
    await stage.reach("started")
    stage.ask("question with more words", 2)
    seen = stage.seen(12.0)
    assert (seen.turns, seen.interruptions) == (1, 0)
    stage.session.connection_lost()
    await stage.session._lane.wait_ended()
