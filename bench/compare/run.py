"""Measures every server in every scenario, in turns, each time on a fresh process.

A repetition has three parts, each on servers started for it: conversations that are opened and held, the open loop, and
the closed loops. In each part the servers follow one another, in every other repetition backwards.
"""

from __future__ import annotations

import asyncio
import dataclasses
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from bench.compare.llm import take_calls
from bench.compare.machine import machine, versions
from bench.compare.results import Figures, Results
from bench.compare.scenarios import GROWS_TO, PACED, Entrant, Kind, Scenario
from bench.compare.starts import STARTS_S, take_starts
from bench.compare.visits import FULL, QUICK, START_S, Effort, Visit, seconds, seconds_needed, visits
from bench.kernel import SETTLE_S, BenchError, Cores, Server, Target, connect, in_turn, measure, memory_of, running
from bench.load.targets import API_KEY, TARGETS, certificate
from bench.load.targets.handler import WORDS
from bench.load.targets.llm import need_package
from se_server.errors import LoadError
from se_server.load import Histogram, LoadPlan, LoadProcess

__all__ = ["FULL", "QUICK", "Effort", "Progress", "compare", "seconds_needed"]

MAX_TURNS = 1_000_000
HELD_TIMEOUT_S = 20.0
SHARES = (*(n / 100 for n in range(1, 99)), *(1 - 0.01 * 0.8**n for n in range(16)), 1.0)
"""The shares of turns at which the latency's distribution is read, closer together towards its end."""
Progress = Callable[[str, float], None]
"""Called with a description of the next step and its estimated seconds."""


def _target(visit: Visit) -> Target:
    """Return the target of a visit, whose handler makes chunks of the size of its scenarios."""
    target = TARGETS[visit.name]
    size = visit.scenarios[0].chunk_bytes
    return dataclasses.replace(target, environment={**target.environment, "BENCH_CHUNK_BYTES": str(size)})


def compare(
    lineup: Sequence[Entrant], wanted: Sequence[str], effort: Effort, cores: Cores, progress: Progress
) -> Results:
    """Measure, and return the results; their notes name the figures that are missing.

    A run that is stopped, by Ctrl-C or SIGTERM, keeps its figures.

    Args:
        lineup: the servers; those that cannot run here are left out.
        wanted: names of scenarios.
        progress: called before each step.
    """
    began_s = time.monotonic()
    results = Results(
        made=time.strftime("%Y-%m-%d"), machine=machine(), versions=versions(), effort=dataclasses.asdict(effort)
    )
    taker = _Taker(results, effort, cores, progress)
    there = [entrant for entrant in lineup if taker.is_there(entrant)]
    try:
        for repetition in range(effort.repetitions):
            for part in visits(there, wanted):
                for visit in in_turn(part, repetition):
                    if not visit.is_skipped(repetition, effort):
                        taker.take_any(visit, repetition)
    except (KeyboardInterrupt, SystemExit):  # what was measured may have taken half an hour
        results.notes.append("The run was stopped before its end.")
    results.curves = {
        name: [(share, histogram.percentile(share * 100)) for share in SHARES]
        for name, histogram in taker.first_chunks.items()
    }
    results.took_s = time.monotonic() - began_s
    return results


class _Taker:
    """Takes one figure after another, and continues after a failed one.

    Attributes:
        first_chunks: latency in the open loop, by server, over all repetitions.
    """

    def __init__(self, results: Results, effort: Effort, cores: Cores, progress: Progress) -> None:
        self.first_chunks: dict[str, Histogram] = {}
        self._results = results
        self._effort = effort
        self._cores = cores
        self._progress = progress
        self._broken: set[str] = set()
        self._packages: set[str] = set()

    def is_there(self, entrant: Entrant) -> bool:
        """Return whether a server can run here; if not, note the reason."""
        why_not = TARGETS[entrant.name].unavailable()
        if why_not is not None:
            self._results.notes.append(why_not)
        return why_not is None

    def take_any(self, visit: Visit, repetition: int) -> None:
        """Take a server through the scenarios of a visit."""
        if visit.is_llm:
            self.take_llm(visit, repetition)
        elif visit.scenarios[0].kind is Kind.START:
            self.take_starts(visit, repetition)
        else:
            self.take(visit, repetition)

    def take_llm(self, visit: Visit, repetition: int) -> None:
        """Take the calls of a server with an LLM package, unless this repetition has none."""
        (scenario,) = visit.scenarios
        place = f"{visit.name}, {scenario.title}"
        if repetition >= self._effort.llm.repetitions or place in self._broken:
            return
        try:
            if scenario.package not in self._packages:
                need_package(scenario.package)
                self._packages.add(scenario.package)
        except BenchError as error:
            self._broken |= {f"{name}, {scenario.title}" for name in TARGETS}
            self._results.notes.append(f"{scenario.title} is left out: {error}")
            return
        what = f"{repetition + 1}/{self._effort.repetitions} {visit.name}: {scenario.title}"
        self._progress(what, self._effort.llm.seconds(repetition))
        try:
            values = take_calls(visit.name, scenario.package, self._cores, self._effort.llm, repetition)
        except (BenchError, asyncio.TimeoutError) as error:
            self._broken.add(place)
            self._results.notes.append(f"{place}: no figure from repetition {repetition + 1} on: {error}")
        else:
            self._results.figures.append(Figures(visit.name, scenario.name, repetition, values))

    def take_starts(self, visit: Visit, repetition: int) -> None:
        """Take the times of a server's starts."""
        self._progress(f"{repetition + 1}/{self._effort.repetitions} {visit.name}: starts", STARTS_S)
        (scenario,) = visit.scenarios
        try:
            values = take_starts(TARGETS[visit.name], self._cores.server)
        except (BenchError, OSError, ValueError, subprocess.SubprocessError) as error:
            self._note_failure(visit, repetition, [], error)
        else:
            self._results.figures.append(Figures(visit.name, scenario.name, repetition, values))

    def take(self, visit: Visit, repetition: int) -> None:
        """Take a server through its scenarios; one that goes wrong costs its own figure and a new process."""
        left = list(visit.scenarios)
        while left and visit.name not in self._broken:
            self._progress(
                f"{repetition + 1}/{self._effort.repetitions} {visit.name}", START_S + self._effort.first_warm_up_s
            )
            try:
                with running(_target(visit), self._cores.server) as server:
                    while left:
                        scenario = left.pop(0)
                        what = f"{repetition + 1}/{self._effort.repetitions} {visit.name}: {scenario.title}"
                        self._progress(what, seconds(visit.name, scenario, self._effort))
                        is_first = len(left) == len(visit.scenarios) - 1
                        warm_up_s = self._effort.first_warm_up_s if is_first else self._effort.warm_up_s
                        values = self._measure(server, scenario, warm_up_s)
                        self._results.figures.append(Figures(visit.name, scenario.name, repetition, values))
            except (BenchError, LoadError) as error:
                self._note_failure(visit, repetition, left, error)

    def _note_failure(self, visit: Visit, repetition: int, left: Sequence[Scenario], error: Exception) -> None:
        if len(left) == len(visit.scenarios):
            self._broken.add(visit.name)
            self._results.notes.append(f"{visit.name} is left out from repetition {repetition + 1} on: {error}")
        else:
            failed = visit.scenarios[len(visit.scenarios) - len(left) - 1]
            self._results.notes.append(
                f"{visit.name}, {failed.title}: no figure in repetition {repetition + 1}: {error}"
            )

    def _measure(self, server: Server, scenario: Scenario, warm_up_s: float) -> dict[str, float]:
        if scenario.kind is Kind.CONNECTIONS:
            return self._connections(server, scenario, warm_up_s)
        with self._load(server, scenario, scenario.conversations) as load:
            connect(load)
            load.run(warm_up_s, MAX_TURNS)
            measured_s = self._effort.schedule_s if scenario.kind is Kind.SCHEDULE else self._effort.measured_s
            sample = measure(server, load, core=self._cores.server, seconds=measured_s, turns=MAX_TURNS)
        if scenario.kind is Kind.SCHEDULE:
            so_far = self.first_chunks.setdefault(server.target.name, Histogram())
            so_far.merge(sample.first_chunk)
        return {
            "cpu_us_per_turn": sample.cpu_us_per_turn,
            "cpu_us_per_chunk": sample.cpu_us_per_turn / scenario.chunks,
            "turns": sample.turns,
            "turns_per_s": sample.turns_per_s,
            "first_p50_s": sample.first_chunk.percentile(50),
            "first_p99_s": sample.first_chunk.percentile(99),
            "final_p50_s": sample.final.percentile(50),
            "final_p99_s": sample.final.percentile(99),
            "server_busy": sample.server_busy,
            "load_busy": sample.load_busy,
            "others": sample.others,
        }

    def _connections(self, server: Server, scenario: Scenario, warm_up_s: float) -> dict[str, float]:
        """Open conversations group by group, each with one turn; memory is counted from the first group on."""
        values: dict[str, float] = {}
        held, opened, ran_ns, connect_s = 0, 0, 0, 0.0
        with ExitStack() as stack:
            for number in self._effort.held:
                load = stack.enter_context(self._load(server, scenario, number))
                before = server.cpu()
                connected = connect(load)
                time.sleep(SETTLE_S)
                if held:
                    opened += number
                    ran_ns += server.cpu().since(before)
                    connect_s += connected.seconds
                else:
                    # The pools and the allocator reach their size, so that only conversations add memory from here on.
                    load.run(warm_up_s, MAX_TURNS)
                load.run(HELD_TIMEOUT_S, turns=number)
                time.sleep(SETTLE_S)
                held += number
                values[f"memory_bytes_at_{held}"] = float(memory_of(server.pid))
        first = self._effort.held[0]
        values["bytes_per_conversation"] = (
            values[f"memory_bytes_at_{held}"] - values[f"memory_bytes_at_{first}"]
        ) / opened
        values["handshake_us"] = ran_ns / 1e3 / opened
        values["handshakes_per_s"] = opened / connect_s
        return values

    def _load(self, server: Server, scenario: Scenario, conversations: int) -> LoadProcess:
        plan = LoadPlan(
            url=server.url,
            api_key=API_KEY,
            conversations=conversations,
            turns_per_s=scenario.turns_per_s,
            spins=scenario.kind is Kind.SCHEDULE,  # it has its core for itself
            history=scenario.history,
            max_history=GROWS_TO,
            is_staggered=True,
            resend_after_s=None,
            chunks=scenario.chunks,
            pause=scenario.trickles,
            expected_words=tuple(word.ljust(scenario.chunk_bytes, ".") for word in WORDS),
            may_join=server.target.name == PACED,
            cafile=str(certificate.CA) if server.target.tls else None,
        )
        return LoadProcess(plan, core=self._cores.load)
