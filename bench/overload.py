"""Twice as many callers as a server admits: running conversations must not notice.

`python -m bench.overload`: a server filled to `--max-sessions` with conversations that hold turns all the time. Then
the same number of callers try to connect, again and again. The p99 of the time to the first chunk of the running
conversations is measured before, during and after, five times in turn. In the end half of them hang up, and others
take their seats. Callers share the machine's cores with the server, so they send raw bytes, at a fraction of the
server's cost: simulated callers would mostly wait for each other.

Exit code 0: during and after the rush the p99 is at most twice as high as before (medians), every refused caller got a
503, and all seats are taken in the end; 1: not so; 2: it could not be run.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from statistics import median

import uvloop

from bench.kernel import BenchError
from bench.load.serving import serving
from bench.load.talkers import RETRY_S, Crowd
from bench.load.targets import API_KEY

CAPACITY, WORKERS, RUNS, PHASE_S = 100, 2, 5, 4.0
MAX_RATIO = 2.0
SETTLE_TIMEOUT_S = 20.0
PATH = "/ws"


def _p99_s(crowd: Crowd, since: float, until: float) -> float:
    """Return the p99 of the time to the first chunk, over the turns that began in a span of time."""
    times = sorted(took_s for asked_at, took_s in crowd.first_chunks_s if since <= asked_at < until)
    if not times:
        raise BenchError("nobody was answered")
    return times[len(times) * 99 // 100]


async def _until_up(crowd: Crowd, count: int) -> None:
    try:
        await crowd.until_up(count, SETTLE_TIMEOUT_S)
    except asyncio.TimeoutError:
        raise BenchError(f"{crowd.up} conversations are up instead of {count}") from None


async def _ramp(crowd: Crowd, callers: int, ramp_s: float) -> None:
    """Add callers one after the other: if they started together, their turns would stay in step."""
    for _ in range(callers):
        crowd.come()
        await asyncio.sleep(ramp_s / callers)


async def _run(port: int, capacity: int, phase_s: float) -> tuple[Crowd, float, float, float]:
    """Return the crowd's observations, and the p99 before, during and after the rush."""
    crowd = Crowd(port, PATH, API_KEY)
    try:
        await _ramp(crowd, capacity, phase_s / 2)
        await _until_up(crowd, capacity)
        begun_at = time.monotonic()
        await asyncio.sleep(phase_s)
        rush_at = time.monotonic()
        await _ramp(crowd, capacity, phase_s / 2)
        await asyncio.sleep(phase_s / 2)
        over_at = time.monotonic()
        if crowd.up != capacity:
            raise BenchError(f"in the rush {crowd.up} conversations were up instead of {capacity}")
        crowd.let_leave(capacity // 2)
        await asyncio.sleep(RETRY_S)
        await _until_up(crowd, capacity)
        settled_at = time.monotonic()
        await asyncio.sleep(phase_s)
        before, during, after = (begun_at, rush_at), (rush_at, over_at), (settled_at, time.monotonic())
    finally:
        await crowd.go()
    return crowd, _p99_s(crowd, *before), _p99_s(crowd, *during), _p99_s(crowd, *after)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.overload", description=__doc__)
    parser.add_argument("--capacity", type=int, default=CAPACITY, help=f"conversations; default: {CAPACITY}")
    parser.add_argument("--workers", type=int, default=WORKERS, help=f"default: {WORKERS}")
    parser.add_argument("--runs", type=int, default=RUNS, help=f"default: {RUNS}")
    parser.add_argument("--phase-s", type=float, default=PHASE_S, help=f"seconds of each phase; default: {PHASE_S:g}")
    given = parser.parse_args(arguments)
    if min(given.capacity - 1, given.workers, given.runs) < 1 or not 0 < given.phase_s <= 60:
        parser.error("there must be two conversations, a worker, a run, and phases of at most 60 s")
    figures, faults = [], []
    try:
        with serving(
            "--path", "/ws", "--max-sessions", str(given.capacity), "--log-level", "error", workers=given.workers
        ) as service:
            print(f"{'before ms':>10} {'during ms':>10} {'after ms':>10} {'503':>6} {'other':>6} {'cut':>4}")
            port = int(service.url.partition("//")[2].partition("/")[0].rpartition(":")[2])
            for _ in range(given.runs):
                crowd, *p99_s = uvloop.run(_run(port, given.capacity, given.phase_s))
                refused = crowd.refusals["503"]
                others = crowd.refusals.total() - refused
                figures.append(p99_s)
                print(" ".join(f"{p99 * 1e3:>10.1f}" for p99 in p99_s) + f" {refused:>6} {others:>6} {crowd.cut:>4}")
                if others or crowd.cut or crowd.lost:
                    faults.append(
                        f"{crowd.cut} conversations cut, {crowd.lost} answers not whole, {others} callers refused"
                        f" otherwise than by 503: {', '.join(crowd.refusals)}"
                    )
                if not refused:
                    faults.append("nobody was refused")
    except BenchError as error:
        print(f"No figures: {error}", file=sys.stderr)
        return 2
    before, during, after = (median(column) for column in zip(*figures, strict=True))
    for name, p99 in (("during", during), ("after", after)):
        told = f"first chunk, p99: {name} the rush {p99 / before:.2f} times what it was before"
        print(told)
        if p99 > MAX_RATIO * before:
            faults.append(f"{told}, and at most {MAX_RATIO:g} is allowed")
    for fault in faults:
        print(f"MISSED: {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
