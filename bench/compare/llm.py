"""Calls with an LLM behind the server: what a token and a call cost, and how many conversations a core carries."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial

import uvloop

from bench.carried import MOST, Serve, hold_on, search
from bench.kernel import Cores
from bench.load.llm_calls import hold_calls
from bench.load.llm_provider import TOKENS_PER_S, LightProvider
from bench.load.targets.llm import serving_llm

__all__ = ["CONVERSATIONS", "LlmEffort", "take_calls"]

CONVERSATIONS = 40
"""Those that hear tokens while they are counted."""
SETTLE_S = 0.4
"""Conversations that hung up are forgotten before calls begin; the last answer's task ends after the calls."""
FIRST_SHARE = 0.95
"""The first number of conversations to try would keep the core this busy."""
VISIT_S, SEARCH_S = 10.5, 45.0
"""Estimates of a start, the conversations and the calls, without the window; and of a search."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmEffort:
    """The number and length of the measurements with an LLM package.

    Attributes:
        repetitions: those of the comparison that measure tokens and calls.
        searches: those that search for the conversations of a core.
        window_s: the seconds in which tokens are counted.
        calls: the number of calls at a time.
        most: the most conversations that are tried.
    """

    repetitions: int
    searches: int
    window_s: float = 3.0
    calls: int = 20
    most: int = MOST

    def seconds(self, repetition: int) -> float:
        """Return the estimated seconds of a server in a repetition."""
        if repetition >= self.repetitions:
            return 0.0
        return VISIT_S + self.window_s + (SEARCH_S if repetition < self.searches else 0.0)


def take_calls(name: str, package: str, cores: Cores, effort: LlmEffort, repetition: int) -> dict[str, float]:
    """Measure a server with an LLM package.

    Raises:
        BenchError: an answer was wrong, or a conversation was refused or cut.
        asyncio.TimeoutError: an answer did not come.
    """
    serve = partial(serving_llm, name, package, cores.server)
    values = uvloop.run(_tokens_and_calls(serve, effort))
    if repetition < effort.searches:
        first = int(FIRST_SHARE * 1e6 / (values["us_per_token"] * TOKENS_PER_S))
        found = search(serve, first=max(first, 10), most=effort.most, window_s=effort.window_s)
        values["conversations"] = float(found.conversations)
    return values


async def _tokens_and_calls(serve: Serve, effort: LlmEffort) -> dict[str, float]:
    provider = LightProvider()
    await provider.open()
    try:
        with serve(provider.base_url) as server:
            held = await hold_on(server, provider, CONVERSATIONS, effort.window_s)
            await asyncio.sleep(SETTLE_S)
            before = server.cpu()
            tokens = await hold_calls(server, effort.calls)
            await asyncio.sleep(SETTLE_S)
            ran_ns = server.cpu().since(before)
    finally:
        provider.close()
    return {
        "us_per_token": held.us_per_token,
        "delay_p99_s": held.p99_s,
        "us_per_call": ran_ns / 1e3 / effort.calls,
        "tokens_per_call": tokens / effort.calls,
        "server_busy": held.server_busy,
        "load_busy": held.load_busy,
    }
