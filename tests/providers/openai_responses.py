"""OpenAI's Responses API, also as Azure serves it.

Follows OpenAI's API reference, "Responses > Streaming events", with `sequence_number` on each event and `obfuscation`
on deltas (2025). The reference's `error` event is flat (`code`, `message`, `param` beside `type`). The live API has
been seen to nest them in `error`, for which the SDK raises instead of yielding an event.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from typing import Any

from tests.providers.api import Api, Asked, Json
from tests.providers.openai_chat import ALPHABET, CREATED, refused
from tests.providers.script import Script, tokens_of
from tests.providers.wire import Event, comment, sse

ID = "resp_68b1f0a4c2d88190a7d1e5f3b9c04e6a"
MESSAGE_ID = "msg_68b1f0a5d3e48190b8e2f6a4c0d15f7b"
REASONING_ID = "rs_68b1f0a4e9f48190c9f3a7b5d1e26a8c"


def _usage(script: Script) -> Json:
    return {
        "input_tokens": script.input_tokens,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": script.output_tokens,
        "output_tokens_details": {"reasoning_tokens": len(script.reasoning_tokens)},
        "total_tokens": script.input_tokens + script.output_tokens,
    }


def _response(script: Script, asked: Asked, status: str, output: list[Json], **fields: Any) -> Json:
    """The response object, which several events carry whole."""
    return {
        "id": ID,
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "max_tool_calls": None,
        "model": asked.model,
        "output": output,
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "prompt_cache_key": None,
        "reasoning": {"effort": None, "summary": None},
        "safety_identifier": None,
        "service_tier": "auto" if status == "in_progress" else "default",
        "store": True,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}, "verbosity": "medium"},
        "tool_choice": "auto",
        "tools": [],
        "top_logprobs": 0,
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": None if status in ("in_progress", "failed") else _usage(script),
        "user": None,
        "metadata": {},
        **fields,
    }


def _reasoning(script: Script) -> Json:
    summary = [{"type": "summary_text", "text": script.whole_reasoning}]
    return {"id": REASONING_ID, "type": "reasoning", "summary": summary}


def _message(script: Script, status: str = "completed") -> Json:
    part: Json = {"type": "output_text", "annotations": [], "logprobs": [], "text": script.whole_text}
    if script.refusal_tokens:
        part = {"type": "refusal", "refusal": script.whole_refusal}
    return {"id": MESSAGE_ID, "type": "message", "status": status, "content": [part], "role": "assistant"}


def _call(script: Script, number: int, status: str = "completed") -> Json:
    tool = script.tools[number]
    own = {"arguments": tool.arguments if status == "completed" else "", "call_id": tool.id, "name": tool.name}
    return {"id": f"fc_68b1f0a5d3e48190{number:04}", "type": "function_call", "status": status, **own}


def _output(script: Script) -> list[Json]:
    items = [_reasoning(script)] if script.reasoning_tokens else []
    if script.spoken_tokens:
        items.append(_message(script))
    return [*items, *(_call(script, number) for number in range(len(script.tools)))]


def _closing(script: Script, asked: Asked) -> tuple[str, Json]:
    """The last event's name and response; `incomplete` for an answer that was cut short or filtered."""
    reason = {"length": "max_output_tokens", "content_filter": "content_filter"}.get(script.finished_by)
    if reason is None:
        return "completed", _response(script, asked, "completed", _output(script))
    details = {"incomplete_details": {"reason": reason}}
    return "incomplete", _response(script, asked, "incomplete", _output(script), **details)


def _stream(script: Script, asked: Asked) -> Iterator[tuple[str, Json, int]]:
    """Give name, fields and tokens of each event."""
    begun = {"response": _response(script, asked, "in_progress", [])}
    yield "created", begun, 0
    yield "in_progress", begun, 0
    at = 0
    if script.reasoning_tokens:
        whole = script.whole_reasoning
        place = {"item_id": REASONING_ID, "output_index": at, "summary_index": 0}
        yield "output_item.added", {"output_index": at, "item": {**_reasoning(script), "summary": []}}, 0
        yield "reasoning_summary_part.added", {**place, "part": {"type": "summary_text", "text": ""}}, 0
        for piece in script.reasoning_tokens:
            yield "reasoning_summary_text.delta", {**place, "delta": piece}, 1
        yield "reasoning_summary_text.done", {**place, "text": whole}, 0
        yield "reasoning_summary_part.done", {**place, "part": {"type": "summary_text", "text": whole}}, 0
        yield "output_item.done", {"output_index": at, "item": _reasoning(script)}, 0
        at += 1
    if script.spoken_tokens:
        yield from _spoken(script, at)
        at += 1
    for number, tool in enumerate(script.tools):
        call = _call(script, number)
        place = {"item_id": call["id"], "output_index": at}
        yield "output_item.added", {"output_index": at, "item": _call(script, number, "in_progress")}, 0
        for piece in tokens_of(tool.arguments):
            yield "function_call_arguments.delta", {**place, "delta": piece}, 1
        yield "function_call_arguments.done", {**place, "arguments": tool.arguments, "name": tool.name}, 0
        yield "output_item.done", {"output_index": at, "item": call}, 0
        at += 1
    name, response = _closing(script, asked)
    yield name, {"response": response}, 0


def _spoken(script: Script, at: int) -> Iterator[tuple[str, Json, int]]:
    place = {"item_id": MESSAGE_ID, "output_index": at, "content_index": 0}
    message = _message(script)
    part = message["content"][0]
    yield "output_item.added", {"output_index": at, "item": {**message, "status": "in_progress", "content": []}}, 0
    if script.refusal_tokens:
        yield "content_part.added", {**place, "part": {"type": "refusal", "refusal": ""}}, 0
        for piece in script.refusal_tokens:
            yield "refusal.delta", {**place, "delta": piece}, 1
        yield "refusal.done", {**place, "refusal": script.whole_refusal}, 0
    else:
        yield "content_part.added", {**place, "part": {**part, "text": ""}}, 0
        for piece in script.text_tokens:
            yield "output_text.delta", {**place, "delta": piece, "logprobs": []}, 1
        yield "output_text.done", {**place, "text": script.whole_text, "logprobs": []}, 0
    yield "content_part.done", {**place, "part": part}, 0
    yield "output_item.done", {"output_index": at, "item": message}, 0


def events(script: Script, asked: Asked) -> Iterator[Event]:
    """The stream: it has no `[DONE]`."""
    if script.events is not None:
        yield from raw_events(script)
        return
    padding = random.Random(script.seed)
    for number, (name, fields, tokens) in enumerate(_stream(script, asked)):
        value = {"type": f"response.{name}", "sequence_number": number, **fields}
        if tokens:
            value["obfuscation"] = "".join(padding.choices(ALPHABET, k=padding.randint(4, 16)))
        yield Event(sse(value, script, name=f"response.{name}"), tokens)


def raw_events(script: Script) -> Iterator[Event]:
    """The script's raw events, each named by its `type`."""
    for event in script.events or ():
        yield Event(sse(event, script, name=json.loads(event).get("type", "")), 1)


def error(script: Script, asked: Asked) -> bytes:
    """An `error` event, or an early end of the response by `response.failed` or `response.incomplete`."""
    failure = script.failure
    assert failure is not None
    if failure.kind in ("error", "nested_error"):
        fields: Json = {"code": "server_error", "message": failure.message, "param": None}
        if failure.kind == "nested_error":
            fields = {"error": {"type": "server_error", **fields}}
        return sse({"type": "error", "sequence_number": 99, **fields}, script, name="error")
    told: Json = {"error": {"code": "server_error", "message": failure.message}}
    if failure.kind == "incomplete":
        told = {"incomplete_details": {"reason": "max_output_tokens"}}
    response = _response(script, asked, failure.kind, [], **told)
    name = f"response.{failure.kind}"
    return sse({"type": name, "sequence_number": 99, "response": response}, script, name=name)


def whole(script: Script, asked: Asked) -> Json:
    return _closing(script, asked)[1]


def read(match: Mapping[str, str], query: Mapping[str, str], body: Json) -> Asked:
    return Asked(body.get("model", ""), bool(body.get("stream")))


def _api(name: str, base: str, *paths: str) -> Api:
    headers = {"x-request-id": "req_1a2b3c4d5e6f", "openai-processing-ms": "187", "openai-version": "2020-10-01"}
    return Api(
        name=name,
        base=base,
        paths=dict.fromkeys(paths, read),
        events=events,
        whole=whole,
        error=error,
        refused=refused,
        ping=lambda script: comment("ping", script),
        headers=headers,
    )


APIS = (
    _api("openai", "/v1", "/v1/responses"),
    _api("azure", "", "/openai/responses", "/openai/v1/responses"),
)
