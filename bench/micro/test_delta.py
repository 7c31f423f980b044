"""What one LLM event costs: ours against the published SDK's extractor, in the same run.

    pytest bench/micro/test_delta.py --benchmark-group-by=param:event --benchmark-columns=min,median

Events are the objects that the SDKs' own streaming code makes; "not spoken" is an event without text, which a chain
of attribute probes pays for in full.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from se_server.protocol._delta import text_of
from tests import fake_provider

published = pytest.importorskip("elevenlabs.speech_engine.session")

RESPONSE = {"item_id": "i", "output_index": 0, "content_index": 0, "sequence_number": 1, "logprobs": []}
CHUNK = {"id": "c", "created": 1, "model": "m", "object": "chat.completion.chunk"}
EVENTS: dict[str, tuple[Callable[..., list[Any]], dict[str, Any]]] = {
    "chat": (fake_provider.openai_chat, {**CHUNK, "choices": [{"index": 0, "delta": {"content": "Hello"}}]}),
    "chat, not spoken": (fake_provider.openai_chat, {**CHUNK, "choices": [{"index": 0, "delta": {"refusal": "no"}}]}),
    "responses": (
        fake_provider.openai_responses,
        {"type": "response.output_text.delta", "delta": "Hello", **RESPONSE},
    ),
    "responses, not spoken": (
        fake_provider.openai_responses,
        {"type": "response.reasoning_text.delta", "delta": "hm", **RESPONSE},
    ),
    "anthropic": (
        fake_provider.anthropic_create,
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}},
    ),
    "anthropic, not spoken": (
        fake_provider.anthropic_create,
        {"type": "content_block_stop", "index": 0},
    ),
    "gemini": (
        fake_provider.gemini,
        {"candidates": [{"content": {"parts": [{"text": "Hello"}], "role": "model"}}]},
    ),
}
EXTRACTORS = {"ours": text_of, "published": published._extract_text}


@pytest.fixture(scope="module", params=EVENTS)
def event(request: pytest.FixtureRequest) -> tuple[Any, dict[str, Any]]:
    stream, fields = EVENTS[request.param]
    return stream([fields])[0], fields


@pytest.mark.parametrize("extractor", EXTRACTORS)
@pytest.mark.parametrize("form", ["object", "dict"])
def test_text_of_an_event(
    benchmark: BenchmarkFixture, event: tuple[Any, dict[str, Any]], form: str, extractor: str
) -> None:
    subject = event[form == "dict"]
    text = benchmark(EXTRACTORS[extractor], subject)
    assert text == text_of(subject)
