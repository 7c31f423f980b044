"""Fixed replays of single parts, for counting their instructions: `target.py` runs them, under valgrind.

Each uses the first `se_server` on the path, which may be an older one: a part that it lacks raises, and is left out of
the comparison. Each replay checks its results before it is counted: a replay that does nothing would be cheap.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from bench.load.targets import API_KEY
from bench.micro.in_memory import UNLIMITED, InMemoryWebSocket, answer
from bench.micro.material import ANSWERS, CHUNKS, EVENTS, as_model, entries, growing, transcript

__all__ = ["REPLAYS", "Replay", "Round"]

GROWN = 200
NOW_S = 1_800_000_000.0
"""The fixed clock of tokens and turns, which are the same in every run."""

FORMER_NAMES = {"se_server.streams._delta": "se_server.protocol._delta"}
"""Modules under test that have moved: older versions know them by the second name."""

Round = Callable[[], "Awaitable[None] | None"]


@dataclass(frozen=True, slots=True)
class Replay:
    """A part and its replay.

    Attributes:
        what: one unit, for the table.
        units: units of a round.
        rounds: counted rounds.
        make: set the part up, check its results, and return a round.
    """

    what: str
    units: int
    rounds: int
    make: Callable[[], Round]


def module(name: str) -> Any:
    """Import a module by the name it has today, or by its former name from a version that has only that.

    Raises:
        ModuleNotFoundError: the version under test has neither.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # Only where the module itself or its package is unknown: a failing import inside it is an error.
        if name not in FORMER_NAMES or error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
    return importlib.import_module(FORMER_NAMES[name])


def _decode_growing() -> Round:
    from se_server.protocol._wire import History, decode

    messages = growing(GROWN)
    history = History()
    assert [len(decode(data, history).transcript or ()) for data in messages] == list(range(1, GROWN + 1, 2))

    def run() -> None:
        history = History()
        for data in messages:
            decode(data, history)

    return run


def _decode_alone() -> Round:
    from se_server.protocol._wire import decode

    data = transcript(entries(100), 7)
    message = decode(data)
    assert message.event_id == 7
    assert [entry.content for entry in message.transcript or ()] == [entry["content"] for entry in entries(100)]

    def run() -> None:
        decode(data)

    return run


def _encode() -> Round:
    from se_server.protocol._wire import Buffer

    buffer = Buffer()

    def run() -> None:
        for text in CHUNKS.values():
            buffer.put_agent_response(text, 7, False)
        buffer.put_agent_response("", 7, True)
        buffer.take_bytes()

    buffer.put_agent_response(CHUNKS["cjk"], 7, False)
    assert f'"content":"{CHUNKS["cjk"]}"'.encode() in buffer.take_bytes()
    return run


def _delta(*dicts: dict[str, Any], text: str | None = "Hello") -> Round:
    text_of = module("se_server.streams._delta").text_of
    events = [*dicts, *map(as_model, dicts)]
    assert [text_of(event) for event in events] == [text] * len(events)

    def run() -> None:
        for event in events:
            text_of(event)

    return run


def _ledger(again: bool) -> Round:
    from se_server.protocol.turns import ANSWERED, NEW, TurnLedger, Verdict

    try:
        from se_server.protocol.turn import Turn
    except ImportError:  # older versions, which are counted as well
        from se_server.protocol.turns import Turn  # type: ignore[attr-defined,no-redef]

    ledger = TurnLedger()
    next_id = 1

    def begin() -> Turn:
        nonlocal next_id
        turn = Turn(next_id, NOW_S, None, "and when will it be here?")
        next_id += 1
        assert ledger.judge(turn) is NEW
        ledger.begin(turn)
        return turn

    def answer_turn() -> None:
        ledger.end(begin(), ANSWERED, NOW_S)

    def judge_again() -> None:
        verdict = ledger.judge(Turn(next_id - 1, NOW_S, None, "and when will it be here?"))
        assert verdict is Verdict.REPEATED

    if again:
        for _ in range(100):
            answer_turn()
        begin()
    return judge_again if again else answer_turn


def _token(seen: bool) -> Round:
    from se_server.auth import TokenVerifier, sign_token

    verifier = TokenVerifier(API_KEY, clock=lambda: NOW_S, cache_size=4096 if seen else 0)
    token = sign_token(API_KEY, now=NOW_S)
    assert verifier.verify(token)["iat"] == NOW_S

    def run() -> None:
        verifier.verify(token)

    return run


def _session(chunks: int) -> Round:
    from se_server import SpeechEngineSession

    session: Any = None
    conversation = InMemoryWebSocket()
    running: asyncio.Task[None] | None = None
    questions = iter([transcript(entries(4, number=turn), turn).decode() for turn in range(1, 1_000)])

    async def on_transcript(transcript: Any) -> None:
        await session.send_response(answer(chunks))

    async def run() -> None:
        nonlocal session, running
        if running is None:  # it needs the running loop
            session = SpeechEngineSession(conversation, **UNLIMITED)
            session.on("user_transcript", on_transcript)
            running = asyncio.create_task(session.run())
        await conversation.ask(next(questions))
        assert len(conversation.answers) == chunks + 1

    return run


_UNSPOKEN = (
    {"type": "response.reasoning_text.delta", "item_id": "i", "delta": "hm"},
    {"id": "c", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"refusal": "no"}}]},
    {"type": "content_block_stop", "index": 0},
)

REPLAYS: dict[str, Replay] = {
    "session-1": Replay("a turn of 1 chunk without a socket", 1, 300, partial(_session, 1)),
    "session-32": Replay("a turn of 32 chunks without a socket", 1, 200, partial(_session, len(ANSWERS))),
    "decode-growing": Replay(f"a transcript, growing to {GROWN} messages", len(growing(GROWN)), 10, _decode_growing),
    "decode": Replay("a transcript of 100 messages, without a history", 1, 200, _decode_alone),
    "encode": Replay("six messages of an answer into a buffer", 1, 2_000, _encode),
    **{
        f"delta-{name}": Replay(f"an event of {name}, as a dict and a model", 1, 2_000, partial(_delta, event))
        for name, event in EVENTS.items()
    },
    "delta-unspoken": Replay("three events without text, likewise", 1, 1_000, partial(_delta, *_UNSPOKEN, text=None)),
    "ledger": Replay("a turn in the ledger", 1, 2_000, partial(_ledger, again=False)),
    "ledger-again": Replay("a transcript sent again, in the ledger", 1, 2_000, partial(_ledger, again=True)),
    "token-seen": Replay("a token seen before", 1, 1_000, partial(_token, seen=True)),
    "token-new": Replay("a token seen for the first time", 1, 200, partial(_token, seen=False)),
}
"""By name, in the order of the table; those over a socket are in `caller.py`."""
