"""The plan of a comparison: the visits of a repetition, each to a fresh process of a server, and their duration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.compare.llm import LlmEffort
from bench.compare.scenarios import LLM, SCENARIOS, TLS, Entrant, Kind, Scenario
from bench.compare.starts import STARTS_S

__all__ = ["FULL", "QUICK", "START_S", "Effort", "Visit", "seconds", "seconds_needed", "visits"]

START_S, AROUND_S, CONNECT_S, CONNECT_TLS_S = 0.9, 0.5, 1.5, 4.0
"""Estimates of a start, the time around a measurement, and a thousand conversations; for the time left."""

ORDER = (Kind.START, Kind.CONNECTIONS, Kind.SCHEDULE, Kind.TURNS, Kind.LLM)


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """The number and length of the measurements.

    Attributes:
        first_warm_up_s: on a fresh process, whose compiler and caches may be cold; later ones are shorter.
        held: the conversations that are opened one group after another, and kept.
        few: the repetitions of servers that are aside, and of scenarios about which no target is, at most.
    """

    repetitions: int
    first_warm_up_s: float
    warm_up_s: float
    measured_s: float
    schedule_s: float
    held: tuple[int, ...]
    llm: LlmEffort
    few: int
    is_quick: bool


FULL = Effort(
    repetitions=5,
    first_warm_up_s=2.0,
    warm_up_s=0.4,
    measured_s=1.5,
    schedule_s=6.0,
    held=(200, 500, 500, 1000),
    llm=LlmEffort(repetitions=3, searches=1),
    few=2,
    is_quick=False,
)
QUICK = Effort(
    repetitions=3,
    first_warm_up_s=0.8,
    warm_up_s=0.15,
    measured_s=0.4,
    schedule_s=2.5,
    held=(200, 800),
    llm=LlmEffort(repetitions=1, searches=0, window_s=1.5),
    few=1,
    is_quick=True,
)


@dataclass(frozen=True, slots=True)
class Visit:
    """A fresh process of one server, and its scenarios."""

    entrant: Entrant
    scenarios: tuple[Scenario, ...]

    @property
    def name(self) -> str:
        return self.entrant.name

    @property
    def is_llm(self) -> bool:
        """Whether it needs an LLM package."""
        return self.scenarios[0].kind is Kind.LLM

    def is_skipped(self, repetition: int, effort: Effort) -> bool:
        """Whether a repetition goes without it."""
        return repetition >= effort.few and (self.entrant.is_aside or self.scenarios[0].is_aside)


def _process_of(scenario: Scenario) -> tuple[object, ...]:
    """Return what scenarios on one process have in common."""
    return scenario.kind, scenario.chunk_bytes, scenario.is_aside


def visits(lineup: Sequence[Entrant], wanted: Sequence[str]) -> list[list[Visit]]:
    """Return the parts of a repetition; a server's process has one LLM package, or one size of chunks."""
    parts = []
    for name in LLM:
        if name in wanted:
            parts.append([Visit(entrant, (SCENARIOS[name],)) for entrant in lineup if name in entrant.scenarios])
    others = [SCENARIOS[name] for name in wanted if name not in LLM]
    keys = dict.fromkeys(_process_of(scenario) for scenario in sorted(others, key=lambda each: ORDER.index(each.kind)))
    for key in keys:
        part = []
        for entrant in lineup:
            scenarios = (SCENARIOS[name] for name in entrant.scenarios if name in wanted)
            found = tuple(each for each in scenarios if _process_of(each) == key)
            if found:
                part.append(Visit(entrant, found))
        parts.append(part)
    return parts


def seconds(name: str, scenario: Scenario, effort: Effort) -> float:
    """Return the estimated seconds of a server's scenario."""
    connect_s = CONNECT_TLS_S if name.endswith(TLS) else CONNECT_S
    if scenario.kind is Kind.START:
        return STARTS_S
    if scenario.kind is Kind.CONNECTIONS:
        return sum(effort.held) / 1000 * connect_s
    measured_s = effort.schedule_s if scenario.kind is Kind.SCHEDULE else effort.measured_s
    return AROUND_S + effort.warm_up_s + measured_s + scenario.conversations / 1000 * connect_s


def seconds_needed(lineup: Sequence[Entrant], wanted: Sequence[str], effort: Effort) -> float:
    """Return the estimated seconds of a comparison."""
    needed_s = 0.0
    for repetition in range(effort.repetitions):
        for part in visits(lineup, wanted):
            for visit in part:
                if visit.is_skipped(repetition, effort):
                    continue
                if visit.is_llm:
                    needed_s += effort.llm.seconds(repetition)
                else:
                    needed_s += START_S + effort.first_warm_up_s
                    needed_s += sum(seconds(visit.name, scenario, effort) for scenario in visit.scenarios)
    return needed_s
