"""Ollama's chat.

Follows Ollama's docs/api.md, "Generate a chat completion", of 0.12: newline-delimited JSON, streamed unless the request
says `"stream": false`; thinking and whole tool calls in the message; the last object has counts and durations in ns.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from tests.providers.api import Api, Asked, Json, Refused
from tests.providers.script import Script, tokens_of
from tests.providers.wire import Event, ndjson

CREATED = "2025-11-29T08:00:00.123456789Z"
FINISH = {"stop": "stop", "length": "length", "content_filter": "stop", "tool": "stop"}


def _calls(script: Script) -> list[Json]:
    return [
        {"id": tool.id, "function": {"index": number, "name": tool.name, "arguments": json.loads(tool.arguments)}}
        for number, tool in enumerate(script.tools)
    ]


def _end(script: Script) -> Json:
    return {
        "done": True,
        "done_reason": FINISH[script.finished_by],
        "total_duration": 4883583458,
        "load_duration": 1334875,
        "prompt_eval_count": script.input_tokens,
        "prompt_eval_duration": 342546000,
        "eval_count": script.output_tokens,
        "eval_duration": 4535599000,
    }


def events(script: Script, asked: Asked) -> Iterator[Event]:
    def line(tokens: int, **message: object) -> Event:
        head = {"model": asked.model, "created_at": CREATED, "message": {"role": "assistant", **message}}
        return Event(ndjson({**head, "done": False}, script), tokens)

    if script.events is not None:
        yield from (Event(f"{event}\n".encode(), 1) for event in script.events)
        return
    for piece in script.reasoning_tokens:
        yield line(1, content="", thinking=piece)
    for piece in script.spoken_tokens:
        yield line(1, content=piece)
    if script.tools:
        tokens = sum(len(tokens_of(tool.arguments)) for tool in script.tools)
        yield line(tokens, content="", tool_calls=_calls(script))
    head = {"model": asked.model, "created_at": CREATED, "message": {"role": "assistant", "content": ""}}
    yield Event(ndjson({**head, **_end(script)}, script))


def whole(script: Script, asked: Asked) -> Json:
    message: Json = {"role": "assistant", "content": script.spoken}
    if script.reasoning_tokens:
        message["thinking"] = script.whole_reasoning
    if script.tools:
        message["tool_calls"] = _calls(script)
    return {"model": asked.model, "created_at": CREATED, "message": message, **_end(script)}


def error(script: Script, asked: Asked) -> bytes:
    assert script.failure is not None
    return ndjson({"error": script.failure.message}, script)


def refused(script: Script, asked: Asked) -> Refused:
    messages = {
        404: f'model "{asked.model}" not found, try pulling it first',
        500: "llama runner process has terminated",
    }
    messages |= {429: "too many requests", 503: "server busy, please try again. maximum pending requests exceeded"}
    return Refused(script.status, {"error": script.message or messages.get(script.status, messages[500])})


def read(match: Mapping[str, str], query: Mapping[str, str], body: Json) -> Asked:
    return Asked(body.get("model", ""), bool(body.get("stream", True)))


APIS = (
    Api(
        name="ollama",
        base="",
        paths={"/api/chat": read},
        events=events,
        whole=whole,
        error=error,
        refused=refused,
        content_type="application/x-ndjson",
    ),
)
