"""The interface between the server and one provider's API."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.providers.script import Script
from tests.providers.wire import Event

Json = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """The parts of a request that decide the form of its answer."""

    model: str = ""
    stream: bool = True
    usage: bool = False  # OpenAI's stream_options.include_usage
    form: str = ""  # the API's own: Gemini without alt=sse, a chat dialect, an operation of Bedrock


@dataclass(frozen=True)
class Refused:
    """An HTTP error: its body is JSON."""

    status: int
    body: Json | list[Any]
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Api:
    """One provider's API.

    Attributes:
        name: The first part of the path, which stands for the provider's host name.
        base: What a client's base URL has after the host name.
        paths: The paths below the host, in aiohttp's form, by the function that reads a request to one.
        events: Gives the stream's events.
        whole: Gives the answer in one JSON object.
        error: Gives the event that tells an error inside a stream.
        refused: Gives the answer of an error status.
        ping: The bytes of a ping or comment.
        content_type: The stream's; `forms` names others by `Asked.form`.
        headers: What the real API's responses carry beside it.
    """

    name: str
    base: str
    paths: Mapping[str, Callable[[Mapping[str, str], Mapping[str, str], Json], Asked]]
    events: Callable[[Script, Asked], Iterator[Event]]
    whole: Callable[[Script, Asked], Any]
    error: Callable[[Script, Asked], bytes]
    refused: Callable[[Script, Asked], Refused]
    ping: Callable[[Script], bytes] = lambda script: b""
    content_type: str = "text/event-stream; charset=utf-8"
    forms: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
