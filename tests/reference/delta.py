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
