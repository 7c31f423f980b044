"""Mistral's chat completions.

Follows Mistral's API reference, "Chat > Chat Completion" (v1, 2025): `content` is a string or, from reasoning models, a
list of chunks of type `thinking` and `text`; a tool call comes whole; the last chunk has the usage; `p` is padding.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping

from tests.providers.api import Api, Asked, Json, Refused
from tests.providers.openai_chat import ALPHABET, CREATED
from tests.providers.script import Script, tokens_of
from tests.providers.wire import Event, comment, sse

ID = "b9c3f1e27a5d4c8e9f0a1b2c3d4e5f60"
FINISH = {"stop": "stop", "length": "length", "content_filter": "error", "tool": "tool_calls"}


def _usage(script: Script) -> Json:
    total = script.input_tokens + script.output_tokens
    return {"prompt_tokens": script.input_tokens, "total_tokens": total, "completion_tokens": script.output_tokens}


def _calls(script: Script) -> list[Json]:
    return [
        {"id": tool.id, "function": {"name": tool.name, "arguments": tool.arguments}, "index": number}
        for number, tool in enumerate(script.tools)
    ]


def _thinking(text: str) -> Json:
    return {"type": "thinking", "thinking": [{"type": "text", "text": text}]}


def events(script: Script, asked: Asked) -> Iterator[Event]:
    padding = random.Random(script.seed)

    def chunk(delta: Json, tokens: int = 0, finish: str | None = None, **fields: object) -> Event:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        head: Json = {"id": ID, "object": "chat.completion.chunk", "created": CREATED, "model": asked.model}
        padded = "".join(padding.choices(ALPHABET, k=padding.randint(1, 20)))
        return Event(sse({**head, "choices": [choice], **fields, "p": padded}, script), tokens)

    if script.events is not None:
        yield from (Event(sse(event, script), 1) for event in script.events)
    else:
        yield chunk({"role": "assistant", "content": ""})
        for piece in script.reasoning_tokens:
            yield chunk({"content": [_thinking(piece)]}, 1)
        for number, piece in enumerate(script.spoken_tokens):
            # The first text after thinking closes the thinking in one list with it; the others are strings.
            listed = bool(script.reasoning_tokens) and number == 0
            yield chunk({"content": [{"type": "text", "text": piece}] if listed else piece}, 1)
        finish = FINISH[script.finished_by]
        if script.tools:
            tokens = sum(len(tokens_of(tool.arguments)) for tool in script.tools)
            yield chunk({"content": "", "tool_calls": _calls(script)}, tokens, finish, usage=_usage(script))
        else:
            yield chunk({"content": ""}, 0, finish, usage=_usage(script))
    yield Event(sse("[DONE]", script))


def whole(script: Script, asked: Asked) -> Json:
    content: object = script.spoken
    if script.reasoning_tokens:
        content = [_thinking(script.whole_reasoning), {"type": "text", "text": script.spoken}]
    message = {"role": "assistant", "tool_calls": _calls(script) or None, "content": content}
    choice = {"index": 0, "finish_reason": FINISH[script.finished_by], "message": message}
    head = {"id": ID, "created": CREATED, "model": asked.model, "usage": _usage(script)}
    return {**head, "object": "chat.completion", "choices": [choice]}


def error(script: Script, asked: Asked) -> bytes:
    """An error inside a stream. The reference names none: this is the error object of the API, as an event."""
    assert script.failure is not None
    told = {"object": "error", "message": script.failure.message, "type": "internal_server_error", "param": None}
    return sse({**told, "code": "1000"}, script)


def refused(script: Script, asked: Asked) -> Refused:
    messages = {401: "Unauthorized", 429: "Requests rate limit exceeded", 500: "Internal Server Error"}
    message = script.message or messages.get(script.status, messages[500])
    if script.status == 429:
        told: Json = {"object": "error", "message": message, "type": "rate_limited", "param": None, "code": "1300"}
        return Refused(429, told)
    return Refused(script.status, {"message": message, "request_id": "2d8e6e3f1c9b4a7d"})


def read(match: Mapping[str, str], query: Mapping[str, str], body: Json) -> Asked:
    return Asked(body.get("model", ""), bool(body.get("stream")))


APIS = (
    Api(
        name="mistral",
        base="",
        paths={"/v1/chat/completions": read},
        events=events,
        whole=whole,
        error=error,
        refused=refused,
        ping=lambda script: comment("ping", script),
        headers={"x-kong-request-id": "2d8e6e3f1c9b4a7d"},
    ),
)
