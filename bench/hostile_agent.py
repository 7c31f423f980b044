"""The agent of `bench.hostile`: gives every question a unique answer, and keeps a journal.

Each worker writes a file in the directory HOSTILE_JOURNAL: a line when a handler begins and one when it ends, with
conversation, connection, event id, the user's words, and whether anything was sent. The user's words also decide how
long the agent thinks and speaks, so that a run with the same seed is the same run.

Some answers follow a stream that calls a tool, some come in two parts, and some take longer than the API waits. A
silence is answered by a question or by nothing.

A malformed message has to cause an `error` event of its conversation, and nothing else, and so has an `error` message
of the API: the agent counts those in its journal. It logs any other error, and `bench.hostile` fails.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import os
import random
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO, Any

from se_server import MessageError
from se_server.errors import PeerError

logger = logging.getLogger(__name__)

LONGEST_THOUGHT_S = 18.0
"""Longer than the 4 s after which the API asks again, and also than the 12 s after which it gives up."""
PAUSE_S = 0.2

_numbers = itertools.count(1)
_journal: IO[str] | None = None
_scale = float(os.environ.get("HOSTILE_SCALE", "1"))
_parts = os.environ.get("HOSTILE_PARTS", "open")


def answer_to(words: str) -> list[str]:
    """Return the pieces of the answer, which is unique to the question."""
    dice = random.Random(words)
    said = re.findall(r"\S+\s*", words)
    return [
        "You said: ",
        *said,
        ". ",
        *(f"{dice.randrange(10**6)} " for _ in range(dice.randint(1, 8))),
        "That is all.",
    ]


def thought_s(words: str) -> float:
    """Return the silence before an answer in seconds at full scale: mostly short, sometimes long."""
    dice = random.Random(f"{words}/thought")
    return dice.choice((0.0, 0.1, 0.4, 1.0, 6.4, LONGEST_THOUGHT_S)) * dice.random()


def manner(words: str) -> str:
    """Return the way in which the agent answers: plainly, after a tool's call, or in two parts."""
    return random.Random(f"{words}/manner").choice(("plain", "plain", "tool", "parts"))


def on_startup() -> None:
    """Open the worker's journal."""
    global _journal
    path = Path(os.environ["HOSTILE_JOURNAL"], f"{os.getpid()}.jsonl")
    _journal = path.open("w", encoding="utf-8", buffering=1)


def on_init(conversation_id: str, session: Any) -> None:
    """Count the connections of a conversation, which may have several."""
    session.connection = f"{os.getpid()}-{next(_numbers)}"


async def on_transcript(transcript: list[Any], session: Any) -> None:
    """Wait, then answer."""
    words = transcript[-1].content
    run = {
        "conversation": session.conversation_id,
        "connection": session.connection,
        "run": next(_numbers),
        "event_id": session.turn.event_id,
        "words": words,
    }
    note("began", run)
    spoken: list[str] = []
    try:
        if session.turn.is_silence:
            await meet_silence(session)
            return
        how = manner(words)
        if how == "tool":
            await session.send_response(call_a_tool())
        await asyncio.sleep(thought_s(words) * _scale)
        pieces = answer_to(words)
        half = len(pieces) // 2 if how == "parts" else 0
        if half:
            await session.send_response(speak(pieces[:half], spoken), final=_parts == "finals")
        await session.send_response(speak(pieces[half:], spoken))
    finally:
        note("ended", {**run, "pieces": len(spoken)})


async def meet_silence(session: Any) -> None:
    """Answer a silence by a question, or by nothing."""
    await asyncio.sleep(thought_s(f"{session.conversation_id}{session.turn.event_id}") * _scale)
    if random.Random(f"{session.turn.event_id}/silence").random() < 0.5:
        await session.send_response("Are you still there?")


async def call_a_tool() -> AsyncIterator[dict[str, Any]]:
    """A stream without text: a chunk of OpenAI's chat completions that calls a tool."""
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}
    yield {"choices": [{"index": 0, "delta": {"role": "assistant", "content": None, "tool_calls": [call]}}]}


async def speak(pieces: list[str], spoken: list[str]) -> AsyncIterator[str]:
    """Give the answer piece by piece."""
    for piece in pieces:
        spoken.append(piece)
        yield piece
        await asyncio.sleep(PAUSE_S * _scale)


def on_error(error: Exception, session: Any) -> None:
    """Count the errors of malformed messages, and log all others."""
    if isinstance(error, MessageError):
        note("malformed", {"conversation": session.conversation_id, "reason": str(error)})
    elif isinstance(error, PeerError):
        note("peer error", {"conversation": session.conversation_id, "reason": str(error)})
    else:
        logger.error("conversation %s: %s: %s", session.conversation_id, type(error).__name__, error)


def note(what: str, details: dict[str, Any]) -> None:
    """Write a line of the journal."""
    assert _journal is not None
    _journal.write(json.dumps({"what": what, **details}) + "\n")
