"""One conversation from the API's side: what it sends, and what it makes of what comes back. No sockets, no clock.

The model decides, a driver carries: `start`, `say`, `ping` and `close` return the message to send, `receive` takes
one that arrived and says what it meant. Every method that needs the time is given it as `now`, in seconds of any
monotonic clock, so that a virtual clock drives the model as well as a real one.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

MAX_ID_GAP = 20  # field reports show ids such as 26, 43 and 45 for neighbouring turns


@dataclass
class CallTurn:
    """One thing the user said, and what the caller would have heard in answer.

    Attributes:
        event_id: the id of the transcript; answers carry it.
        said: the user's words.
        said_at: when the transcript went out, in seconds.
        chunks: the texts heard, in the order they came.
        first_chunk_at: when the first text came; None as long as there was only silence.
        final_at: when the answer was first marked complete; None before.
        interrupted_at: when the user spoke into an answer that was not complete; None otherwise.
    """

    event_id: int
    said: str
    said_at: float
    chunks: list[str] = field(default_factory=list)
    first_chunk_at: float | None = None
    final_at: float | None = None
    interrupted_at: float | None = None

    @property
    def heard(self) -> str:
        """What the caller heard of the answer."""
        return "".join(self.chunks)

    @property
    def is_final(self) -> bool:
        """Whether the answer was marked complete."""
        return self.final_at is not None

    @property
    def is_interrupted(self) -> bool:
        """Whether the user spoke before the answer was complete."""
        return self.interrupted_at is not None

    @property
    def is_answering(self) -> bool:
        """Whether more of the answer is to come."""
        return self.final_at is None and self.interrupted_at is None


@dataclass(frozen=True)
class Heard:
    """A chunk of the running turn's answer was accepted: the caller hears it.

    Attributes:
        turn: the turn it answers.
        text: the chunk; may be empty when `is_final`.
        is_final: whether it completes the answer.
    """

    turn: CallTurn
    text: str
    is_final: bool


@dataclass(frozen=True)
class Discarded:
    """A chunk that the caller never hears: its turn is over.

    Attributes:
        event_id: the id it came under.
        text: what it said.
        reason: why nobody hears it.
    """

    event_id: int
    text: str
    reason: str


@dataclass(frozen=True)
class Pong:
    """A ping was answered."""


@dataclass(frozen=True)
class Violation:
    """A message that the protocol does not allow.

    Attributes:
        reason: what is wrong with it.
        raw: the message, as it came.
    """

    reason: str
    raw: str | bytes


Event = Heard | Discarded | Pong | Violation
"""What a received message meant."""


def growing_ids(seed: str) -> Iterator[int]:
    """Give event ids as the API does: growing, with gaps; the same for the same seed."""
    dice = random.Random(seed)
    event_id = 0
    while True:
        event_id += dice.randint(1, MAX_ID_GAP)
        yield event_id


class ApiModel:
    """The API's side of one conversation.

    Args:
        conversation_id: the id that `init` announces.
        ids: where event ids come from, growing; by default `growing_ids` of the conversation id.

    Attributes:
        turns: every turn so far, oldest first.
        discarded: how many chunks came too late to be heard.
        violations: how many messages broke the protocol.
        pings_unanswered: pings that no pong has answered yet.
        is_closed: whether `close` was called.
    """

    def __init__(self, conversation_id: str, *, ids: Iterator[int] | None = None) -> None:
        self.conversation_id = conversation_id
        self.turns: list[CallTurn] = []
        self.discarded = 0
        self.violations = 0
        self.pings_unanswered = 0
        self.is_closed = False
        self._ids = growing_ids(conversation_id) if ids is None else ids
        self._issued: set[int] = set()

    @property
    def turn(self) -> CallTurn | None:
        """The newest turn, the only one whose answer is heard; None before the user spoke."""
        return self.turns[-1] if self.turns else None

    @property
    def history(self) -> list[dict[str, str]]:
        """The conversation as the API knows it: of each answer what was heard, and no entry where that is nothing."""
        entries = []
        for turn in self.turns:
            entries.append({"role": "user", "content": turn.said})
            if turn.chunks:
                entries.append({"role": "agent", "content": turn.heard})
        return entries

    # --- what the API sends -----------------------------------------------------------------------------------------

    def start(self) -> str:
        """Return the first message of the conversation."""
        return _encode({"type": "init", "conversation_id": self.conversation_id})

    def say(self, text: str, *, now: float) -> str:
        """Let the user speak; an answer that is not complete is interrupted by it.

        Args:
            text: the user's words.
            now: the time, in seconds.

        Returns:
            the transcript: the whole history, under a new event id.
        """
        if self.turn is not None and self.turn.is_answering:
            self.turn.interrupted_at = now
        turn = CallTurn(next(self._ids), text, now)
        self._issued.add(turn.event_id)
        self.turns.append(turn)
        return _encode({"type": "user_transcript", "user_transcript": self.history, "event_id": turn.event_id})

    def ping(self) -> str:
        """Return a keep-alive, which the server owes a pong."""
        self.pings_unanswered += 1
        return _encode({"type": "ping"})

    def close(self, *, now: float) -> str:
        """Return the last message; whatever arrives afterwards is heard by nobody.

        Args:
            now: the time, in seconds; a running answer is interrupted at it.
        """
        if self.turn is not None and self.turn.is_answering:
            self.turn.interrupted_at = now
        self.is_closed = True
        return _encode({"type": "close"})

    # --- what the API receives --------------------------------------------------------------------------------------

    def receive(self, raw: str | bytes, *, now: float) -> Event:
        """Take one message of the server.

        Args:
            raw: the message as it came; bytes must be UTF-8.
            now: the time, in seconds.

        Returns:
            what it meant: a message that breaks the protocol is a `Violation`, never an exception.
        """
        message = _decode(raw)
        if isinstance(message, str):
            return self._violation(message, raw)
        kind = message.get("type")
        if kind == "agent_response":
            return self._agent_response(message, raw, now)
        if kind == "pong":
            if not self.pings_unanswered:
                return self._violation("a pong that answers no ping", raw)
            self.pings_unanswered -= 1
            return Pong()
        return self._violation(f"unknown message type {kind!r}", raw)

    def _agent_response(self, message: dict[str, Any], raw: str | bytes, now: float) -> Event:
        content, event_id, is_final = message.get("content"), message.get("event_id"), message.get("is_final")
        if not isinstance(content, str):
            return self._violation("agent_response without a string as content", raw)
        # bool is an int to isinstance, and `true` is no event id.
        if not isinstance(event_id, int) or isinstance(event_id, bool):
            return self._violation("agent_response without a number as event_id", raw)
        if not isinstance(is_final, bool):
            return self._violation("agent_response without true or false as is_final", raw)
        if event_id not in self._issued:
            return self._violation(f"agent_response with event_id {event_id}, which no transcript had", raw)
        turn = self.turns[-1]
        if self.is_closed or event_id != turn.event_id:
            self.discarded += 1
            return Discarded(
                event_id, content, "the conversation was closed" if self.is_closed else "outdated event_id"
            )
        if content:
            turn.chunks.append(content)
            if turn.first_chunk_at is None:
                turn.first_chunk_at = now
        # A handler may answer twice in one turn, each answer with its final: the first one completes the turn,
        # what follows it is heard nevertheless.
        if is_final and turn.final_at is None:
            turn.final_at = now
        return Heard(turn, content, is_final)

    def _violation(self, reason: str, raw: str | bytes) -> Violation:
        self.violations += 1
        return Violation(reason, raw)


def _encode(message: dict[str, Any]) -> str:
    # The default separators, blanks included, as the live API sends them.
    return json.dumps(message)


def _decode(raw: str | bytes) -> dict[str, Any] | str:
    """Return the message, or the sentence that says why it is none."""
    try:
        text = raw.decode() if isinstance(raw, bytes) else raw
    except UnicodeDecodeError as error:
        return f"no UTF-8: {error.reason} at byte {error.start}"
    try:
        message = json.loads(text)
    except RecursionError:
        return "no JSON: nested too deeply"
    except ValueError as error:
        return f"no JSON: {error}"
    return message if isinstance(message, dict) else "no JSON object"
