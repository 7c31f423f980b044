"""20,000 simultaneous conversations on this machine, each with a turn every 20 s and a growing history.

`python -m bench.crowd`: `se-server` on two workers, and several load generators, each with a source address of its own,
all on the same cores. It takes about two minutes, and each process needs 20,000 descriptors.

Exit code 0: no errors, and both the p99 to the first chunk and the memory are within their limits; 1: not; 2: not run.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.compare.machine import CHECKOUT
from bench.kernel import BenchError, Server, Target, connect, memory_of, running
from bench.load.targets import API_KEY, HANDLER
from se_server.errors import LoadError
from se_server.load import Histogram, LoadPlan, LoadProcess, Run

CONVERSATIONS, WORKERS, GENERATORS, CHUNKS = 20_000, 2, 4, 32
TURN_EVERY_S, SECONDS, CONNECTS_PER_S = 20.0, 80.0, 1200.0
MAX_P99_S = 0.05
MAX_BYTES = 9000.0
"""Limit of memory per conversation after its second turn, with a history of 3: the target of `se-bench compare`."""
SPARE_DESCRIPTORS = 500
SETTLE_S = 1.0
LATEST = CHECKOUT / "bench" / "results" / "latest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """Results: memory of a conversation in bytes, on the server's side; `errors` by kind."""

    conversations: int
    connect_s: float
    turns: int
    turns_per_s: float
    first_p50_s: float
    first_p99_s: float
    first_max_s: float
    final_p99_s: float
    resends: int
    errors: dict[str, int]
    bytes_connected: float
    bytes_early: float
    bytes_after: float
    kernel_bytes: float
    server_cores: float
    generator_cores: float

    def faults(self) -> list[str]:
        """Return the missed limits, one sentence each."""
        found = [f"{count} times: {what}" for what, count in self.errors.items()]
        if self.first_p99_s >= MAX_P99_S:
            found.append(
                f"p99 to the first chunk {self.first_p99_s * 1e3:.1f} ms; it must be below {MAX_P99_S * 1e3:.0f}"
            )
        if self.bytes_early > MAX_BYTES:
            found.append(
                f"{self.bytes_early / 1e3:.1f} KB for a conversation; at most {MAX_BYTES / 1e3:.0f} are allowed"
            )
        return found


def kernel_memory() -> int:
    """Return the bytes that the kernel holds in slabs (sockets, files, epoll's entries) and in sockets' buffers."""
    slab = re.search(r"^Slab:\s+(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    pages = re.search(r"^TCP: .* mem (\d+)", Path("/proc/net/sockstat").read_text(), re.MULTILINE)
    if slab is None or pages is None:
        raise BenchError("/proc/meminfo or /proc/net/sockstat has an unknown format")
    return int(slab[1]) * 1024 + int(pages[1]) * os.sysconf("SC_PAGE_SIZE")


def target(workers: int) -> Target:
    """Return the server."""
    return Target(
        name="se-server",
        command=(
            *(sys.executable, "-m", "se_server.cli.server", str(HANDLER)),
            *("--workers", str(workers), "--host", "127.0.0.1", "--port", "0", "--path", "/ws"),
            *("--log-level", "warning"),
        ),
        ready=r"ready: ws://[^ ]*:(?P<port>\d+)",
        environment={"ELEVENLABS_API_KEY": API_KEY},
    )


def plans(url: str, conversations: int, generators: int, turn_every_s: float) -> list[LoadPlan]:
    """Divide the conversations between the generators; each has a source address of its own."""
    shares = [conversations // generators + (n < conversations % generators) for n in range(generators)]
    return [
        LoadPlan(
            url=url,
            api_key=API_KEY,
            conversations=share,
            turns_per_s=share / turn_every_s,
            chunks=CHUNKS,
            pause=True,
            source_addresses=(f"127.0.0.{number + 2}",),
            first_number=sum(shares[:number]),
            seed=number,
        )
        for number, share in enumerate(shares)
    ]


def hold(server: Server, given: argparse.Namespace) -> Crowd:
    """Open all conversations, hold turns for a while, and close them."""
    share = plans(server.url, given.conversations, given.generators, given.turn_every_s)
    base, kernel_base = memory_of(server.pid), kernel_memory()
    with ExitStack() as stack, ThreadPoolExecutor(len(share)) as threads:
        loads = [stack.enter_context(LoadProcess(plan)) for plan in share]
        began_s = time.monotonic()
        per_s = CONNECTS_PER_S / len(loads)
        timeout_s = 2 * given.conversations / CONNECTS_PER_S + 10
        list(threads.map(lambda load: connect(load, timeout_s, per_s), loads))
        connect_s = time.monotonic() - began_s
        time.sleep(SETTLE_S)
        connected, kernel_connected = memory_of(server.pid), kernel_memory()
        print(f"{given.conversations:,} conversations are up after {connect_s:.0f} s", flush=True)
        before = server.cpu()
        memory = [base, connected]
        runs: list[Run] = []
        for seconds in (2 * given.turn_every_s, given.seconds - 2 * given.turn_every_s):
            runs += threads.map(lambda load, seconds=seconds: load.run(seconds), loads)
            time.sleep(SETTLE_S)
            memory.append(memory_of(server.pid))
        ran_ns = server.cpu().since(before)
    return _sum(given, runs, connect_s, ran_ns, memory, kernel_connected - kernel_base)


def _sum(
    given: argparse.Namespace, runs: Sequence[Run], connect_s: float, ran_ns: int, memory: Sequence[int], kernel: int
) -> Crowd:
    first, final, errors = Histogram(), Histogram(), Counter[str]()
    for run in runs:
        first.merge(run.first_chunk)
        final.merge(run.final)
        errors.update(run.errors)
    wall_s = sum(run.wall_s for run in runs) / given.generators
    base, connected, early, after = memory
    return Crowd(
        conversations=given.conversations,
        connect_s=connect_s,
        turns=sum(run.turns for run in runs),
        turns_per_s=sum(run.turns for run in runs) / wall_s,
        first_p50_s=first.percentile(50),
        first_p99_s=first.percentile(99),
        first_max_s=first.percentile(100),
        final_p99_s=final.percentile(99),
        resends=sum(run.resends for run in runs),
        errors=dict(errors),
        bytes_connected=(connected - base) / given.conversations,
        bytes_early=(early - base) / given.conversations,
        bytes_after=(after - base) / given.conversations,
        kernel_bytes=kernel / given.conversations / 2,  # both ends are here
        server_cores=ran_ns / 1e9 / wall_s,
        generator_cores=sum(run.cpu_s for run in runs) / wall_s,
    )


def show(crowd: Crowd) -> None:
    """Print the figures."""
    rows = {
        "conversations at once": f"{crowd.conversations:,}, up within {crowd.connect_s:.0f} s",
        "turns": f"{crowd.turns:,}, {crowd.turns_per_s:,.0f} a second, {crowd.resends} transcripts sent again",
        "to the first chunk": f"p50 {crowd.first_p50_s * 1e3:.2f} ms, p99 {crowd.first_p99_s * 1e3:.2f} ms,"
        f" longest {crowd.first_max_s * 1e3:.1f} ms",
        "to the final": f"p99 {crowd.final_p99_s * 1e3:.2f} ms",
        "memory of a conversation": f"{crowd.bytes_connected / 1e3:.1f} KB before its first turn,"
        f" {crowd.bytes_early / 1e3:.1f} KB after two, {crowd.bytes_after / 1e3:.1f} KB at the end;"
        f" {crowd.kernel_bytes / 1e3:.1f} KB in the kernel",
        "cores busy": f"server {crowd.server_cores:.2f}, generators {crowd.generator_cores:.2f}",
        "errors": ", ".join(f"{what}: {count}" for what, count in crowd.errors.items()) or "none",
    }
    for name, text in rows.items():
        print(f"{name:<26} {text}")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.crowd", description=__doc__)
    parser.add_argument("--conversations", type=int, default=CONVERSATIONS, help=f"default: {CONVERSATIONS:,}")
    parser.add_argument("--workers", type=int, default=WORKERS, help=f"default: {WORKERS}")
    parser.add_argument("--generators", type=int, default=GENERATORS, help=f"processes; default: {GENERATORS}")
    parser.add_argument("--turn-every-s", type=float, default=TURN_EVERY_S, help=f"default: {TURN_EVERY_S:g}")
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"of talking; default: {SECONDS:g}, at most 600")
    parser.add_argument("--publish", action="store_true", help="keep the figures in bench/results/latest")
    given = parser.parse_args(arguments)
    if min(given.conversations, given.workers, given.generators, given.turn_every_s) <= 0:
        parser.error("there must be conversations, workers, generators and a time between turns")
    if not 2 * given.turn_every_s < given.seconds <= 600 or given.conversations < given.generators:
        parser.error("it takes more than two turns and 600 s at most, and a conversation for each generator")
    try:
        if sys.platform != "linux":
            raise BenchError("it needs Linux, to look into processes from outside")
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        needed = given.conversations // min(given.workers, given.generators) + SPARE_DESCRIPTORS
        if needed > limit:
            raise BenchError(f"a process needs {needed:,} file descriptors and may have {limit:,}: see `ulimit -n`")
        with running(target(given.workers), None) as server:
            crowd = hold(server, given)
    except (BenchError, LoadError) as error:
        print(f"No figures: {error}", file=sys.stderr)
        return 2
    show(crowd)
    if given.publish:
        LATEST.mkdir(parents=True, exist_ok=True)
        (LATEST / "crowd.json").write_text(json.dumps(asdict(crowd), indent=1) + "\n")
    faults = crowd.faults()
    for fault in faults:
        print(f"MISSED: {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
