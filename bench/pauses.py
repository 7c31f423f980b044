"""Pauses of the garbage collector in a worker with many conversations: with Python's setting, and as shipped.

`python -m bench.pauses`: two minutes. Conversations connect and hold turns at a steady rate, each for some 20 s, then
another one takes its place. The worker itself records the start, duration and generation of each collection. The two
settings are interleaved, each time on a fresh server.

Exit code 0: measured; 2: it could not be run.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

from bench.kernel import BenchError, Cores, Target, interleave, pick_cores, running
from bench.load.targets import API_KEY
from bench.load.targets.collector_target import WAYS
from se_server.errors import ConfigError, LoadError
from se_server.load.plan import LoadPlan
from se_server.load.process import LoadProcess
from se_server.telemetry._histogram import Histogram

__all__ = ["Pauses", "main", "measure", "print_table", "target_of"]

CONVERSATIONS, TURNS_PER_S, SECONDS, REPETITIONS = 5_000, 400.0, 20.0, 2
COMING_PER_S = 1_000.0
CHUNKS, HISTORY, CALL_S = 8, 20, 20.0
HANDLER = Path(__file__).parent / "load" / "targets" / "pausing_handler.py"
MS = 1e3


@dataclass(slots=True)
class Pauses:
    """The cost of one setting of the collector, over all repetitions.

    Attributes:
        coming, holding: seconds of each collection by generation, while conversations connect and hold turns.
        came_s, held_s: the duration of each phase.
        first_chunk: the callers' wait for the first chunk.
    """

    coming: dict[int, list[float]] = field(default_factory=dict)
    holding: dict[int, list[float]] = field(default_factory=dict)
    came_s: float = 0.0
    held_s: float = 0.0
    first_chunk: Histogram = field(default_factory=Histogram)


def target_of(way: str) -> Target:
    """Return the server with this setting of the collector."""
    return Target(
        name=way,
        command=(
            *(sys.executable, "-m", "bench.load.targets.collector_target", way, str(HANDLER)),
            *("--workers", "1", "--host", "127.0.0.1", "--port", "0", "--path", "/ws", "--log-level", "error"),
        ),
        ready=r"ready: ws://[^ ]*:(?P<port>\d+)",
        environment={"ELEVENLABS_API_KEY": API_KEY},
    )


def measure(target: Target, cores: Cores, plan: LoadPlan, seconds: float, pauses: Pauses) -> None:
    """Hold the conversations of a plan with a fresh server, and add its collections to the pauses.

    Raises:
        BenchError: the server did not start, or answered wrongly.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "pauses.json")
        target = replace(target, environment={**target.environment, "PAUSES_TO": str(file)})
        with running(target, cores.server) as server:
            plan = replace(plan, url=f"ws://127.0.0.1:{server.port}/ws")
            with LoadProcess(plan, core=cores.load) as load:
                came_at = time.monotonic()
                connected = load.connect(per_s=COMING_PER_S)
                held_at = time.monotonic()
                run = load.run(seconds)
                ended_at = time.monotonic()
        faults = [*connected.failures, *run.failures]
        if faults or not file.exists():
            raise BenchError(f"with the {target.name} collector: {'; '.join(faults[:3]) or 'the worker wrote nothing'}")
        for at, took_s, generation in json.loads(file.read_text()):
            if came_at <= at < ended_at:
                phase = pauses.coming if at < held_at else pauses.holding
                phase.setdefault(generation, []).append(took_s)
    pauses.came_s += held_at - came_at
    pauses.held_s += ended_at - held_at
    pauses.first_chunk.merge(run.first_chunk)


def print_table(by_way: Mapping[str, Pauses]) -> None:
    """Print the collections of each setting, and its callers' latencies."""
    print("| collector | while conversations | generation | collections | share of time | median | longest |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for way, pauses in by_way.items():
        phases = (("come", pauses.coming, pauses.came_s), ("hold turns", pauses.holding, pauses.held_s))
        for phase, generations, lasted_s in phases:
            for generation in range(3):
                times = generations.get(generation, [])
                row = f"| {way} | {phase} | {generation} | {len(times):,} | {sum(times) / lasted_s:.2%} |"
                print(row, f"{median(times) * MS:.2f} ms | {max(times) * MS:.2f} ms |" if times else "| |")
    print("\n| collector | turns | first chunk, p50 | p99 | p99.9 | longest |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for way, pauses in by_way.items():
        waits = pauses.first_chunk
        figures = [*map(waits.percentile, (50, 99, 99.9)), waits.max_s]
        print(f"| {way} | {waits.count:,} | {' | '.join(f'{wait * MS:.2f} ms' for wait in figures)} |")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.pauses", description=__doc__)
    parser.add_argument("--conversations", type=int, default=CONVERSATIONS, help=f"default: {CONVERSATIONS:,}")
    parser.add_argument("--turns-per-s", type=float, default=TURNS_PER_S, help=f"default: {TURNS_PER_S:g}")
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"of turns; default: {SECONDS:g}")
    parser.add_argument("--repetitions", type=int, default=REPETITIONS, help=f"default: {REPETITIONS}")
    given = parser.parse_args(arguments)
    by_way = {way: Pauses() for way in WAYS}
    try:
        cores = pick_cores()
        plan = LoadPlan(
            url="ws://127.0.0.1",
            api_key=API_KEY,
            conversations=given.conversations,
            turns_per_s=given.turns_per_s,
            chunks=CHUNKS,
            history=HISTORY,
            call_s=CALL_S,
        )

        def visit(target: Target, _: int) -> None:
            measure(target, cores, plan, given.seconds, by_way[target.name])

        for _ in interleave([target_of(way) for way in WAYS], given.repetitions, visit):
            pass
    except (BenchError, ConfigError, LoadError) as error:
        print(f"No pauses measured: {error}", file=sys.stderr)
        return 2
    print(f"{given.conversations:,} conversations on one worker, {given.turns_per_s:g} turns a second\n")
    print_table(by_way)
    return 0


if __name__ == "__main__":
    sys.exit(main())
