"""Conversations and turns as JSON objects, for pages, `se-ctl` and recordings."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from se_server.telemetry._meters import CAUSES
from se_server.telemetry._ring import NO_ID
from se_server.telemetry.families import OUTCOMES

if TYPE_CHECKING:
    from se_server.server.observer._timelines import Conversation, Turn


def key_of(conversation: Conversation) -> str:
    """Return a name of a conversation that no other has, for addresses: ids of the API may have any characters."""
    return f"{conversation.pid}-{conversation.number}"


def cause_of(conversation: Conversation) -> str | None:
    """Return the cause of a conversation's end; None while it is open."""
    if not conversation.closed_us:
        return None
    return CAUSES[conversation.cause] if 0 <= conversation.cause < len(CAUSES) else "worker_died"


def conversation_row(conversation: Conversation) -> dict[str, Any]:
    """Return the facts of one conversation."""
    until_us = conversation.closed_us or time.monotonic_ns() // 1000
    end = _end_of(conversation.cause, conversation.code) if conversation.closed_us else None
    return {
        "key": key_of(conversation),
        "id": conversation.name,
        "state": conversation.state,
        "pid": conversation.pid,
        "age_s": round((until_us - conversation.opened_us) / 1e6, 3) if conversation.opened_us else 0.0,
        "turns": conversation.turns,
        "interruptions": conversation.interruptions,
        "end": end,
    }


def detail_of(kind: str, payload: int | str) -> str:
    """Return the payload of an event for people; empty for a kind that has none."""
    if kind in ("user said", "answer"):
        characters, _, digest = str(payload).partition(" ")
        return f"{characters} characters, hash {digest}"
    if isinstance(payload, str):
        return payload
    if kind == "transcript":
        return "without an event id" if payload == NO_ID else f"event id {payload}"
    if kind == "arrived":
        return f"{payload} ms before it was read"
    if kind == "texts sent":
        return "1 text" if payload == 1 else f"{payload} texts"
    if kind == "turn ended":
        return OUTCOMES[payload].replace("_", " ") if payload < len(OUTCOMES) else ""
    if kind == "closed":
        return _end_of(payload >> 16, payload & 0xFFFF)
    return ""


def _end_of(cause: int, code: int) -> str:
    name = (CAUSES[cause] if 0 <= cause < len(CAUSES) else "worker_died").replace("_", " ")
    return f"{name}, {code}" if code > 0 else name


def turn_row(turn: Turn) -> dict[str, Any]:
    """Return the facts of one turn; its parts add up to the time to first text."""
    event_id, outcome, arrived_us, ended_us, first_s, parts, texts, is_filler, blocked_by = turn
    return {
        "event_id": event_id,
        "outcome": OUTCOMES[outcome],
        "first_text_s": first_s,
        "parts": parts,
        "texts": texts,
        "is_filler": is_filler,
        "blocked_by": blocked_by,
        "duration_s": round((ended_us - arrived_us) / 1e6, 6),
    }
