"""Spread of conversations over workers, and its cost for a handshake: three ways to share connections in one run.

`python -m bench.placement`: 2,000 conversations on 8 workers, in one burst and at 200 a second, with a worker killed
half-way; `se-server` as it is, next to plain sharing of the queue and to `SO_REUSEPORT`, interleaved. The victim is the
worker nearest to the average: its callers reconnect at once and are the slowest hundredth, so a victim with few callers
would make any way look fast. The figures go to `bench/results/scratch/placement.json`, with a chart beside them if
matplotlib is installed.

Exit code 0: the targets are met; 1: one is missed; 2: it could not be run.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import uvloop

from bench.kernel import BenchError, Server, Target, process_tree, running
from bench.load.arrivals import Arrivals
from bench.load.targets import API_KEY, HANDLER
from bench.load.targets.sharing_target import WAYS
from bench.soak import sockets_of

WORKERS, CALLERS, PER_S, ROUNDS = 8, 2000, 200.0, 3
MAX_SPREAD = 2
"""Largest allowed difference of conversations between two workers."""
MAX_P99_RATIO = 1.5
"""Limit of the handshake's p99 as a multiple of that with plain sharing."""
ALIVE_TIMEOUT_S, POLL_S = 60.0, 0.02
RESULTS = Path(__file__).parent / "results" / "scratch"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One run: `counts` are the conversations of each worker in the end."""

    way: str
    pattern: str
    counts: tuple[int, ...]
    p50_s: float
    p99_s: float
    cut: int
    failed: int

    @property
    def spread(self) -> int:
        return max(self.counts) - min(self.counts)


def target_of(way: str, workers: int) -> Target:
    """Return the server with this way of sharing."""
    return Target(
        name=way,
        command=(
            *(sys.executable, "-m", "bench.load.targets.sharing_target", way, str(HANDLER)),
            *("--workers", str(workers), "--host", "127.0.0.1", "--port", "0", "--path", "/ws"),
            *("--first-message-timeout-s", "600", "--log-level", "error", "--drain-timeout-s", "0"),
        ),
        ready=r"ready: ws://[^ ]*:(?P<port>\d+)",
        environment={"ELEVENLABS_API_KEY": API_KEY},
    )


def workers_of(server: Server) -> list[int]:
    """Return the process ids of the workers."""
    return process_tree(server.pid)[1:]


def _average_of(pids: Sequence[int]) -> int:
    """Return the worker with the number of conversations nearest to the average."""
    counts = {pid: len(os.listdir(f"/proc/{pid}/fd")) for pid in pids}
    return min(pids, key=lambda pid: abs(counts[pid] - sum(counts.values()) / len(pids)))


async def _refilled(server: Server, old: Sequence[int]) -> list[int]:
    """Wait until there are as many workers as before, without the dead one."""
    deadline = time.monotonic() + ALIVE_TIMEOUT_S
    while time.monotonic() < deadline:
        pids = workers_of(server)
        if len(pids) == len(old) and set(pids) != set(old):
            return pids
        await asyncio.sleep(POLL_S)
    raise BenchError("the worker that was killed was not replaced")


async def _kill(pid: int) -> None:
    """Kill a process and wait until its callers have noticed: until then their conversations count as up."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    process = os.pidfd_open(pid)
    try:
        loop.add_reader(process, ended.set)
        os.kill(pid, signal.SIGKILL)
        await asyncio.wait_for(ended.wait(), ALIVE_TIMEOUT_S)  # its sockets are closed before
    finally:
        loop.remove_reader(process)
        os.close(process)
    await asyncio.sleep(POLL_S)


async def _arrive(server: Server, way: str, pattern: str, callers: int, per_s: float | None) -> Outcome:
    pids = workers_of(server)
    idle = sockets_of(pids[0])
    arrivals = Arrivals(server.port, server.target.path, API_KEY)
    coming = asyncio.create_task(arrivals.come(callers, per_s))
    try:
        await arrivals.until_live(callers // 2, ALIVE_TIMEOUT_S)
        await _kill(_average_of(pids))
        await coming
        await arrivals.until_live(callers, ALIVE_TIMEOUT_S)
        pids = await _refilled(server, pids)  # not before: a scan of /proc delays the callers
        # The victim's callers, those in a handshake included, have reconnected by now, as `arrivals` confirms.
        # A worker that is still starting has less than an idle one.
        counts = tuple(max(0, sockets_of(pid) - idle) for pid in pids)
    except asyncio.TimeoutError:
        raise BenchError(f"{way}: of {callers} callers only {arrivals.live} have a conversation") from None
    finally:
        coming.cancel()
        with suppress(asyncio.CancelledError):
            await coming
        await arrivals.leave()
    times = sorted(arrivals.handshakes_s)
    return Outcome(way, pattern, counts, median(times), times[len(times) * 99 // 100], arrivals.cut, arrivals.failed)


def run(rounds: int, workers: int, callers: int, per_s: float) -> list[Outcome]:
    """Run every way with every pattern, `rounds` times in turn, and print each outcome."""
    cores = os.sched_getaffinity(0)
    outcomes = []
    print(f"{'way':<10} {'pattern':<8} {'min':>5} {'max':>5} {'spread':>7} {'p50 ms':>8} {'p99 ms':>8} {'failed':>7}")
    for _ in range(rounds):
        for pattern, rate in (("burst", None), ("rate", per_s)):
            for way in WAYS:
                with running(target_of(way, workers), max(cores)) as server:
                    for pid in process_tree(server.pid):
                        os.sched_setaffinity(pid, cores)  # as a server has them: all
                    found = uvloop.run(_arrive(server, way, pattern, callers, rate))
                outcomes.append(found)
                print(
                    f"{way:<10} {pattern:<8} {min(found.counts):>5} {max(found.counts):>5} {found.spread:>7} "
                    f"{found.p50_s * 1e3:>8.1f} {found.p99_s * 1e3:>8.1f} {found.failed:>7}",
                    flush=True,
                )
    return outcomes


def faults(outcomes: Sequence[Outcome]) -> list[str]:
    """Return the missed targets, one sentence each, and print the verdict on handshakes."""
    found = []
    for outcome in outcomes:
        if outcome.way == "gate" and outcome.spread > MAX_SPREAD:
            found.append(f"{outcome.pattern}: workers differ by {outcome.spread}, and at most {MAX_SPREAD} is allowed")
    for pattern in dict.fromkeys(outcome.pattern for outcome in outcomes):
        p99 = {way: median(o.p99_s for o in outcomes if (o.way, o.pattern) == (way, pattern)) for way in WAYS}
        ratio = p99["gate"] / p99["plain"]
        told = f"{pattern}: p99 of the handshake {ratio:.2f} times that of plain sharing"
        print(f"{told} ({p99['gate'] * 1e3:.1f} against {p99['plain'] * 1e3:.1f} ms)")
        if ratio > MAX_P99_RATIO:
            found.append(f"{told}, and at most {MAX_P99_RATIO} is allowed")
    return found


def write(outcomes: Sequence[Outcome], settings: Mapping[str, object], folder: Path) -> None:
    """Write the figures."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{**asdict(outcome), "spread": outcome.spread} for outcome in outcomes]
    (folder / "placement.json").write_text(json.dumps({"settings": settings, "runs": rows}, indent=1) + "\n")


def draw(outcomes: Sequence[Outcome], settings: Mapping[str, object], folder: Path) -> None:
    """Draw a chart if matplotlib is installed."""
    try:
        from matplotlib import use
    except ImportError:
        print("no chart: it needs matplotlib, of the extra `bench`")
        return
    use("Agg")
    from matplotlib import pyplot

    names = {"gate": "se-server", "plain": "plain sharing", "reuseport": "SO_REUSEPORT"}
    colours = {"gate": "#1b7837", "plain": "#878787", "reuseport": "#c2a5cf"}
    patterns = list(dict.fromkeys(outcome.pattern for outcome in outcomes))
    figure, axes = pyplot.subplots(2, len(patterns), figsize=(10, 7), squeeze=False)
    for column, pattern in enumerate(patterns):
        counts, times = axes[0][column], axes[1][column]
        for place, way in enumerate(WAYS):
            mine = [o for o in outcomes if (o.way, o.pattern) == (way, pattern)]
            worst = sorted(max(mine, key=lambda o: o.spread).counts)
            width = 0.8 / len(WAYS)
            xs = [number + (place - 1) * width for number in range(len(worst))]
            counts.bar(xs, worst, width, label=f"{names[way]}: differs by {worst[-1] - worst[0]}", color=colours[way])
            times.bar(place, median(o.p99_s for o in mine) * 1e3, 0.6, color=colours[way])
        title = "in one burst" if pattern == "burst" else f"at {settings['per_s']:g} a second"
        counts.set_title(f"{settings['callers']} conversations {title}, one worker killed half-way", fontsize=10)
        counts.set_xlabel("workers, least loaded first (worst run)")
        counts.set_ylabel("live conversations")
        counts.set_ylim(0, counts.get_ylim()[1] * 1.35)
        counts.legend(fontsize=8, loc="upper left")
        times.set_xticks(range(len(WAYS)), [names[way] for way in WAYS])
        times.set_ylabel("p99 of the handshake, ms (median of runs)")
    figure.tight_layout()
    figure.savefig(folder / "placement.png", dpi=120)
    pyplot.close(figure)
    print(f"figures and chart: {folder}")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.placement", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"default: {ROUNDS}")
    parser.add_argument("--workers", type=int, default=WORKERS, help=f"default: {WORKERS}")
    parser.add_argument("--callers", type=int, default=CALLERS, help=f"default: {CALLERS:,}")
    parser.add_argument("--per-s", type=float, default=PER_S, help=f"default: {PER_S:g}")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder for figures and chart")
    parser.add_argument("--no-chart", action="store_true", help="write the figures only")
    given = parser.parse_args(arguments)
    if min(given.rounds, given.workers - 1, given.callers - 1, given.per_s) <= 0:
        parser.error("there must be a round, two workers, two callers and a rate")
    if sys.platform != "linux":
        print("No figures: it needs Linux, to look into processes from outside", file=sys.stderr)
        return 2
    try:
        outcomes = run(given.rounds, given.workers, given.callers, given.per_s)
    except BenchError as error:
        print(f"No figures: {error}", file=sys.stderr)
        return 2
    found = faults(outcomes)
    settings = {"workers": given.workers, "callers": given.callers, "per_s": given.per_s, "rounds": given.rounds}
    write(outcomes, settings, given.results)
    if not given.no_chart:
        draw(outcomes, settings, given.results)
    for fault in found:
        print(f"MISSED: {fault}")
    if not found:
        print("the targets are met")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
