"""The text of one LLM event, in plain Python: the oracle for `se_server.streams._delta`.

Written from the table of formats in the public reference, for reading, not for speed.
"""

from __future__ import annotations

import operator
from typing import Any


def part(event: Any, name: str) -> Any:
    """Return an entry of a dict or an attribute of an object; None if it has none."""
    if isinstance(event, dict):
        return event.get(name)
    return getattr(event, name, None)


def first(entries: Any) -> Any:
    """Return the first entry of a list or tuple; None if it is empty."""
    return entries[0] if isinstance(entries, (list, tuple)) and len(entries) else None


def exact(text: Any) -> str | None:
    # The characters themselves, whatever a subclass reports.
    return "".join(map(operator.itemgetter(0), zip(text))) if isinstance(text, str) else None


def responses_text(event: Any) -> str | None:
    return exact(part(event, "delta")) if part(event, "type") == "response.output_text.delta" else None


def list_text(content: Any) -> str | None:
    """Return a content's text: a string, or the texts of its parts of type "text"."""
    if isinstance(content, str) or not isinstance(content, (list, tuple)):
        return exact(content)
    spoken = [exact(part(entry, "text")) for entry in content if part(entry, "type") in ("text", "output_text")]
    texts = [text for text in spoken if text is not None]
    return "".join(texts) if texts else None


def chat_text(event: Any) -> str | None:
    choices = part(event, "choices")
    if not isinstance(choices, (list, tuple)):
        return None
    for choice in choices:
        index = part(choice, "index")
        if isinstance(index, int) and not isinstance(index, bool) and index != 0:
            continue
        message = part(choice, "delta")
        if message is None:
            message = part(choice, "message")
        return exact(part(choice, "text")) if message is None else list_text(part(message, "content"))
    return None


def anthropic_text(event: Any) -> str | None:
    if part(event, "type") != "content_block_delta":
        return None
    delta = part(event, "delta")
    return exact(part(delta, "text")) if part(delta, "type") == "text_delta" else None


def gemini_text(event: Any) -> str | None:
    parts = part(part(first(part(event, "candidates")), "content"), "parts")
    if not isinstance(parts, (list, tuple)):
        return None
    spoken = [exact(part(entry, "text")) for entry in parts if part(entry, "thought") is not True]
    texts = [text for text in spoken if text is not None]
    return "".join(texts) if texts else None


def strings(content: Any) -> str | None:
    """Return a content's text where strings may stand among the parts."""
    if isinstance(content, (list, tuple)):
        content = [{"type": "text", "text": entry} if isinstance(entry, str) else entry for entry in content]
    return list_text(content)


def cohere_text(event: Any) -> str | None:
    if part(event, "type") != "content-delta":
        return None
    return exact(part(part(part(part(event, "delta"), "message"), "content"), "text"))


def helper_text(event: Any) -> str | None:
    return exact(part(event, "delta")) if part(event, "type") == "content.delta" else None


def mistral_text(event: Any) -> str | None:
    if part(event, "type") != "message.output.delta":
        return None
    content = part(event, "content")
    text = strings(content)
    return exact(part(content, "text")) if text is None and part(content, "type") == "text" else text


def langchain_text(event: Any) -> str | None:
    return strings(part(event, "content")) if part(event, "type") in ("AIMessageChunk", "ai") else None


def ollama_text(event: Any) -> str | None:
    if type(part(event, "done")) is not bool or part(event, "type") is not None:
        return None
    message = part(event, "message")
    if message is not None and not isinstance(message, str):
        return exact(part(message, "content"))
    return exact(part(event, "response"))


def pydantic_ai_text(event: Any) -> str | None:
    if part(event, "event_kind") == "part_start":
        start = part(event, "part")
        return exact(part(start, "content")) if part(start, "part_kind") == "text" else None
    if part(event, "event_kind") == "part_delta":
        delta = part(event, "delta")
        return exact(part(delta, "content_delta")) if part(delta, "part_delta_kind") == "text" else None
    return None


def bedrock_text(event: Any) -> str | None:
    if not isinstance(event, dict) or "contentBlockDelta" not in event:
        return None
    return exact(part(part(event["contentBlockDelta"], "delta"), "text"))


# Each by itself; `text_of` of an event that fits several is only promised for the first four.
OTHERS = {
    "cohere": cohere_text,
    "openai helper": helper_text,
    "mistral": mistral_text,
    "langchain": langchain_text,
    "ollama": ollama_text,
    "pydantic-ai": pydantic_ai_text,
    "bedrock": bedrock_text,
}


def text_of(event: Any) -> str | None:
    """Return the result that `_delta.text_of` must have."""
    if isinstance(event, str):
        return exact(event)
    if event is None or isinstance(event, (int, float)):
        return None
    for extract in (responses_text, chat_text, anthropic_text, gemini_text):
        text = extract(event)
        if text is not None:
            return text
    return None
