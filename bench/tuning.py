"""Finds the best setting of each peer: the cost of a turn at several settings, in one run.

`python -m bench.tuning [PEER...]`. bench/README.md has the findings, and `bench/load/targets` uses them.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping

from bench.compare.scenarios import GROWS_TO, SCENARIOS
from bench.kernel import BenchError, Cores, Spread, Target, connect, interleave, measure, pick_cores, running
from bench.load.targets import API_KEY, GRANIAN, JAVASCRIPT, UVICORN
from bench.load.targets.handler import WORDS
from se_server.load import LoadPlan, LoadProcess

ASKED = [SCENARIOS[name] for name in ("one", "one-growing", "burst", "trickle")]
REPETITIONS = 3
WARM_UP_S, MEASURED_S = 1.0, 1.0


def _with(target: Target, *options: str, at: int | None = None, **environment: str) -> Target:
    """Return a target named after further options, which go to the end of its command or to the place `at`."""
    place = len(target.command) if at is None else at
    return dataclasses.replace(
        target,
        name=" ".join((*options, *(f"{key}={value}" for key, value in environment.items()))) or "as compared",
        command=(*target.command[:place], *options, *target.command[place:]),
        environment={**target.environment, **environment},
    )


def _uvicorn() -> Iterator[Target]:
    yield _with(UVICORN)
    yield _with(UVICORN, "--ws", "websockets")
    yield _with(UVICORN, "--ws", "wsproto")
    yield _with(UVICORN, "--loop", "asyncio")


def _granian() -> Iterator[Target]:
    yield _with(GRANIAN)
    yield _with(GRANIAN, "--runtime-mode", "st")
    yield _with(GRANIAN, "--task-impl", "rust")
    yield _with(GRANIAN, "--loop", "asyncio")


def _javascript() -> Iterator[Target]:
    yield _with(JAVASCRIPT)
    yield _with(JAVASCRIPT, WS_NO_BUFFER_UTIL="1")
    yield _with(JAVASCRIPT, "--max-semi-space-size=64", at=1)
    yield _with(JAVASCRIPT, "--single-threaded", at=1)


PEERS: Mapping[str, tuple[Target, ...]] = {
    "uvicorn": tuple(_uvicorn()),
    "granian": tuple(_granian()),
    "javascript": tuple(_javascript()),
}


def tune(targets: tuple[Target, ...], cores: Cores) -> None:
    """Measure one peer at its settings, and print a line for each."""

    def visit(target: Target, repetition: int) -> list[float]:
        taken = []
        with running(target, cores.server) as server:
            for scenario in ASKED:
                plan = LoadPlan(
                    url=server.url,
                    api_key=API_KEY,
                    conversations=scenario.conversations,
                    history=scenario.history,
                    max_history=GROWS_TO,
                    is_staggered=True,
                    resend_after_s=None,
                    chunks=scenario.chunks,
                    pause=scenario.trickles,
                    expected_words=WORDS,
                )
                with LoadProcess(plan, core=cores.load) as load:
                    connect(load)
                    load.run(WARM_UP_S)
                    taken.append(measure(server, load, core=cores.server, seconds=MEASURED_S).cpu_us_per_turn)
        return taken

    figures: dict[str, list[list[float]]] = defaultdict(list)
    for target, taken in interleave(targets, REPETITIONS, visit):
        figures[target.name].append(taken)
    for name, repeated in figures.items():
        _print_row(name, *(str(Spread.of(column)) for column in zip(*repeated, strict=True)))


def _print_row(*cells: str) -> None:
    print(f"| {' | '.join(cells)} |", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.tuning", description=__doc__)
    parser.add_argument("peer", nargs="*", help=f"of {', '.join(PEERS)}; all of them by default")
    peers = parser.parse_args().peer or list(PEERS)
    if unknown := [peer for peer in peers if peer not in PEERS]:
        parser.error(f"there is no peer {unknown[0]!r}; there are {', '.join(PEERS)}")
    try:
        cores = pick_cores()
        for peer in peers:
            _print_row(peer, *(scenario.title for scenario in ASKED))
            _print_row(*["---"] * (len(ASKED) + 1))
            tune(PEERS[peer], cores)
    except BenchError as error:
        print(f"No measurement: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
