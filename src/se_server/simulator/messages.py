"""The messages of the protocol as the API writes and reads them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class AgentResponse:
    """A chunk of an answer, as the server sent it."""

    content: str
    event_id: int
    is_final: bool


@dataclass(frozen=True)
class PongMessage:
    """The answer to a ping."""


def encode(kind: str, **fields: object) -> str:
    """Return a message of the API."""
    # The default separators, blanks included, as the live API sends them.
    return json.dumps({"type": kind, **fields})


def transcript(entries: Sequence[object], event_id: int) -> str:
    """Return the history under an event id."""
    return encode("user_transcript", user_transcript=list(entries), event_id=event_id)


def decode(raw: str | bytes) -> AgentResponse | PongMessage | str:
    """Read a message of the server; the sentence that says what is wrong with it when it breaks the protocol."""
    message = load(raw)
    if isinstance(message, str):
        return message
    kind = message.get("type")
    if kind == "pong":
        return PongMessage()
    if kind != "agent_response":
        return f"unknown message type {kind!r}"
    content, event_id, is_final = message.get("content"), message.get("event_id"), message.get("is_final")
    if not isinstance(content, str):
        return "agent_response without a string as content"
    # bool is an int to isinstance, and `true` is no event id.
    if not isinstance(event_id, int) or isinstance(event_id, bool):
        return "agent_response without a number as event_id"
    if not isinstance(is_final, bool):
        return "agent_response without true or false as is_final"
    return AgentResponse(content, event_id, is_final)


def load(raw: str | bytes) -> dict[str, Any] | str:
    """Return the JSON object, or the sentence that says why it is none."""
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
