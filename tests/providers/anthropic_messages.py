"""Anthropic's Messages API, and the same model on Bedrock by `invoke-with-response-stream`.

Follows Anthropic's reference, "Streaming Messages", for `anthropic-version: 2023-06-01`, with the fields of 2025
(`cache_creation` in the usage, stop reason `refusal`) and the spaces before the closing brace of each event.
"""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Iterator, Mapping
from typing import Any

from tests.providers.api import Api, Asked, Json, Refused
from tests.providers.openai_responses import raw_events
from tests.providers.script import Script, tokens_of
from tests.providers.wire import Event, dumps, event_stream_message, sse

ID = "msg_01XFDUDYJgAACzvnptvVoYEL"
SIGNATURE = base64.b64encode(b"a thinking block's signature, some 90 bytes long in its real form" * 2).decode()


def _stop_reason(script: Script) -> str:
    if script.refusal_tokens:
        return "refusal"
    return {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal", "tool": "tool_use"}[
        script.finished_by
    ]


def _usage(script: Script, output_tokens: int) -> Json:
    return {
        "input_tokens": script.input_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "output_tokens": output_tokens,
        "service_tier": "standard",
    }


def _message(script: Script, asked: Asked, output_tokens: int) -> Json:
    return {
        "model": asked.model,
        "id": ID,
        "type": "message",
        "role": "assistant",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": _usage(script, output_tokens),
    }


def _stream(script: Script, asked: Asked) -> Iterator[tuple[Json, int]]:
    """Give the events with their tokens."""
    yield {"type": "message_start", "message": _message(script, asked, 1)}, 0
    index = 0

    def start(**block: Any) -> tuple[Json, int]:
        return {"type": "content_block_start", "index": index, "content_block": block}, 0

    def delta(tokens: int, **fields: Any) -> tuple[Json, int]:
        return {"type": "content_block_delta", "index": index, "delta": fields}, tokens

    if script.reasoning_tokens:
        yield start(type="thinking", thinking="", signature="")
        for piece in script.reasoning_tokens:
            yield delta(1, type="thinking_delta", thinking=piece)
        yield delta(0, type="signature_delta", signature=SIGNATURE)
        yield {"type": "content_block_stop", "index": index}, 0
        index += 1
    if script.spoken_tokens:
        yield start(type="text", text="")
        yield {"type": "ping"}, 0
        for piece in script.spoken_tokens:
            yield delta(1, type="text_delta", text=piece)
        yield {"type": "content_block_stop", "index": index}, 0
        index += 1
    for tool in script.tools:
        yield start(type="tool_use", id=f"toolu_01{tool.id}", name=tool.name, input={})
        yield delta(0, type="input_json_delta", partial_json="")
        for piece in tokens_of(tool.arguments):
            yield delta(1, type="input_json_delta", partial_json=piece)
        yield {"type": "content_block_stop", "index": index}, 0
        index += 1
    stop = {"stop_reason": _stop_reason(script), "stop_sequence": None}
    yield {"type": "message_delta", "delta": stop, "usage": _usage(script, script.output_tokens)}, 0
    yield {"type": "message_stop"}, 0


def events(script: Script, asked: Asked) -> Iterator[Event]:
    """The stream as server-sent events; on Bedrock, as `chunk` messages of an event stream."""
    if script.events is not None:
        if asked.form != "bedrock":
            yield from raw_events(script)
            return
        yield from (_chunk(json.loads(event), script, 1) for event in script.events)
        return
    padding = random.Random(script.seed)
    for value, tokens in _stream(script, asked):
        if asked.form == "bedrock":
            if value["type"] != "ping":
                yield _chunk(value, script, tokens)
            continue
        if value["type"] == "ping":
            yield Event(ping(script))
            continue
        text = dumps(value, script)
        padded = f"{text[:-1]}{' ' * padding.randint(0, 14)}{text[-1]}"
        yield Event(sse(padded, script, name=value["type"]), tokens)


def _chunk(value: Json, script: Script, tokens: int) -> Event:
    payload = {"bytes": base64.b64encode(dumps(value, script).encode()).decode(), "p": "abcdefghij"}
    headers = {"event_type": "chunk", "content_type": "application/json", "message_type": "event"}
    return Event(event_stream_message(json.dumps(payload).encode(), **headers), tokens)


def ping(script: Script) -> bytes:
    return sse({"type": "ping"}, script, name="ping", spaced=True)


def whole(script: Script, asked: Asked) -> Json:
    content: list[Json] = []
    if script.reasoning_tokens:
        content.append({"type": "thinking", "thinking": script.whole_reasoning, "signature": SIGNATURE})
    if script.spoken_tokens:
        content.append({"type": "text", "text": script.spoken})
    for tool in script.tools:
        use = {"type": "tool_use", "id": f"toolu_01{tool.id}", "name": tool.name}
        content.append({**use, "input": json.loads(tool.arguments)})
    message = _message(script, asked, script.output_tokens)
    return {**message, "content": content, "stop_reason": _stop_reason(script)}


def error(script: Script, asked: Asked) -> bytes:
    assert script.failure is not None
    told = {"details": None, "type": "overloaded_error", "message": script.failure.message}
    return sse({"type": "error", "error": told, "request_id": "req_011CS"}, script, name="error")


ERRORS = {
    400: ("invalid_request_error", "messages: at least one message is required"),
    401: ("authentication_error", "invalid x-api-key"),
    404: ("not_found_error", "model: claude-none"),
    429: (
        "rate_limit_error",
        "This request would exceed your organization's rate limit of 30,000 input tokens per minute.",
    ),
    500: ("api_error", "Internal server error"),
    529: ("overloaded_error", "Overloaded"),
}


def refused(script: Script, asked: Asked) -> Refused:
    kind, message = ERRORS.get(script.status, ERRORS[500])
    body = {"type": "error", "error": {"type": kind, "message": script.message or message}, "request_id": "req_011CS"}
    return Refused(script.status, body, {"request-id": "req_011CS", "x-should-retry": "true"})


def read(match: Mapping[str, str], query: Mapping[str, str], body: Json) -> Asked:
    return Asked(body.get("model", ""), bool(body.get("stream")))


APIS = (
    Api(
        name="anthropic",
        base="",
        paths={"/v1/messages": read},
        events=events,
        whole=whole,
        error=error,
        refused=refused,
        ping=ping,
        headers={"request-id": "req_011CS", "anthropic-organization-id": "00000000-0000-4000-8000-000000000000"},
    ),
)
