"""The cost of `--admin` at a rate of turns: the CPU of worker and observer, their memory, and that of the rings.

`python -m bench.observer_cost [--turns-per-s R]`: short turns in an open loop. The first part measures the CPU of a
worker a turn, without and with `--admin`. The second measures the CPU of the observer, while nobody asks it, and with
one page open and a scrape every 5 s. Exit code 0: the observer took less than 2% of a core while nobody asked; 1: it
took more; 2: it could not be run, or the machine did not reach the rate.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import se_server
from bench.chaos import ServerOfChaos, running
from bench.kernel import BenchError
from bench.load.targets import API_KEY
from bench.observed import PAGE

AGENT = Path(__file__).with_name("observer_cost_agent.py")
TURNS_PER_S, SECONDS, CONVERSATIONS = 1000.0, 20.0, 200
SHARE = 0.02
SCRAPE_S = 5.0
SETTLE_S = 3.0
RATE_REACHED = 0.9
PAIRS = 3


def cpu_s(pid: int) -> float:
    """Return the CPU time that the threads of a process have taken, to the nanosecond; of `stat` it is to 10 ms."""
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def memory_bytes(pid: int) -> tuple[int, int]:
    """Return the memory that only this process has, and its share of memory that others have too."""
    rollup = dict(re.findall(r"(\w+):\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text()))
    own = int(rollup["Private_Clean"]) + int(rollup["Private_Dirty"])
    return own * 1024, int(rollup["Pss"]) * 1024


def turns(server: ServerOfChaos) -> int:
    """Return how many turns have ended."""
    return int(sum(server.status()["figures"]["outcomes"].values()))


def generator(server: ServerOfChaos, turns_per_s: float, seconds: float) -> subprocess.Popen[bytes]:
    """Start a generator of load."""
    command = [sys.executable, "-m", "se_server.cli.bench", "load", f"ws://127.0.0.1:{server.port}/", "--json"]
    command += ["-n", str(CONVERSATIONS), "--turns-per-s", str(turns_per_s), "--duration-s", str(seconds)]
    command += ["--api-key", API_KEY, "--history", "2", "--max-errors", "1000000", "--processes", "1"]
    paths = os.pathsep.join([str(Path(se_server.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": paths}
    )


async def _ask(url: str, until: float) -> None:
    """Have one page open, and scrape as Prometheus does."""
    host, port = url.removeprefix("http://").strip("/").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET /api/events HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())

    async def read() -> None:
        while await reader.read(65536):
            pass

    reading = asyncio.create_task(read())
    while time.monotonic() < until:
        await asyncio.to_thread(lambda: urllib.request.urlopen(url + "metrics", timeout=10).read())
        await asyncio.sleep(min(SCRAPE_S, max(0.0, until - time.monotonic())))
    reading.cancel()
    writer.close()
    with suppress(asyncio.CancelledError):
        await reading


def measure(server: ServerOfChaos, pid: int, url: str | None, given: argparse.Namespace) -> tuple[float, float]:
    """Put load on the server; return turns a second, and the share of a core that a process takes.

    Args:
        pid: the process id of the worker, or of the observer.
        url: the observer's address, to be asked meanwhile; None to ask nothing.
        given: the rate, and the time of the measurement.
    """
    turns_per_s, seconds = given.turns_per_s, given.seconds
    load = generator(server, turns_per_s, seconds + 2 * SETTLE_S)
    deadline = time.monotonic() + 60
    first = turns(server)
    while turns(server) < first + turns_per_s:  # the conversations have begun
        if time.monotonic() > deadline or load.poll() is not None:
            raise BenchError("the generator asks no turns")
        time.sleep(0.2)
    time.sleep(SETTLE_S / 2)
    began, cpu, count = time.monotonic(), cpu_s(pid), turns(server)
    if url is None:
        time.sleep(seconds)
    else:
        asyncio.run(_ask(url, began + seconds))
    took_s = time.monotonic() - began
    share, rate = (cpu_s(pid) - cpu) / took_s, (turns(server) - count) / took_s
    output, _ = load.communicate()
    errors = json.loads(output).get("errors")
    if errors:
        raise BenchError(f"the generator had errors: {errors}")
    return rate, share


def worker_us(server: ServerOfChaos, given: argparse.Namespace) -> float:
    """Return the CPU that the worker of a server takes for a turn, in microseconds."""
    (worker,) = (row["pid"] for row in server.status()["workers"])
    rate, share = measure(server, worker, None, given)
    return share / rate * 1e6


def compare_workers(given: argparse.Namespace) -> None:
    """Print the worker's CPU a turn without and with `--admin`.

    Both servers run at the same time under the same load, so that other work and the clock of the processor change both
    alike; each pair is of two fresh servers, since where a process lies in memory changes its time by some percent.
    """
    pairs = []
    for _ in range(given.pairs):
        with (
            running(1, AGENT) as plain,
            running(1, AGENT, "--admin", "127.0.0.1:0") as observed,
            ThreadPoolExecutor(2) as pool,
        ):
            without, with_admin = pool.map(worker_us, (plain, observed), (given, given))
        pairs.append(with_admin / without - 1)
        print(f"worker: {without:.1f} us of CPU a turn, {with_admin:.1f} with --admin ({pairs[-1]:+.1%})", flush=True)
    print(f"the worker takes {statistics.median(pairs):+.1%} with --admin, the median of {len(pairs)}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all measurements."""
    parser = argparse.ArgumentParser(prog="python -m bench.observer_cost", description=__doc__)
    parser.add_argument("--turns-per-s", type=float, default=TURNS_PER_S, help=f"default: {TURNS_PER_S:g}")
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"of each measurement; default: {SECONDS:g}")
    parser.add_argument(
        "--pairs", type=int, default=PAIRS, help=f"measurements of the worker, each without and with; default: {PAIRS}"
    )
    given = parser.parse_args(arguments)
    if sys.platform != "linux":
        print("No figures: it needs Linux, to look at processes from outside", file=sys.stderr)
        return 2
    try:
        if given.pairs > 0:
            compare_workers(given)
        with running(1, AGENT, "--admin", "127.0.0.1:0", "--log-level", "info") as server:
            deadline = time.monotonic() + 30
            while not (found := PAGE.search(server.log.read_text())):
                if time.monotonic() > deadline:
                    raise BenchError("there is no observer")
                time.sleep(0.05)
            pid, url = int(found[1]), found[2]
            (worker,) = (row["pid"] for row in server.status()["workers"])
            rate, alone = measure(server, pid, None, given)
            own, share = memory_bytes(pid)
            print(f"{rate:,.0f} turns/s, nobody asks: {alone:.2%} of a core", flush=True)
            asked_rate, asked = measure(server, pid, url, given)
            print(f"{asked_rate:,.0f} turns/s, one page and a scrape every {SCRAPE_S:g} s: {asked:.2%} of a core")
            print(
                f"memory of the observer: {own / 2**20:.1f} MiB of its own, {share / 2**20:.1f} MiB with its share of"
                f" common memory; {memory_bytes(pid)[0] / 2**20:.1f} MiB of its own with the page open"
            )
            print(f"memory of the worker's ring: {_ring_bytes(worker) / 2**20:.2f} MiB")
    except BenchError as error:
        print(f"No figures: {error}", file=sys.stderr)
        return 2
    if min(rate, asked_rate) < RATE_REACHED * given.turns_per_s:
        print("No figures: the machine did not reach the rate, it has other work or is too slow", file=sys.stderr)
        return 2
    print("less than 2% of a core" if alone < SHARE else "MISSED: 2% of a core or more")
    return 0 if alone < SHARE else 1


def _ring_bytes(worker: int) -> int:
    """Return the memory that a worker has of the file of rings."""
    total, is_ring = 0, False
    for line in Path(f"/proc/{worker}/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            is_ring = "se-server rings" in line
        elif is_ring and line.startswith("Rss:"):
            total += int(line.split()[1]) * 1024
    return total


if __name__ == "__main__":
    sys.exit(main())
