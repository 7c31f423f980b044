"""Twice as many callers as a server takes on: those who are up must not notice.

`python -m bench.overload`: a server with `--max-sessions` at its capacity, full of conversations that talk all the
time. Then as many callers again try to come, again and again. Five times, measured before, during and after in turn:
the p99 of the time to the first chunk of those who are up. Half of them hang up at the end, and others get their seats.

Exit code 0: during and after the rush it is at most twice what it was before (medians), who found no seat was told 503,
and in the end all seats are taken again; 1: it is not so; 2: it could not be run.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

import uvloop

from bench.kernel import BenchError
from bench.load.serving import Counted, serving
from bench.load.targets import API_KEY
from se_server.errors import CallerError
from se_server.simulator.caller import Caller

CAPACITY, WORKERS, RUNS, PHASE_S = 100, 2, 5, 4.0
MAX_RATIO = 2.0
RETRY_S = 1.0
"""What `Retry-After` says."""
SETTLE_TIMEOUT_S = 20.0


@dataclass
class Rush:
    """What the callers saw. `refusals` counts the refused ones by what they were told."""

    up: int = 0
    cut: int = 0
    refusals: Counter[str] = field(default_factory=Counter)
    first_words: list[tuple[float, float]] = field(default_factory=list)

    def p99_s(self, since: float, until: float) -> float:
        """Return the p99 of the time to the first word of the turns that were asked in a span of time."""
        times = sorted(took_s for asked_at, took_s in self.first_words if since <= asked_at < until)
        if not times:
            raise BenchError("nobody was answered")
        return times[len(times) * 99 // 100]


async def _caller(url: str, name: str, rush: Rush, leave: asyncio.Event, over: asyncio.Event) -> None:
    """Come until there is a seat, and talk until it is time to leave."""
    while not (over.is_set() or leave.is_set()):
        is_up = False
        try:
            async with Caller.connect(url, api_key=API_KEY) as caller:
                is_up = True
                rush.up += 1
                counted = Counted(caller, name)
                counted.first_words_s = rush.first_words
                while not (over.is_set() or leave.is_set()):
                    await counted.turn(2)
        except CallerError as error:
            if is_up:
                rush.cut += 1
            else:
                rush.refusals["503" if "503" in str(error) else str(error)] += 1
                await asyncio.sleep(RETRY_S)
        finally:
            rush.up -= is_up


async def _until_up(rush: Rush, count: int) -> None:
    async def wait() -> None:
        while rush.up != count:  # noqa: ASYNC110  several callers change it
            await asyncio.sleep(0.05)

    try:
        await asyncio.wait_for(wait(), SETTLE_TIMEOUT_S)
    except asyncio.TimeoutError:
        raise BenchError(f"{rush.up} conversations are up instead of {count}") from None


async def _run(url: str, capacity: int, phase_s: float) -> tuple[Rush, float, float, float]:
    """Return what the callers saw, and the p99 before, during and after the rush."""
    rush, loop, over = Rush(), asyncio.get_running_loop(), asyncio.Event()
    leave, leave_late = asyncio.Event(), asyncio.Event()
    tasks = [
        asyncio.create_task(_caller(url, f"up{n}", rush, leave if n % 2 else leave_late, over)) for n in range(capacity)
    ]
    try:
        await _until_up(rush, capacity)
        times = [loop.time()]
        await asyncio.sleep(phase_s)
        times.append(loop.time())
        for n in range(capacity):  # a ramp over half of the phase
            tasks.append(asyncio.create_task(_caller(url, f"late{n}", rush, leave_late, over)))
            await asyncio.sleep(phase_s / 2 / capacity)
        await asyncio.sleep(phase_s / 2)
        times.append(loop.time())
        if rush.up != capacity:
            raise BenchError(f"in the rush {rush.up} conversations were up instead of {capacity}")
        leave.set()
        await asyncio.sleep(RETRY_S)
        await _until_up(rush, capacity)
        times.append(loop.time())
        await asyncio.sleep(phase_s)
        times.append(loop.time())
        over.set()
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    before, during, after = ((times[0], times[1]), (times[1], times[2]), (times[3], times[4]))
    return rush, rush.p99_s(*before), rush.p99_s(*during), rush.p99_s(*after)


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
        with serving("--max-sessions", str(given.capacity), "--log-level", "error", workers=given.workers) as service:
            print(f"{'before ms':>10} {'during ms':>10} {'after ms':>10} {'503':>6} {'other':>6} {'cut':>4}")
            for _ in range(given.runs):
                rush, *p99_s = uvloop.run(_run(service.url, given.capacity, given.phase_s))
                refused = rush.refusals["503"]
                others = rush.refusals.total() - refused
                figures.append(p99_s)
                print(" ".join(f"{p99 * 1e3:>10.1f}" for p99 in p99_s) + f" {refused:>6} {others:>6} {rush.cut:>4}")
                if others or rush.cut:
                    told = next((text for text in rush.refusals if text != "503"), "")
                    faults.append(f"{rush.cut} conversations cut, {others} refused otherwise than by 503: {told}")
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
