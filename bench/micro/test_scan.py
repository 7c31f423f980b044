"""The texts in a provider's event stream: the scanner next to `json` and `orjson`, which only parse each event.

The two parsers get the event's JSON already cut out of the stream, so they are spared the framing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from se_server.streams._scan import Scanner

Event = Any

IDS = {"id": "chatcmpl-AbCdEfGhIjKlMnOpQrStUvWxYz012", "object": "chat.completion.chunk", "created": 1764453600}
EVENTS: dict[str, tuple[Event, Callable[[Event], str | None]]] = {
    "OpenAI chat": (
        {
            **IDS,
            "model": "gpt-4o-mini-2024-07-18",
            "service_tier": "default",
            "system_fingerprint": "fp_0aa8d3e20b",
            "choices": [{"index": 0, "delta": {"content": " word"}, "logprobs": None, "finish_reason": None}],
            "usage": None,
            "obfuscation": "abcdefgh",
        },
        lambda event: event["choices"][0]["delta"]["content"],
    ),
    "OpenAI responses": (
        {
            "type": "response.output_text.delta",
            "sequence_number": 14,
            "item_id": "msg_0123456789abcdef0123456789abcdef",
            "output_index": 0,
            "content_index": 0,
            "delta": " word",
            "logprobs": [],
            "obfuscation": "abcd",
        },
        lambda event: event["delta"],
    ),
    "Anthropic": (
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": " word"}},
        lambda event: event["delta"]["text"],
    ),
    "Gemini": (
        {
            "candidates": [{"content": {"parts": [{"text": " word"}], "role": "model"}, "index": 0}],
            "usageMetadata": {"promptTokenCount": 12, "totalTokenCount": 40, "candidatesTokenCount": 28},
            "modelVersion": "gemini-2.5-flash",
            "responseId": "abcdefghijkl",
        },
        lambda event: event["candidates"][0]["content"]["parts"][0]["text"],
    ),
    "OpenAI chat, not spoken": (
        {**IDS, "choices": [{"index": 0, "delta": {"reasoning_content": " hm"}, "finish_reason": None}]},
        lambda event: event["choices"][0]["delta"].get("content"),
    ),
}


@pytest.mark.parametrize("reader", ["scanner", "json", "orjson"])
@pytest.mark.parametrize("name", EVENTS)
def test_text_of_one_event(benchmark: BenchmarkFixture, name: str, reader: str) -> None:
    benchmark.group = f"scan: {name}"
    event, look_up = EVENTS[name]
    body = json.dumps(event, separators=(",", ":")).encode()
    if reader == "scanner":
        piece = b"data: " + body + b"\n\n"
        assert benchmark(Scanner("sse").feed, piece) == ([] if "not spoken" in name else [" word"])
        return
    loads = pytest.importorskip(reader).loads
    assert benchmark(lambda: look_up(loads(body))) == (None if "not spoken" in name else " word")
