"""The throughput smoke benchmark: what a turn costs the published SDK's server and what it costs ours, in one run.

`python -m bench.smoke [--quick]`. Exit code 0: every target met; 1: one missed; 2: could not be measured.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version

from bench.kernel import (
    BenchError,
    Cores,
    Load,
    Sample,
    Server,
    Spread,
    Target,
    interleave,
    measure,
    pick_cores,
    running,
)
from bench.load.conversations import Scenario
from bench.load.targets import API_KEY, TARGETS

OURS = "se-server"
PUBLISHED = ("published SDK, asyncio", "published SDK, uvloop")
"""The same server on two loops; the one that is cheaper in a scenario is what we compare with."""

WANTED_RATIOS: Mapping[Scenario, float | None] = {
    Scenario(chunks=1, history=4): None,
    Scenario(chunks=1, history=100): 8.0,
    Scenario(chunks=32, history=4): 20.0,
    Scenario(chunks=32, history=100): 20.0,
}

OTHERS_LIMIT = 0.1

Samples = Mapping[tuple[str, Scenario], Sequence[Sample]]


@dataclass(frozen=True, slots=True)
class Effort:
    """How much to measure; a sample ends after `measured_s` or `max_turns`, whichever is first."""

    repetitions: int
    warm_up_s: float
    measured_s: float
    max_turns: int = 200_000


FULL = Effort(repetitions=5, warm_up_s=0.5, measured_s=2.0)
QUICK = Effort(repetitions=3, warm_up_s=0.2, measured_s=0.4)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; `CPU microseconds per turn`, and their ratio."""

    scenario: Scenario
    peer: str
    theirs: Spread
    ours: Spread
    wanted: float | None

    @property
    def ratio(self) -> float:
        return self.theirs.median / self.ours.median

    @property
    def met(self) -> bool:
        return self.wanted is None or self.ratio >= self.wanted


def take_sample(server: Server, scenario: Scenario, effort: Effort, cores: Cores) -> Sample:
    """Connect the conversations, warm up, measure."""
    command = [sys.executable, "-m", "bench.load.generator", server.url, *scenario.options()]
    with Load(command, cores.load, {"ELEVENLABS_API_KEY": API_KEY}) as load:
        load.run(effort.warm_up_s, effort.max_turns)
        return measure(server, load, core=cores.server, seconds=effort.measured_s, turns=effort.max_turns)


def take_samples(targets: Sequence[Target], effort: Effort, cores: Cores) -> Samples:
    """Measure every scenario on every target, in each repetition on a fresh server process."""

    def visit(target: Target, repetition: int) -> dict[Scenario, Sample]:
        print(f"  {repetition + 1}/{effort.repetitions} {target.name}", file=sys.stderr, flush=True)
        with running(target, cores.server) as server:
            return {scenario: take_sample(server, scenario, effort, cores) for scenario in WANTED_RATIOS}

    samples: dict[tuple[str, Scenario], list[Sample]] = defaultdict(list)
    for target, by_scenario in interleave(targets, effort.repetitions, visit):
        for scenario, sample in by_scenario.items():
            samples[target.name, scenario].append(sample)
    return samples


def compare(samples: Samples) -> list[Row]:
    """Compare us, scenario by scenario, with the published SDK at its best."""

    def cost(name: str, scenario: Scenario) -> Spread:
        return Spread.of([sample.cpu_us_per_turn for sample in samples[name, scenario]])

    rows = []
    for scenario, wanted in WANTED_RATIOS.items():
        peer = min(PUBLISHED, key=lambda name: cost(name, scenario).median)
        rows.append(Row(scenario, peer, cost(peer, scenario), cost(OURS, scenario), wanted))
    return rows


def print_report(rows: Sequence[Row], samples: Samples) -> None:
    """Print the comparison, then what tells whether to believe it."""
    print("\nCPU us per turn, median (min-max)")
    print(f"{'':<24} {'published SDK':>35} {'se-server':>22} {'ratio':>7} {'target':>7}")
    for row in rows:
        wanted, verdict = ("-", "") if row.wanted is None else (f">= {row.wanted:.0f}", "pass" if row.met else "MISSED")
        theirs = f"{row.theirs} {row.peer.rpartition(' ')[2]}"
        print(f"{row.scenario!s:<24} {theirs:>35} {row.ours!s:>22} {row.ratio:>7.1f} {wanted:>7} {verdict}")

    print(f"\n{'medians':<26} {'scenario':<24} {'us/turn':>8} {'turns/s':>8} {'server busy':>12} {'load busy':>10}")
    for (name, scenario), taken in samples.items():
        middle = [Spread.of(figures).median for figures in zip(*map(_columns, taken), strict=True)]
        cost, turns_per_s, server_busy, load_busy = middle
        print(f"{name:<26} {scenario!s:<24} {cost:>8.1f} {turns_per_s:>8.0f} {server_busy:>12.0%} {load_busy:>10.0%}")

    worst = max(sample.others for taken in samples.values() for sample in taken)
    if worst > OTHERS_LIMIT:
        print(f"\nThe machine was not calm: something else ran on the server's core for {worst:.0%} of a sample.")


def _columns(sample: Sample) -> tuple[float, float, float, float]:
    return sample.cpu_us_per_turn, sample.turns_per_s, sample.server_busy, sample.load_busy


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.smoke", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="3 short repetitions, under a minute; rougher figures")
    effort = QUICK if parser.parse_args(arguments).quick else FULL
    try:
        cores = pick_cores()
        packages = ", ".join(f"{name} {version(name)}" for name in ("elevenlabs", "websockets", "uvloop", "picows"))
        print(f"Python {platform.python_version()}, {packages}; {os.cpu_count()} cores, Linux {platform.release()}")
        samples = take_samples([TARGETS[name] for name in (*PUBLISHED, OURS)], effort, cores)
    except BenchError as error:
        print(f"No measurement: {error}", file=sys.stderr)
        return 2
    rows = compare(samples)
    print_report(rows, samples)
    return 0 if all(row.met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
