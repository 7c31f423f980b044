"""Attacks on a real server with two workers, and 20 honest conversations beside each, judged by what those wait for.

`python -m bench.attacks [--tls] [--only NAME ...] [--seconds 6] [--quick] [--list] [--json FILE] [--publish]`. Each
attack has a fresh server and a process of its own, niced, as a stranger far away takes no CPU time of the server's
machine. Requirements:

* During the attack the 99th percentile of the time to the first text is at most three times that before it, or 50 ms.
* No honest conversation is lost, and no worker is replaced.
* Two seconds after the attack honest callers wait no longer than that.

Exit code 0: all hold; 1: one does not; 2: it could not be run. `--quick` takes a second for each attack and judges only
losses: it is for machines that do something else, too. With `--tls` all callers and attackers speak TLS, and the rows
are named so. `--publish` puts the rows into the table of `bench/results/latest`, where those of attacks that were not
run remain.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import uvloop

from bench.attacks.attackers import ALWAYS_TLS, ATTACKS, OVER_TLS, row_name
from bench.attacks.honest import Seen, converse, end, greet, p99_ms
from bench.attacks.table import HEAD, RECOVERY_S, Row, line_of, publish
from bench.attacks.victim import Victim, victim
from bench.kernel import BenchError

CONVERSATIONS = 20
DESCRIPTORS = 1200
MIN_PUBLISHED_S = 6.0
ROOT = Path(__file__).parents[2]


async def watch(server: Victim, seconds: float) -> float:
    """Return the most memory that the server had in a span of time."""
    peak, until = 0.0, time.monotonic() + seconds
    while time.monotonic() < until:
        peak = max(peak, server.rss_mib())
        await asyncio.sleep(0.2)
    return peak


async def examine(name: str, server: Victim, seconds: float) -> Row:
    """Run one attack, and measure before, during and after it."""
    row, seen = Row(name), Seen()
    started = [asyncio.Event() for _ in range(CONVERSATIONS)]
    honest = [
        asyncio.ensure_future(converse(server.address, f"honest-{number}", seen, began))
        for number, began in enumerate(started)
    ]
    honest.append(asyncio.ensure_future(greet(server.address, seen)))
    await asyncio.gather(*(began.wait() for began in started))
    await asyncio.sleep(0.5)
    began_at = time.monotonic()
    row.memory_mib = await watch(server, seconds / 2)
    while not p99_ms(seen.first_texts, began_at, time.monotonic()):  # the machine stood still
        row.memory_mib = max(row.memory_mib, await watch(server, 0.5))
    address = server.address
    arguments = [name, str(address.port), "tls" if address.tls else "plain", address.control, str(seconds)]
    if name == "stalled log":
        server.reads_log.clear()
    attacked_at = time.monotonic()
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "bench.attacks.attacker", *arguments, cwd=ROOT)
    try:
        row.peak_mib = await watch(server, seconds)
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(process.wait(), seconds)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    ended_at = time.monotonic()
    server.reads_log.set()
    await asyncio.sleep(max(RECOVERY_S + 1, seconds / 2))
    done_at = time.monotonic()
    await end(honest)
    spans = {
        "quiet": (began_at, attacked_at),
        "during": (attacked_at, ended_at),
        "after": (ended_at + RECOVERY_S, done_at),
    }
    for span, (since, until) in spans.items():
        setattr(row, f"{span}_ms", p99_ms(seen.first_texts, since, until))
        setattr(row, f"handshake_{span}_ms", p99_ms(seen.handshakes, since, until))
    late = [at + wait for at, wait in seen.first_texts if at + wait > ended_at and wait * 1000 > row.limit_ms]
    row.recovery_s = max(late, default=ended_at) - ended_at
    row.refused = sum(text.startswith("handshake") for _, text in seen.losses)
    row.lost = len(seen.losses) - row.refused
    row.faults = [*server.faults(), *(text for _, text in seen.losses if not text.startswith("handshake"))][:10]
    return row


def run(name: str, seconds: float, *, tls: bool = False) -> Row:
    """Run one attack on a server of its own."""
    with victim(tls=tls or name in ALWAYS_TLS, descriptors=DESCRIPTORS if name == "descriptors" else None) as server:
        row = (
            uvloop.run(examine(name, server, seconds))
            if hasattr(uvloop, "run")
            else asyncio.run(examine(name, server, seconds))
        )
    row.attack = row_name(name, tls=tls)
    return row


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the attacks and print the table; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.attacks", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument(
        "--tls", action="store_true", help="over TLS; without the attacks that have no connection to it"
    )
    parser.add_argument("--only", nargs="+", choices=list(ATTACKS), metavar="NAME", help="run these attacks")
    parser.add_argument("--seconds", type=float, default=6.0, help="how long each attack takes (6)")
    parser.add_argument("--quick", action="store_true", help="1.5 seconds each, and only losses are judged")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to a file")
    parser.add_argument("--list", action="store_true", help="list the attacks")
    parser.add_argument("--publish", action="store_true", help="put the rows into the table of bench/results/latest")
    options = parser.parse_args(arguments)
    if options.publish and (options.quick or options.seconds < MIN_PUBLISHED_S):
        parser.error(f"only attacks of at least {MIN_PUBLISHED_S:g} s are published")
    if options.list:
        print("\n".join(ATTACKS))
        return 0
    rows: list[Row] = []
    print("\n".join(HEAD), flush=True)
    try:
        for name in options.only or (OVER_TLS if options.tls else ATTACKS):
            print(f"  {name} ...", file=sys.stderr, flush=True)
            rows.append(run(name, 1.5 if options.quick else options.seconds, tls=options.tls))
            print(line_of(rows[-1]), flush=True)
            if options.publish:
                publish(rows[-1:], ROOT)
    except BenchError as error:
        print(f"Not run: {error}", file=sys.stderr)
        return 2
    problems = [problem for row in rows for problem in row.problems(quick=options.quick)]
    for problem in problems:
        print(f"  ! {problem}")
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
