"""Encoding an answer: one message as JSON, and 32 chunks as WebSocket frames in one buffer."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from typing import Any

import msgspec
import orjson
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.micro.material import ANSWERS, CHUNKS
from se_server.protocol._wire import Buffer, encode_agent_response

EVENT_ID = 26


class AgentResponse(msgspec.Struct, tag_field="type", tag="agent_response"):
    content: str
    event_id: int
    is_final: bool


struct_of = msgspec.json.Encoder().encode


def fields(text: str, is_final: bool) -> dict[str, Any]:
    return {"type": "agent_response", "content": text, "event_id": EVENT_ID, "is_final": is_final}


WRITERS: dict[str, Callable[[str, bool], bytes]] = {
    "ours": lambda text, is_final: encode_agent_response(text, EVENT_ID, is_final),
    "msgspec": lambda text, is_final: struct_of(AgentResponse(text, EVENT_ID, is_final)),
    "orjson": lambda text, is_final: orjson.dumps(fields(text, is_final)),
    "json": lambda text, is_final: json.dumps(
        fields(text, is_final), ensure_ascii=False, separators=(",", ":")
    ).encode(),
}


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("writer", WRITERS)
def test_encode(benchmark: BenchmarkFixture, chunk: str, writer: str) -> None:
    benchmark.group = f"encode: a message, {chunk}"
    text = CHUNKS[chunk]
    assert json.loads(WRITERS[writer](text, False)) == fields(text, False)
    benchmark(WRITERS[writer], text, False)


def frames_by(write: Callable[[str, bool], bytes]) -> bytes:
    """Encode by hand: each message behind its frame's head (RFC 6455, 5.2), all of them joined."""
    parts = []
    for text in (*ANSWERS, ""):
        data = write(text, not text)
        size = len(data)
        parts.append(struct.pack("!BB", 0x81, size) if size < 126 else struct.pack("!BBH", 0x81, 126, size))
        parts.append(data)
    return b"".join(parts)


def our_frames(buffer: Buffer) -> bytes:
    for text in ANSWERS:
        buffer.put_agent_response(text, EVENT_ID, False)
    buffer.put_agent_response("", EVENT_ID, True)
    return buffer.take_bytes()


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.benchmark(group=f"encode: an answer of {len(ANSWERS)} chunks, as frames")
def test_encode_frames(benchmark: BenchmarkFixture, writer: str) -> None:
    assert our_frames(Buffer()) == frames_by(WRITERS["ours"])
    if writer == "ours":
        benchmark(our_frames, Buffer())
    else:
        benchmark(frames_by, WRITERS[writer])
