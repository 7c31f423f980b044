"""Which setting is best for each peer: what a turn costs it at each of several, in one run.

`python -m bench.tuning [PEER]`. What it finds stands in bench/README.md, and `bench/load/targets` starts the peers so.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping

from bench.kernel import BenchError, Cores, Load, Spread, Target, interleave, measure, pick_cores, running
from bench.load.conversations import Scenario
from bench.load.targets import API_KEY, GRANIAN, JAVASCRIPT, UVICORN

SCENARIOS = (
    Scenario(chunks=1, history=4),
    Scenario(chunks=1, history=100),
    Scenario(chunks=32, history=4),
    Scenario(chunks=32, history=4, trickle=1),
)
REPETITIONS = 3
# Long enough for V8 to compile what is hot.
WARM_UP_S, MEASURED_S = 1.0, 1.5
MAX_TURNS = 200_000


def _with(target: Target, *options: str, at: int | None = None, **environment: str) -> Target:
    """Return a target that is called by its options: behind the others, or at a place of its command."""
    place = len(target.command) if at is None else at
    command = (*target.command[:place], *options, *target.command[place:])
    name = " ".join((*options, *(f"{key}={value}" for key, value in environment.items()))) or "as we run it"
    return dataclasses.replace(target, name=name, command=command, environment={**target.environment, **environment})


def _uvicorn() -> Iterator[Target]:
    for websockets in ("websockets", "websockets-sansio", "wsproto"):
        yield _with(UVICORN, "--ws", websockets)
    yield _with(UVICORN, "--loop", "asyncio")


def _granian() -> Iterator[Target]:
    yield _with(GRANIAN)
    yield _with(GRANIAN, "--loop", "asyncio")
    yield _with(GRANIAN, "--runtime-mode", "mt")
    yield _with(GRANIAN, "--runtime-mode", "st")
    yield _with(GRANIAN, "--task-impl", "rust")


def _javascript() -> Iterator[Target]:
    yield _with(JAVASCRIPT)
    yield _with(JAVASCRIPT, WS_NO_BUFFER_UTIL="1")
    for option in ("--max-semi-space-size=16", "--max-semi-space-size=64", "--single-threaded"):
        yield _with(JAVASCRIPT, option, at=1)


PEERS: Mapping[str, tuple[Target, ...]] = {
    "uvicorn": tuple(_uvicorn()),
    "granian": tuple(_granian()),
    "javascript": tuple(_javascript()),
}


def tune(targets: tuple[Target, ...], cores: Cores) -> None:
    """Measure the settings of one peer, and print a line for each."""

    def visit(target: Target, repetition: int) -> list[float]:
        figures = []
        with running(target, cores.server) as server:
            for scenario in SCENARIOS:
                command = [sys.executable, "-m", "bench.load.generator", server.url, *scenario.options()]
                with Load(command, cores.load, {"ELEVENLABS_API_KEY": API_KEY}) as load:
                    load.run(WARM_UP_S, MAX_TURNS)
                    sample = measure(server, load, core=cores.server, seconds=MEASURED_S, turns=MAX_TURNS)
                figures.append(sample.cpu_us_per_turn)
        return figures

    figures: dict[str, list[list[float]]] = defaultdict(list)
    for target, taken in interleave(targets, REPETITIONS, visit):
        figures[target.name].append(taken)
    for name, repeated in figures.items():
        print(f"{name:<32}", *(f"{Spread.of(column)!s:>24}" for column in zip(*repeated, strict=True)), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.tuning", description=__doc__)
    parser.add_argument("peer", nargs="*", choices=[*PEERS, []], help="which peers; all when none is named")
    peers = parser.parse_args().peer or list(PEERS)
    try:
        cores = pick_cores()
        print(f"{'CPU us per turn':<32}", *(f"{scenario!s:>24}" for scenario in SCENARIOS))
        for peer in peers:
            print(f"{peer}:")
            tune(PEERS[peer], cores)
    except BenchError as error:
        print(f"No measurement: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
