"""Cohere's chat, version 2.

Follows Cohere's reference, "v2 > Chat with Streaming" (2025): events from `message-start` to `message-end`, thinking
and text as content blocks, a tool plan before tool calls; an error inside a stream ends the message with `ERROR`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tests.providers.api import Api, Asked, Json, Refused
from tests.providers.openai_responses import raw_events
from tests.providers.script import Script, tokens_of
from tests.providers.wire import Event, comment, sse

ID = "29f14a5a-11de-4cae-9800-25e4747408ea"
FINISH = {"stop": "COMPLETE", "length": "MAX_TOKENS", "content_filter": "ERROR", "tool": "TOOL_CALL"}
PLAN = ("I will", " look", " it up", ".")


def _usage(script: Script) -> Json:
    tokens = {"input_tokens": script.input_tokens, "output_tokens": script.output_tokens}
    return {"billed_units": tokens, "tokens": {**tokens, "input_tokens": script.input_tokens + 66}}


def _stream(script: Script) -> Iterator[tuple[str, Json, int]]:
    empty = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
    yield "message-start", {"id": ID, "delta": {"message": empty}}, 0
    index = 0
    for kind, pieces in (("thinking", script.reasoning_tokens), ("text", script.spoken_tokens)):
        if pieces:
            yield "content-start", _content(index, {"type": kind, kind: ""}), 0
            for piece in pieces:
                yield "content-delta", _content(index, {kind: piece}), 1
            yield "content-end", {"index": index}, 0
            index += 1
    for piece in PLAN if script.tools else ():
        yield "tool-plan-delta", {"delta": {"message": {"tool_plan": piece}}}, 1
    for number, tool in enumerate(script.tools):
        function = {"name": tool.name, "arguments": ""}
        yield "tool-call-start", _call(number, {"id": tool.id, "type": "function", "function": function}), 0
        for piece in tokens_of(tool.arguments):
            yield "tool-call-delta", _call(number, {"function": {"arguments": piece}}), 1
        yield "tool-call-end", {"index": number}, 0
    yield "message-end", {"delta": {"finish_reason": FINISH[script.finished_by], "usage": _usage(script)}}, 0


def _content(index: int, content: Json) -> Json:
    return {"index": index, "delta": {"message": {"content": content}}}


def _call(index: int, call: Json) -> Json:
    return {"index": index, "delta": {"message": {"tool_calls": call}}}


def events(script: Script, asked: Asked) -> Iterator[Event]:
    if script.events is not None:
        yield from raw_events(script)
    else:
        for kind, fields, tokens in _stream(script):
            yield Event(sse({"type": kind, **fields}, script, name=kind), tokens)
    yield Event(sse("[DONE]", script))


def whole(script: Script, asked: Asked) -> Json:
    content: list[Json] = []
    if script.reasoning_tokens:
        content.append({"type": "thinking", "thinking": script.whole_reasoning})
    if script.spoken_tokens:
        content.append({"type": "text", "text": script.spoken})
    message: dict[str, Any] = {"role": "assistant", "content": content}
    if script.tools:
        message["tool_plan"] = "".join(PLAN)
        message["tool_calls"] = [
            {"id": tool.id, "type": "function", "function": {"name": tool.name, "arguments": tool.arguments}}
            for tool in script.tools
        ]
    return {"id": ID, "finish_reason": FINISH[script.finished_by], "message": message, "usage": _usage(script)}


def error(script: Script, asked: Asked) -> bytes:
    assert script.failure is not None
    delta = {"error": script.failure.message, "finish_reason": "ERROR"}
    return sse({"type": "message-end", "id": ID, "delta": delta}, script, name="message-end")


def refused(script: Script, asked: Asked) -> Refused:
    messages = {
        401: "invalid api token",
        429: "You are using a Trial key, which is limited to 20 API calls / minute.",
        500: "internal server error, this has been reported to our developers.",
    }
    message = script.message or messages.get(script.status, messages[500])
    return Refused(script.status, {"id": ID, "message": message}, {"x-debug-trace-id": "9d0c1b2a3f4e5d6c"})


def read(match: Mapping[str, str], query: Mapping[str, str], body: Json) -> Asked:
    return Asked(body.get("model", ""), bool(body.get("stream")))


APIS = (
    Api(
        name="cohere",
        base="",
        paths={"/v2/chat": read},
        events=events,
        whole=whole,
        error=error,
        refused=refused,
        ping=lambda script: comment("ping", script),
        content_type="text/event-stream",
    ),
)
