"""OpenAI's Chat Completions, and the same API as Azure, Groq, Together, DeepSeek and OpenRouter serve it.

Follows OpenAI's API reference, "Chat > Streaming" (`chat.completion.chunk`), with the fields `obfuscation` and
`service_tier` of 2025. Azure OpenAI follows its data plane 2024-10-21: a first chunk without choices, and filter
results on each choice. The others follow their references of 2025: Groq (`x_groq`, `event: error` before an error),
Together (`text` and `token_id` beside each delta), DeepSeek (`reasoning_content`, `: keep-alive`) and OpenRouter
(`: OPENROUTER PROCESSING`, an error with a choice that ends).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from tests.providers.api import Api, Asked, Json, Refused
from tests.providers.script import Script, tokens_of
from tests.providers.wire import Event, comment, sse

CREATED = 1764403200
FINISH = {"stop": "stop", "length": "length", "content_filter": "content_filter", "tool": "tool_calls"}
SAFE = {name: {"filtered": False, "severity": "safe"} for name in ("hate", "self_harm", "sexual", "violence")}
UNSAFE = {**SAFE, "violence": {"filtered": True, "severity": "medium"}}
ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


@dataclass(frozen=True)
class Dialect:
    """The differences between hosts of this API."""

    name: str = "openai"
    base: str = "/v1"
    id: str = "chatcmpl-CZq3mYk1v0uXw2b8sT4rN6pJ"
    reasoning: str = ""  # the delta's field; OpenAI itself streams no reasoning here
    ping: str = ""
    always_usage: bool = False
    padded: bool = False


OPENAI = Dialect(padded=True)
AZURE = Dialect("azure", "", padded=True)
GROQ = Dialect("groq", "", "chatcmpl-3f6e1b0c-8a52-4c0e-9f57-0d9c2c5b7a11", "reasoning")
TOGETHER = Dialect("together", "", "oEjkfDA-4Yz4kd-9a2b3c4d5e6f7a8b", "reasoning", always_usage=True)
DEEPSEEK = Dialect("deepseek", "", "930c60df-bf64-41c9-a88e-3ec75f81e00e", "reasoning_content", "keep-alive")
OPENROUTER = Dialect("openrouter", "/api/v1", "gen-1764403200-Xb2k9", "reasoning", "OPENROUTER PROCESSING")


def usage_of(script: Script) -> Json:
    """The usage object, details included."""
    return {
        "prompt_tokens": script.input_tokens,
        "completion_tokens": script.output_tokens,
        "total_tokens": script.input_tokens + script.output_tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": len(script.reasoning_tokens),
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _events(dialect: Dialect) -> Callable[[Script, Asked], Iterator[Event]]:
    def events(script: Script, asked: Asked) -> Iterator[Event]:
        padding = random.Random(script.seed)

        def chunk(choices: list[Json], tokens: int = 0, **fields: object) -> Event:
            value: Json = {
                "id": dialect.id,
                "object": "chat.completion.chunk",
                "created": CREATED,
                "model": asked.model,
                "service_tier": "default",
                "system_fingerprint": "fp_a1b2c3d4e5",
                "choices": choices,
                **({"usage": None} if asked.usage else {}),
                **fields,
            }
            if dialect.padded:
                value["obfuscation"] = "".join(padding.choices(ALPHABET, k=padding.randint(1, 12)))
            return Event(sse(value, script), tokens)

        def delta(index: int = 0, finish: str | None = None, tokens: int = 0, **fields: object) -> Event:
            choice: Json = {"index": index, "delta": fields, "logprobs": None, "finish_reason": finish}
            extra: Json = {}
            if dialect is AZURE:
                filtered = finish == "content_filter"
                choice["content_filter_results"] = (UNSAFE if filtered else SAFE) if fields or filtered else {}
            elif dialect is TOGETHER:
                choice |= {"text": fields.get("content") or "", "seed": None}
                choice["delta"] = {"token_id": 4919, "role": "assistant", "content": "", "tool_calls": None, **fields}
            elif dialect is GROQ and finish:
                extra["x_groq"] = {"id": "req_01kb7c8x9ye0a", "usage": usage_of(script)}
            return chunk([choice], tokens, **extra)

        if script.events is not None:
            yield from (Event(sse(event, script), 1) for event in script.events)
            yield Event(sse("[DONE]", script))
            return
        if dialect is AZURE:
            first = {"prompt_filter_results": [{"prompt_index": 0, "content_filter_results": SAFE}]}
            yield chunk([], id="", object="", created=0, model="", **first)
        numbers = range(script.choices)
        for number in numbers:
            yield delta(number, role="assistant", content="" if script.spoken_tokens else None, refusal=None)
        if dialect.reasoning:
            yield from (delta(0, None, 1, **{dialect.reasoning: piece}) for piece in script.reasoning_tokens)
        for piece in script.refusal_tokens:
            yield delta(0, None, 1, refusal=piece)
        for piece in () if script.refusal_tokens else script.text_tokens:
            for number in numbers:
                yield delta(number, None, int(number == 0), content=piece if number == 0 else f"{piece}({number})")
        for number, tool in enumerate(script.tools):
            call = {"index": number, "id": tool.id, "type": "function"}
            yield delta(tool_calls=[{**call, "function": {"name": tool.name, "arguments": ""}}])
            for piece in tokens_of(tool.arguments):
                yield delta(0, None, 1, tool_calls=[{"index": number, "function": {"arguments": piece}}])
        for number in numbers:
            yield delta(number, FINISH[script.finished_by])
        if asked.usage or dialect.always_usage:
            yield chunk([], usage=usage_of(script))
        yield Event(sse("[DONE]", script))

    return events


def _whole(dialect: Dialect) -> Callable[[Script, Asked], Json]:
    def whole(script: Script, asked: Asked) -> Json:
        message: Json = {
            "role": "assistant",
            "content": None if script.refusal_tokens else script.whole_text or None,
            "refusal": script.whole_refusal or None,
            "annotations": [],
        }
        if dialect.reasoning and script.reasoning:
            message[dialect.reasoning] = script.whole_reasoning
        if script.tools:
            message["tool_calls"] = [
                {"id": tool.id, "type": "function", "function": {"name": tool.name, "arguments": tool.arguments}}
                for tool in script.tools
            ]
        choices = []
        for number in range(script.choices):
            own = {} if number == 0 else {"content": f"{script.whole_text}({number})"}
            choices.append({"index": number, "message": {**message, **own}, "logprobs": None})
            choices[-1]["finish_reason"] = FINISH[script.finished_by]
        return {
            "id": dialect.id,
            "object": "chat.completion",
            "created": CREATED,
            "model": asked.model,
            "choices": choices,
            "usage": usage_of(script),
            "service_tier": "default",
            "system_fingerprint": "fp_a1b2c3d4e5",
        }

    return whole


def _error(dialect: Dialect) -> Callable[[Script, Asked], bytes]:
    def error(script: Script, asked: Asked) -> bytes:
        assert script.failure is not None
        if dialect is OPENROUTER:
            choice = {"index": 0, "delta": {"content": ""}, "finish_reason": "error"}
            head = {"id": dialect.id, "object": "chat.completion.chunk", "created": CREATED, "model": asked.model}
            return sse({**head, "error": {"code": 502, "message": script.failure.message}, "choices": [choice]}, script)
        error: Json = {"message": script.failure.message, "type": "server_error", "param": None, "code": None}
        return sse({"error": error}, script, name="error" if dialect is GROQ else "")

    return error


# status: type, code, message
ERRORS: Mapping[int, tuple[str, str | None, str]] = {
    400: ("invalid_request_error", None, "Invalid value for 'messages'."),
    401: ("invalid_request_error", "invalid_api_key", "Incorrect API key provided: none."),
    404: ("invalid_request_error", "model_not_found", "The model does not exist or you do not have access to it."),
    429: (
        "tokens",
        "rate_limit_exceeded",
        "Rate limit reached for gpt-4.1 in organization org-1 on tokens per min (TPM): Limit 30000, Used 29500, "
        "Requested 1200. Please try again in 1.4s. Visit https://platform.openai.com/account/rate-limits to learn "
        "more.",
    ),
    500: ("server_error", None, "The server had an error while processing your request. Sorry about that!"),
    503: ("server_error", None, "The engine is currently overloaded, please try again later"),
}


def refused(script: Script, asked: Asked) -> Refused:
    """The error body of OpenAI's APIs."""
    kind, code, message = ERRORS.get(script.status, ERRORS[500])
    headers = {"x-request-id": "req_5e6f7a8b9c0d", "openai-version": "2020-10-01"}
    if script.retry_after_s is not None:
        headers["retry-after-ms"] = f"{script.retry_after_s * 1000:.0f}"
    body = {"message": script.message or message, "type": kind, "param": None, "code": code}
    if asked.form == "azure" and script.status == 400:
        filtered = {"code": "ResponsibleAIPolicyViolation", "content_filter_result": UNSAFE}
        azure = {"type": None, "param": "prompt", "code": "content_filter", "status": 400, "innererror": filtered}
        body = {**body, **azure, "message": script.message or "The response was filtered due to the prompt triggering "
                "Azure OpenAI's content management policy. Please modify your prompt and retry."}  # fmt: skip
    return Refused(script.status, {"error": body}, headers)


def read(match: Mapping[str, str], query: Mapping[str, str], body: Json) -> Asked:
    """Read a request; Azure names its deployment in the path."""
    options = body.get("stream_options") or {}
    form = "azure" if "deployment" in match else ""
    model = body.get("model") or match.get("deployment", "")
    return Asked(model, bool(body.get("stream")), bool(options.get("include_usage")), form)


def chat_api(dialect: Dialect, *paths: str) -> Api:
    """Return this API as a host of it serves it."""
    return Api(
        name=dialect.name,
        base=dialect.base,
        paths=dict.fromkeys(paths, read),
        events=_events(dialect),
        whole=_whole(dialect),
        error=_error(dialect),
        refused=refused,
        ping=lambda script: comment(dialect.ping or "ping", script),
        headers={"x-request-id": "req_1a2b3c4d5e6f", "openai-processing-ms": "212"},
    )


APIS = (
    chat_api(OPENAI, "/v1/chat/completions"),
    chat_api(AZURE, "/openai/deployments/{deployment}/chat/completions", "/openai/v1/chat/completions"),
    chat_api(GROQ, "/openai/v1/chat/completions"),
    chat_api(TOGETHER, "/v1/chat/completions"),
    chat_api(DEEPSEEK, "/chat/completions", "/v1/chat/completions"),
    chat_api(OPENROUTER, "/api/v1/chat/completions"),
)
