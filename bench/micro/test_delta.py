"""The text inside one LLM event: ours next to the published SDK's extractor.

The objects are those of the providers' packages. "Not spoken" is an event without text, for which a chain of
attribute probes runs to its end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.micro.material import EVENTS
from se_server.streams._delta import text_of
from tests.providers import replay

published = pytest.importorskip("elevenlabs.speech_engine.session")

RESPONSE = {"item_id": "i", "output_index": 0, "content_index": 0, "sequence_number": 1, "logprobs": []}
CHUNK = {"id": "c", "created": 1, "model": "m", "object": "chat.completion.chunk"}

Stream = Callable[..., list[Any]]
STREAMED: dict[str, tuple[str, Stream, dict[str, Any]]] = {
    "OpenAI chat": ("openai", replay.openai_chat, {**CHUNK, **EVENTS["openai-chat"]}),
    "OpenAI chat, not spoken": (
        *("openai", replay.openai_chat),
        {**CHUNK, "choices": [{"index": 0, "delta": {"refusal": "no"}}]},
    ),
    "OpenAI responses": ("openai", replay.openai_responses, {**RESPONSE, **EVENTS["openai-responses"]}),
    "OpenAI responses, not spoken": (
        *("openai", replay.openai_responses),
        {**RESPONSE, "type": "response.reasoning_text.delta", "delta": "hm"},
    ),
    "Anthropic": ("anthropic", replay.anthropic_create, EVENTS["anthropic"]),
    "Anthropic, not spoken": (
        *("anthropic", replay.anthropic_create),
        {"type": "content_block_stop", "index": 0},
    ),
    "Gemini": ("google.genai", replay.gemini, EVENTS["gemini"]),
}
EXTRACTORS: dict[str, Callable[[Any], str | None]] = {"ours": text_of, "published SDK": published._extract_text}


@pytest.fixture(scope="module", params=STREAMED)
def event(request: pytest.FixtureRequest) -> tuple[str, Any, dict[str, Any]]:
    package, stream, fields = STREAMED[request.param]
    pytest.importorskip(package)
    return request.param, stream([fields])[0], fields


@pytest.mark.parametrize("extractor", EXTRACTORS)
@pytest.mark.parametrize("form", ["object", "dict"])
def test_text_of_an_event(
    benchmark: BenchmarkFixture, event: tuple[str, Any, dict[str, Any]], form: str, extractor: str
) -> None:
    name, as_object, as_dict = event
    benchmark.group = f"delta: {name}, {form}"
    subject = as_object if form == "object" else as_dict
    assert text_of(subject) == published._extract_text(subject) == (None if "not spoken" in name else "Hello")
    benchmark(EXTRACTORS[extractor], subject)
