"""Amazon Bedrock's runtime: `Converse`, `ConverseStream`, and Anthropic's models by `InvokeModelWithResponseStream`.

Follows the Bedrock API reference, "ConverseStream" (2023-09-30), in the binary framing of the Amazon Event Stream
specification, with CRCs; `p` is padding. An error inside a stream is a message of type `exception`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping

from tests.providers import anthropic_messages
from tests.providers.api import Api, Asked, Json, Refused
from tests.providers.openai_chat import ALPHABET
from tests.providers.script import Script, tokens_of
from tests.providers.wire import Event, dumps, event_stream_message

STOP = {"stop": "end_turn", "length": "max_tokens", "content_filter": "guardrail_intervened", "tool": "tool_use"}
SIGNATURE = "c2lnbmF0dXJlIG9mIHRoZSByZWFzb25pbmc="


def _usage(script: Script) -> Json:
    total = script.input_tokens + script.output_tokens
    return {"inputTokens": script.input_tokens, "outputTokens": script.output_tokens, "totalTokens": total}


def _stream(script: Script) -> Iterator[tuple[str, Json, int]]:
    index = 0

    def delta(tokens: int, **fields: object) -> tuple[str, Json, int]:
        return "contentBlockDelta", {"contentBlockIndex": index, "delta": fields}, tokens

    yield "messageStart", {"role": "assistant"}, 0
    if script.reasoning_tokens:
        yield from (delta(1, reasoningContent={"text": piece}) for piece in script.reasoning_tokens)
        yield delta(0, reasoningContent={"signature": SIGNATURE})
        yield "contentBlockStop", {"contentBlockIndex": index}, 0
        index += 1
    if script.spoken_tokens:
        yield from (delta(1, text=piece) for piece in script.spoken_tokens)
        yield "contentBlockStop", {"contentBlockIndex": index}, 0
        index += 1
    for tool in script.tools:
        use = {"toolUse": {"toolUseId": f"tooluse_{tool.id}", "name": tool.name}}
        yield "contentBlockStart", {"contentBlockIndex": index, "start": use}, 0
        for piece in tokens_of(tool.arguments):
            yield delta(1, toolUse={"input": piece})
        yield "contentBlockStop", {"contentBlockIndex": index}, 0
        index += 1
    yield "messageStop", {"stopReason": STOP[script.finished_by]}, 0
    yield "metadata", {"usage": _usage(script), "metrics": {"latencyMs": 1275}}, 0


def events(script: Script, asked: Asked) -> Iterator[Event]:
    """The stream; raw events are objects with one key, the event's type, as boto3 shows them."""
    if asked.form == "invoke":
        yield from anthropic_messages.events(script, Asked(asked.model, form="bedrock"))
        return
    padding = random.Random(script.seed)
    stream = _stream(script)
    if script.events is not None:
        stream = ((name, value, 1) for event in script.events for name, value in json.loads(event).items())
    for name, value, tokens in stream:
        padded = {"p": "".join(padding.choices(ALPHABET, k=padding.randint(1, 40)))}
        payload = dumps({**value, **padded}, script).encode()
        headers = {"event_type": name, "content_type": "application/json", "message_type": "event"}
        yield Event(event_stream_message(payload, **headers), tokens)


def whole(script: Script, asked: Asked) -> Json:
    if asked.form == "invoke":
        return anthropic_messages.whole(script, asked)
    content: list[Json] = []
    if script.reasoning_tokens:
        text = {"text": script.whole_reasoning, "signature": SIGNATURE}
        content.append({"reasoningContent": {"reasoningText": text}})
    if script.spoken_tokens:
        content.append({"text": script.spoken})
    for tool in script.tools:
        use = {"toolUseId": f"tooluse_{tool.id}", "name": tool.name, "input": json.loads(tool.arguments)}
        content.append({"toolUse": use})
    message = {"message": {"role": "assistant", "content": content}}
    end = {"stopReason": STOP[script.finished_by], "usage": _usage(script)}
    return {"output": message, **end, "metrics": {"latencyMs": 1275}}


def error(script: Script, asked: Asked) -> bytes:
    assert script.failure is not None
    payload = json.dumps({"message": script.failure.message}).encode()
    kind, content_type = "modelStreamErrorException", "application/json"
    return event_stream_message(payload, exception_type=kind, content_type=content_type, message_type="exception")


def refused(script: Script, asked: Asked) -> Refused:
    kinds = {
        400: ("ValidationException", "The provided model identifier is invalid."),
        403: ("AccessDeniedException", "You don't have access to the model with the specified model ID."),
        429: ("ThrottlingException", "Too many requests, please wait before trying again."),
        500: ("InternalServerException", "The system encountered an unexpected error during processing."),
        503: ("ServiceUnavailableException", "Bedrock is unable to process your request."),
    }
    kind, message = kinds.get(script.status, kinds[500])
    return Refused(script.status, {"message": script.message or message}, {"x-amzn-ErrorType": f"{kind}:http://b/"})


def _reader(form: str, *, streamed: bool) -> Callable[[Mapping[str, str], Mapping[str, str], Json], Asked]:
    def read(match: Mapping[str, str], query: Mapping[str, str], body: Json) -> Asked:
        return Asked(match["model"], streamed, form=form)

    return read


APIS = (
    Api(
        name="bedrock",
        base="",
        paths={
            "/model/{model}/converse-stream": _reader("", streamed=True),
            "/model/{model}/converse": _reader("", streamed=False),
            "/model/{model}/invoke-with-response-stream": _reader("invoke", streamed=True),
            "/model/{model}/invoke": _reader("invoke", streamed=False),
        },
        events=events,
        whole=whole,
        error=error,
        refused=refused,
        content_type="application/vnd.amazon.eventstream",
        headers={"x-amzn-RequestId": "6f1c2d3e-4b5a-4978-8f60-1a2b3c4d5e6f"},
    ),
)
