"""Inputs of the micro benchmarks and the replays: transcripts, texts, LLM events. The same in every run."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

__all__ = ["ANSWERS", "CHUNKS", "EVENTS", "SCRIPTS", "as_model", "growing", "next_turns", "transcript"]

SCRIPTS = {
    "ascii": "I would like to move my appointment to Thursday afternoon, please. ",
    "accents": "Können wir den Termin auf Donnerstag verschieben? Ça me conviendrait très bien. ",
    "cjk": "予約を木曜日の午後に変更したいのですが。",
    "emoji": "Perfect, see you on Thursday then! 👍🏽 🎉 ",
}
CHUNKS = {
    "word": " appointment",
    "accents": " naïve",
    "escapes": '\n\n"',
    "cjk": "です。",
    "sentences": SCRIPTS["ascii"] * 5,
}
ANSWERS = ("Your", " appointment", " is", " on", " Thursday", " at", " three", ".") * 4
"""The 32 chunks of an answer, some of them as short as an LLM's tokens are."""


def entries(count: int, script: str = "ascii", number: int = 0) -> list[dict[str, str]]:
    """Return the messages of a conversation, the newest of them the user's."""
    return [
        {"role": ("user", "agent")[(count - 1 - place) % 2], "content": f"{SCRIPTS[script]}{number + place}"}
        for place in range(count)
    ]


def transcript(messages: list[dict[str, str]], event_id: int) -> bytes:
    """Return a `user_transcript` as the live API sends it: with blanks, and not escaped."""
    message = {"type": "user_transcript", "user_transcript": messages, "event_id": event_id}
    return json.dumps(message, ensure_ascii=False).encode()


def growing(to: int, first_id: int = 1) -> list[bytes]:
    """Return the transcripts of a conversation that grows by two messages a turn, from one to `to` messages."""
    # The messages of the longest transcript: the first message is the user's in each.
    messages = entries(to - 1 + to % 2)
    return [transcript(messages[:size], first_id + turn) for turn, size in enumerate(range(1, to + 1, 2))]


def next_turns(count: int, script: str = "ascii") -> Iterator[bytes]:
    """Yield transcripts of `count` messages endlessly, each with two messages that its predecessor lacks."""
    old = entries(count, script)[:-2]
    turns = [transcript(old + entries(2, script, number), number) for number in range(100, 140, 2)]
    return itertools.cycle(turns)


EVENTS: dict[str, dict[str, Any]] = {
    "openai-chat": {
        "id": "c",
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": {"content": "Hello"}}],
    },
    "openai-responses": {"type": "response.output_text.delta", "item_id": "i", "delta": "Hello"},
    "anthropic": {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}},
    "gemini": {"candidates": [{"content": {"parts": [{"text": "Hello"}], "role": "model"}}]},
}
"""One event with text of each provider."""


def as_model(value: Any) -> Any:
    """Return an event as a pydantic model, as the providers' packages do."""
    import pydantic  # takes half as long under valgrind as all replays

    if isinstance(value, list):
        return [as_model(item) for item in value]
    if not isinstance(value, dict):
        return value
    fields: dict[str, Any] = dict.fromkeys(value, (Any, ...))
    model = pydantic.create_model("Event", __config__=pydantic.ConfigDict(extra="allow"), **fields)
    return model(**{name: as_model(part) for name, part in value.items()})
