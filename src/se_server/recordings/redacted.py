"""The level `redacted`: patterns are replaced everywhere, and the user's function gets what people wrote.

The words of users and agents, the texts of errors, and the values of query parameters and of headers that are not those
of HTTP and WebSocket go through both. Types, roles, ids, paths, stack frames and the reasons of closes are not given to
the user's function: a function that changes all that it gets leaves a recording that can be replayed.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode

from se_server.recordings.records import Record, message_of
from se_server.recordings.redaction import Redactor, redact, redact_parts, redact_utterances

_PROTOCOL_KEYS = ("type", "role", "conversation_id", "event_id")
_IDS = ("conversation_id", "event_id")
_PROTOCOL_HEADERS = (
    "host",
    "upgrade",
    "connection",
    "user-agent",
    "origin",
    "cache-control",
    "pragma",
    "content-length",
)
_PROTOCOL_HEADERS_BEGIN = ("sec-", "accept", "x-forwarded-", "traceparent", "tracestate")


def redact_header(header: dict[str, Any], own: Redactor | None) -> dict[str, Any]:
    made = dict(header)
    if "path" in header:
        made["path"] = _redact_quoted(str(header["path"]), None)
    if header.get("query"):
        pairs = parse_qsl(str(header["query"]), keep_blank_values=True)
        made["query"] = urlencode([(redact(name), redact(value, own)) for name, value in pairs], safe="[]@ ")
    headers = header.get("headers", ())
    made["headers"] = [(name, _redact_quoted(value, None if _is_of_protocol(name) else own)) for name, value in headers]
    return made


def _is_of_protocol(header: str) -> bool:
    name = header.lower()
    return name in _PROTOCOL_HEADERS or name.startswith(_PROTOCOL_HEADERS_BEGIN)


def _redact_quoted(text: str, own: Redactor | None) -> str:
    """Redact a text that may be in percent-encoding, or in base64."""
    plain = unquote(text)
    if plain != text and (redacted := redact(plain, own)) != plain:
        return quote(redacted, safe="/[]")
    try:
        plain = base64.b64decode(text, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        plain = ""
    return "[redacted]" if len(plain) > 5 and redact(plain) != plain else redact(text, own)


def redact_entries(entries: Sequence[Record | dict[str, Any]], own: Redactor | None) -> list[Record | dict[str, Any]]:
    made: list[Record | dict[str, Any]] = []
    answers: dict[str, list[int]] = {}
    for entry in entries:
        if not isinstance(entry, Record):
            made.append({name: _redact_note(name, value, own) for name, value in entry.items()})
            continue
        content = entry.content
        if isinstance(content, str):
            message = message_of(content)
            if entry.direction == "in" and message.get("type") == "agent_response":
                answers.setdefault(json.dumps(message.get("event_id")), []).append(len(made))
            elif entry.kind == "text":
                content = _redact_message(content, message, own)
            else:
                content = redact(content)
        elif content is not None:
            text = content.decode("utf-8", "replace")
            content = content if redact(text, own) == text else b""
        entry = replace(entry, content=content)
        made.append(entry)
    for places in answers.values():
        _redact_answer(made, places, own)
    return made


def _redact_note(name: str, value: Any, own: Redactor | None) -> Any:
    if name == "frames":
        return redact_json(value, None)
    return redact_json(value, own) if name in ("text", "event") else value


def _redact_answer(entries: list[Record | dict[str, Any]], places: Sequence[int], own: Redactor | None) -> None:
    """Redact the messages of one answer: a number may be split over several."""
    records = [entry for place in places if isinstance(entry := entries[place], Record)]
    messages = [message_of(record.content) for record in records]
    contents = [str(message.get("content") or "") for message in messages]
    for place, record, message, content, made in zip(
        places, records, messages, contents, redact_parts(contents, own), strict=True
    ):
        if made != content:
            text = json.dumps({**message, "content": made}, ensure_ascii=False)
            entries[place] = Record(record.t_s, record.direction, record.kind, text, record.why)


def _redact_message(content: str, message: dict[str, Any], own: Redactor | None) -> str:
    if not message:
        return redact(content, own)
    entries = message.get("user_transcript")
    # The words of transcripts are redacted below, with those before and behind them.
    made = redact_json(message, None if isinstance(entries, list) else own)
    if isinstance(entries, list):
        roles = {
            entry.get("role") for entry in entries if isinstance(entry, dict) and isinstance(entry.get("role"), str)
        }
        for role in roles:
            places = [
                place
                for place, entry in enumerate(entries)
                if isinstance(entry, dict) and entry.get("role") == role and isinstance(entry.get("content"), str)
            ]
            texts = redact_utterances([entries[place]["content"] for place in places], own)
            for place, text in zip(places, texts, strict=True):
                made["user_transcript"][place]["content"] = text
    return content if made == message and _is_sole_form(content) else json.dumps(made, ensure_ascii=False)


def _is_sole_form(content: str) -> bool:
    """Whether a JSON text says all that it says once, and without escapes: names may come twice."""
    return "\\" not in content and redact(content) == content


def redact_json(value: Any, own: Redactor | None) -> Any:
    """Redact every text in a JSON value, but for ids; those of the protocol are not given to the user's function."""
    if isinstance(value, str):
        return redact(value, own)
    if isinstance(value, list):
        return [redact_json(item, own) for item in value]
    if isinstance(value, dict):
        return {
            redact(name): item if name in _IDS else redact_json(item, None if name in _PROTOCOL_KEYS else own)
            for name, item in value.items()
        }
    if isinstance(value, int) and not isinstance(value, bool) and (text := f"number {value}") != redact(text):
        return 0
    return value
