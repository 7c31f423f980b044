"""Decoding one message of the API into typed messages, next to orjson, msgspec and json.

Each round replaces the transcript's last two messages, as a conversation does, and keeps those before them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Any

import msgspec
import orjson
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.micro.material import SCRIPTS, next_turns
from se_server import ConversationMessage
from se_server.protocol._wire import PING, History, decode

PING_MESSAGE = b'{"type": "ping"}'


class Entry(msgspec.Struct):
    role: str
    content: str


class UserTranscript(msgspec.Struct, tag_field="type", tag="user_transcript"):
    user_transcript: list[Entry]
    event_id: int | None = None


class Init(msgspec.Struct, tag_field="type", tag="init"):
    conversation_id: str | None = None


class Ping(msgspec.Struct, tag_field="type", tag="ping"):
    pass


class Close(msgspec.Struct, tag_field="type", tag="close"):
    pass


structs = msgspec.json.Decoder(UserTranscript | Init | Ping | Close).decode


def messages_by(loads: Callable[[bytes], Any], data: bytes) -> tuple[int, list[ConversationMessage]]:
    """Decode by hand: parse, then build the messages that a handler gets."""
    message = loads(data)
    return message["event_id"], [
        ConversationMessage(entry["role"], entry["content"]) for entry in message["user_transcript"]
    ]


def readers() -> dict[str, Callable[[bytes], Any]]:
    history = History()
    return {
        "ours, with the history": lambda data: decode(data, history),
        "ours": decode,
        "msgspec, to structs": structs,
        "orjson, to messages": partial(messages_by, orjson.loads),
        "json, to messages": partial(messages_by, json.loads),
        "orjson, to dicts only": orjson.loads,
    }


def content(read: Any) -> tuple[int, list[tuple[str, str]]]:
    """Return the result of any of the decoders in one form."""
    if isinstance(read, dict):
        return read["event_id"], [(entry["role"], entry["content"]) for entry in read["user_transcript"]]
    if isinstance(read, tuple):
        event_id, entries = read
    else:
        event_id, entries = read.event_id, read.user_transcript if isinstance(read, UserTranscript) else read.transcript
    return event_id, [(entry.role, entry.content) for entry in entries]


def compare(benchmark: BenchmarkFixture, reader: str, count: int, script: str) -> None:
    read = readers()[reader]
    for data in islice(next_turns(count, script), 3):
        assert content(read(data)) == content(json.loads(data))
    turn = next_turns(count, script)
    benchmark(lambda: read(next(turn)))


@pytest.mark.parametrize("count", [4, 100, 1000])
@pytest.mark.parametrize("reader", readers())
def test_decode(benchmark: BenchmarkFixture, count: int, reader: str) -> None:
    benchmark.group = f"decode: a transcript of {count} messages"
    compare(benchmark, reader, count, "ascii")


@pytest.mark.parametrize("script", [script for script in SCRIPTS if script != "ascii"])
@pytest.mark.parametrize("reader", readers())
def test_decode_scripts(benchmark: BenchmarkFixture, script: str, reader: str) -> None:
    benchmark.group = f"decode: a transcript of 20 messages, {script}"
    compare(benchmark, reader, 20, script)


@pytest.mark.parametrize("reader", ["ours", "msgspec", "orjson", "json"])
@pytest.mark.benchmark(group="decode: a ping")
def test_decode_ping(benchmark: BenchmarkFixture, reader: str) -> None:
    assert decode(PING_MESSAGE).kind == PING
    assert isinstance(structs(PING_MESSAGE), Ping)
    assert orjson.loads(PING_MESSAGE) == json.loads(PING_MESSAGE) == {"type": "ping"}
    benchmark({"ours": decode, "msgspec": structs, "orjson": orjson.loads, "json": json.loads}[reader], PING_MESSAGE)
