"""The messages of the protocol, encoded and decoded from the API's side."""

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
    """Encode a message of the API."""
    # The live API sends the default separators, which contain blanks.
    return json.dumps({"type": kind, **fields})


def transcript(entries: Sequence[object], event_id: int) -> str:
    """Encode a `user_transcript` with a history and an event id."""
    return encode("user_transcript", user_transcript=list(entries), event_id=event_id)


def decode(raw: str | bytes) -> AgentResponse | PongMessage | str:
    """Decode a message of the server. For a message that breaks the protocol return a sentence with the reason."""
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
    # bool is a subclass of int, but `true` is not an event id.
    if not isinstance(event_id, int) or isinstance(event_id, bool):
        return "agent_response without a number as event_id"
    if not isinstance(is_final, bool):
        return "agent_response without true or false as is_final"
    return AgentResponse(content, event_id, is_final)


def load(raw: str | bytes) -> dict[str, Any] | str:
    """Return the JSON object, or a sentence with the reason why there is none."""
    try:
        text = raw.decode() if isinstance(raw, bytes) else raw
    except UnicodeDecodeError as error:
        return f"not UTF-8: {error.reason} at byte {error.start}"
    try:
        message = json.loads(text)
    except RecursionError:
        return "not valid JSON: nested too deeply"
    except ValueError as error:
        return f"not valid JSON: {error}"
    return message if isinstance(message, dict) else "not a JSON object"
