"""Opens what Amazon Bedrock answers: the dicts of boto3 and of its async relatives, and the event streams in them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from se_server.streams._scan import Scanner
from se_server.streams.closing import closer_of
from se_server.streams.forms import Blocking, Events, Form, identity

EVENT_STREAMS = ("EventStream", "AioEventStream")


def is_event_stream(value: object) -> bool:
    """Whether an object is an event stream of botocore or a relative."""
    return any(base.__name__ in EVENT_STREAMS for base in type(value).__mro__)


def stream_of(answer: Mapping[Any, Any]) -> Any:
    """Return the stream or the body in a dict that Bedrock answered; None for all other dicts."""
    for name in ("stream", "body", "completion", "output", "responseStream"):
        value = answer.get(name)
        if is_event_stream(value) or identity(type(value))[1] == "StreamingBody":
            return value
    return None


def payload_of(event: Any) -> bytes | None:
    """Return the provider's own JSON in an event of `invoke_model_with_response_stream`; None for all others."""
    if isinstance(event, dict):
        chunk = event.get("chunk")
        if isinstance(chunk, dict) and isinstance(chunk.get("bytes"), bytes):
            payload: bytes = chunk["bytes"]
            return payload
    return None


class Payloads:
    """The events of a Bedrock stream, with those that only carry a provider's JSON replaced by what is in it."""

    def __init__(self) -> None:
        self._scanner: Scanner | None = None

    def feed(self, event: Any) -> list[Any]:
        payload = payload_of(event)
        if payload is None:
            return [event]
        if self._scanner is None:
            self._scanner = Scanner("ndjson")
        return list(self._scanner.feed(payload + b"\n"))

    def finish(self) -> list[Any]:
        return [] if self._scanner is None else list(self._scanner.finish())


async def read(stream: Any) -> AsyncIterator[Any]:
    """Yield the events of an async event stream."""
    payloads = Payloads()
    async for event in stream:
        for found in payloads.feed(event):
            yield found
    for found in payloads.finish():
        yield found


def read_blocking(stream: Any) -> Iterator[Any]:
    """Yield the events of boto3's event stream."""
    payloads = Payloads()
    for event in stream:
        yield from payloads.feed(event)
    yield from payloads.finish()


def take_event_stream(opening: Any, stream: Any) -> object:
    """Take an event stream; boto3's is read in a thread."""
    if not hasattr(type(stream), "__aiter__"):
        return Blocking(stream)
    opening.closers.append(closer_of(stream))
    return Events(read(stream))


FORMS: Mapping[tuple[str, str], Form] = {
    ("botocore", "EventStream"): take_event_stream,
    ("aiobotocore", "AioEventStream"): take_event_stream,
    ("aiobotocore", "EventStream"): take_event_stream,
}
