"""Google's Gemini API, at the paths of the Developer API (v1beta, v1) and of Vertex AI.

Follows the Gemini API reference, "Generating content > streamGenerateContent", as of 2025: `alt=sse` gives
server-sent events with CRLF and spaced JSON, without it one JSON array is streamed. Thoughts are parts with `thought`;
each event has the usage so far; errors have google.rpc.Status's form.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from tests.providers.api import Api, Asked, Json, Refused
from tests.providers.script import Script, tokens_of
from tests.providers.wire import Event, dumps, sse

FINISH = {"stop": "STOP", "length": "MAX_TOKENS", "content_filter": "SAFETY", "tool": "STOP"}


def _usage(script: Script, output: int, thoughts: int) -> Json:
    usage: Json = {"promptTokenCount": script.input_tokens}
    if output:
        usage["candidatesTokenCount"] = output
    usage["totalTokenCount"] = script.input_tokens + output + thoughts
    usage["promptTokensDetails"] = [{"modality": "TEXT", "tokenCount": script.input_tokens}]
    if thoughts:
        usage["thoughtsTokenCount"] = thoughts
    return usage


def _answers(script: Script, asked: Asked) -> Iterator[tuple[Json, int]]:
    """Give the `GenerateContentResponse` of each event with its tokens."""
    output = thoughts = 0

    def answer(*parts: Json, finish: str = "") -> Json:
        candidate: Json = {"content": {"parts": list(parts), "role": "model"}} if parts else {}
        if finish:
            candidate["finishReason"] = finish
        candidate["index"] = 0
        usage = _usage(script, output, thoughts)
        return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": asked.model, "responseId": "nT3aaP"}

    if script.finished_by == "content_filter" and not script.text_tokens and not script.refusal_tokens:
        # A prompt that is blocked has no candidates.
        feedback = {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}
        yield {**feedback, "usageMetadata": _usage(script, 0, 0), "modelVersion": asked.model}, 0
        return
    for piece in script.reasoning_tokens:
        thoughts += 1
        yield answer({"text": piece, "thought": True}), 1
    for piece in script.spoken_tokens:
        output += 1
        yield answer({"text": piece}), 1
    for tool in script.tools:
        tokens = len(tokens_of(tool.arguments))
        output += tokens
        call = {"functionCall": {"name": tool.name, "args": json.loads(tool.arguments)}}
        yield answer({**call, "thoughtSignature": "c2lnbmF0dXJl"}), tokens
    finish = FINISH[script.finished_by]
    yield answer(*([{"text": ""}] if finish == "STOP" else []), finish=finish), 0


def _frame(value: Any, script: Script, asked: Asked, *, first: bool) -> bytes:
    """Frame one answer: an event, or an element of the array."""
    if asked.form != "array":
        return sse(value, script, crlf=True, spaced=True)
    text = value if isinstance(value, str) else dumps(value, script, spaced=True)
    return ("[" if first else ",\r\n").encode() + text.encode()


def events(script: Script, asked: Asked) -> Iterator[Event]:
    raw = ((event, 1) for event in script.events or ())
    first = True
    for value, tokens in raw if script.events is not None else _answers(script, asked):
        yield Event(_frame(value, script, asked, first=first), tokens)
        first = False
    if asked.form == "array":
        yield Event(b"]")


def whole(script: Script, asked: Asked) -> Json:
    """The last event, with the parts of all."""
    answers = [answer for answer, _ in _answers(script, asked)]
    last = answers[-1]
    if "candidates" not in last:
        return last
    parts: list[Json] = []
    if script.reasoning_tokens:
        parts.append({"text": script.whole_reasoning, "thought": True})
    if script.spoken_tokens:
        parts.append({"text": script.spoken})
    parts += [part for answer in answers for part in _parts(answer) if "functionCall" in part]
    candidate = {"content": {"parts": parts, "role": "model"}, "finishReason": FINISH[script.finished_by], "index": 0}
    return {**last, "candidates": [candidate]}


def _parts(answer: Json) -> list[Json]:
    parts: list[Json] = answer["candidates"][0].get("content", {}).get("parts", [])
    return parts


ERRORS = {
    400: ("INVALID_ARGUMENT", "Request contains an invalid argument."),
    401: ("UNAUTHENTICATED", "API keys are not supported by this API."),
    403: ("PERMISSION_DENIED", "Method doesn't allow unregistered callers."),
    404: ("NOT_FOUND", "models/none is not found for API version v1beta, or is not supported."),
    429: ("RESOURCE_EXHAUSTED", "You exceeded your current quota, please check your plan and billing details."),
    500: ("INTERNAL", "An internal error has occurred. Please retry or report in the troubleshooting guide."),
    503: ("UNAVAILABLE", "The model is overloaded. Please try again later."),
}


def error(script: Script, asked: Asked) -> bytes:
    """An error inside a stream: the status object as an event of its own."""
    assert script.failure is not None
    told = {"code": 503, "message": script.failure.message, "status": "UNAVAILABLE"}
    return _frame({"error": told}, script, asked, first=False) + (b"]" if asked.form == "array" else b"")


def refused(script: Script, asked: Asked) -> Refused:
    """An error status; it has no `retry-after` header, but a detail that says the same."""
    status, message = ERRORS.get(script.status, ERRORS[500])
    told: Json = {"code": script.status, "message": script.message or message, "status": status}
    if script.retry_after_s is not None:
        info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{script.retry_after_s:g}s"}
        told["details"] = [info]
    body: Json = {"error": told}
    return Refused(script.status, [body] if asked.form == "array" else body)


def read(match: Mapping[str, str], query: Mapping[str, str], body: Json) -> Asked:
    model, _, operation = match["operation"].rpartition(":")
    streamed = operation == "streamGenerateContent"
    return Asked(model, streamed, form="" if query.get("alt") == "sse" or not streamed else "array")


VERTEX = "/projects/{project}/locations/{location}/publishers/google/models/{operation}"
APIS = (
    Api(
        name="gemini",
        base="",
        paths={
            "/v1beta/models/{operation}": read,
            "/v1/models/{operation}": read,
            f"/v1beta1{VERTEX}": read,
            f"/v1{VERTEX}": read,
        },
        events=events,
        whole=whole,
        error=error,
        refused=refused,
        content_type="text/event-stream",
        forms={"array": "application/json; charset=UTF-8"},
        headers={"vary": "Origin, X-Origin, Referer", "server-timing": "gfet4t7; dur=412"},
    ),
)
