"""Calls with an LLM package behind them: their answers are checked, and each server has its figures."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

if sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2:
    pytest.skip("one core for the server, one for the load", allow_module_level=True)
pytest.importorskip("elevenlabs")

from bench.carried import Held, search
from bench.compare.llm import LlmEffort, take_calls
from bench.kernel import BenchError, Cores, Server
from bench.load.llm_calls import hold_calls
from bench.load.llm_provider import LightProvider
from bench.load.targets.llm import need_package, serving_llm

CORES = Cores(server=max(os.sched_getaffinity(0)), load=min(os.sched_getaffinity(0)))
TURNS, TOKENS = 3, 8


@pytest.fixture(autouse=True)
def calls_are_short(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("TURNS", TURNS), ("TOKENS", TOKENS), ("INTERRUPTED", (2,))):
        monkeypatch.setattr(f"bench.load.llm_calls.{name}", value)
    monkeypatch.setattr("bench.carried.SETTLE_S", 0.2)


@pytest.mark.parametrize(
    ("name", "package"),
    [("se-server", "openai"), ("se-server", "google-genai"), ("published SDK, uvloop", "anthropic")],
)
def test_a_call_hears_every_word(name: str, package: str) -> None:
    async def call() -> int:
        provider = LightProvider()
        await provider.open()
        try:
            with serving_llm(name, package, CORES.server, provider.base_url) as server:
                return await hold_calls(server, 2)
        finally:
            provider.close()

    pytest.importorskip({"google-genai": "google.genai"}.get(package, package))
    heard = TURNS * TOKENS - TOKENS // 2
    assert 2 * heard <= asyncio.run(call()) <= 2 * TURNS * TOKENS  # some words may pass the interruption


def test_a_wrong_answer_is_no_figure() -> None:
    async def call() -> None:
        provider = LightProvider()
        await provider.open()
        lost = provider.answer("/openai/v1/chat/completions")
        provider._answers["/openai/v1/chat/completions"] = dataclasses.replace(lost, tokens=(lost.tokens[0], b""))
        try:
            with serving_llm("se-server", "openai", CORES.server, provider.base_url) as server:
                await hold_calls(server, 1)
        finally:
            provider.close()

    pytest.importorskip("openai")
    with pytest.raises(BenchError, match="an answer of 8 words came as 'morning"):
        asyncio.run(call())


def test_the_figures_of_a_server_are_plausible() -> None:
    pytest.importorskip("openai")
    small = LlmEffort(repetitions=1, searches=0, window_s=0.6, calls=1)
    values = take_calls("se-server", "openai", CORES, small, 0)
    assert 5 < values["us_per_token"] < 2_000
    assert 1_000 < values["us_per_call"] < 1_000_000
    assert "conversations" not in values


@pytest.mark.parametrize(("limit", "found"), [(1_000, 960), (130, range(110, 131)), (0, range(10))])
def test_the_search_ends_near_the_limit(monkeypatch: pytest.MonkeyPatch, limit: int, found: int | range) -> None:
    @contextmanager
    def serve(base_url: Callable[[str], str]) -> Iterator[Server]:
        raise AssertionError("nothing is started")
        yield

    def try_out(serve: object, conversations: int, window_s: float) -> Held:
        return Held(
            conversations, 0.01 if conversations <= limit else 1.0, min(1.0, conversations / max(limit, 1)), 0.1
        )

    monkeypatch.setattr("bench.carried.try_out", try_out)
    carried = search(serve, first=40, most=960, window_s=1.0)
    assert carried.conversations in (found if isinstance(found, range) else (found,))
    assert len(carried.tries) < 12


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.load.targets.llm.find_spec", lambda module: None)
    with pytest.raises(BenchError, match=r"pip install '\.\[bench-llm\]' brings it"):
        need_package("anthropic")
