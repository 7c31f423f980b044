"""Reloads and an upgrade under conversations, as in a deployment at noon, judged by the callers.

`python -m bench.drain`: 300 simultaneous conversations of 20 to 60 s, a new one for each that ends; meanwhile five
rolling reloads and an upgrade of the supervisor (SIGUSR2). No handshake may be refused, no conversation cut and no
chunk of an answer lost.

Exit code 0: all of it held; 1: something did not; 2: it could not be run.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import uvloop

from bench.kernel import BenchError
from bench.load.serving import Counted, Service, serving
from bench.load.targets import API_KEY
from se_server.errors import CallerError
from se_server.simulator.caller import Caller

CONVERSATIONS, RELOADS, WORKERS, SEED = 300, 5, 4, 5
LENGTHS_S = (20.0, 60.0)
PAUSES_S = (0.5, 2.0)
"""A user's pause between an answer and the next turn."""


@dataclass
class Tally:
    """The callers' observations. `problems` describes the first few faults, one sentence each."""

    begun: int = 0
    ended: int = 0
    turns: int = 0
    refused: int = 0
    cut: int = 0
    lost: int = 0
    problems: list[str] = field(default_factory=list)

    def note(self, problem: str) -> None:
        if len(self.problems) < 10:
            self.problems.append(problem)


async def _converse(url: str, name: str, length_s: float, chance: random.Random, tally: Tally) -> None:
    ends_at = time.monotonic() + length_s
    is_up = False
    counted: Counted | None = None
    try:
        async with Caller.connect(url, api_key=API_KEY, connect_timeout_s=10.0) as caller:
            is_up = True
            tally.begun += 1
            counted = Counted(caller, name)
            while time.monotonic() < ends_at:
                await counted.turn()
                tally.turns += 1
                await asyncio.sleep(chance.uniform(*PAUSES_S) * min(1.0, length_s / LENGTHS_S[0]))
            tally.ended += 1
    except CallerError as error:
        if is_up:
            tally.cut += 1
        else:
            tally.refused += 1
        tally.note(f"{name}: {error}")
    if counted is not None and counted.lost:
        tally.lost += counted.lost
        tally.note(f"{name}: {counted.lost} answers were not whole")


async def _line(url: str, number: int, scale: float, tally: Tally, over: asyncio.Event) -> None:
    """Hold one conversation after the other until the run is over."""
    chance = random.Random(SEED * 100_003 + number)
    # Ends are spread from the start: the first conversation begins somewhere in its middle.
    length_s = chance.uniform(0.2, LENGTHS_S[1]) * scale
    count = 0
    while not over.is_set():
        await _converse(url, f"{number}-{count}", length_s, chance, tally)
        count += 1
        length_s = chance.uniform(*LENGTHS_S) * scale


async def _deploy(service: Service, conversations: int, reloads: int, scale: float) -> Tally:
    tally, over = Tally(), asyncio.Event()
    loop = asyncio.get_running_loop()
    lines = [asyncio.create_task(_line(service.url, n, scale, tally, over)) for n in range(conversations)]
    try:
        pause_s = LENGTHS_S[0] * scale
        for number in range(reloads):
            await asyncio.sleep(pause_s)
            os.kill(service.pid, signal.SIGHUP)
            await loop.run_in_executor(None, service.find, r"reload: generation \d+ serves", number + 1)
            print(f"reload {number + 1}: {tally.begun} conversations so far, {tally.turns} turns", flush=True)
        await asyncio.sleep(pause_s)
        os.kill(service.pid, signal.SIGUSR2)
        await loop.run_in_executor(None, service.find, r"upgrade: supervisor \d+ serves")
        print(f"upgrade: {tally.begun} conversations so far, {tally.turns} turns", flush=True)
        await asyncio.sleep(pause_s)
        over.set()
        await asyncio.gather(*lines)
    finally:
        for line in lines:
            line.cancel()
        await asyncio.wait(lines)
    return tally


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.drain", description=__doc__)
    parser.add_argument("--conversations", type=int, default=CONVERSATIONS, help=f"default: {CONVERSATIONS}")
    parser.add_argument("--reloads", type=int, default=RELOADS, help=f"default: {RELOADS}")
    parser.add_argument("--workers", type=int, default=WORKERS, help=f"default: {WORKERS}")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="multiplies the length of every conversation; default: 1"
    )
    given = parser.parse_args(arguments)
    if min(given.conversations, given.reloads + 1, given.workers) < 1 or not 0 < given.scale <= 10:
        parser.error("there must be conversations and workers, and a scale of at most 10")
    try:
        with serving("--path", "/ws", workers=given.workers) as service:
            tally = uvloop.run(_deploy(service, given.conversations, given.reloads, given.scale))
    except BenchError as error:
        print(f"No figures: {error}", file=sys.stderr)
        return 2
    print(
        f"{tally.begun} conversations, {tally.turns} turns, {given.reloads} reloads, 1 upgrade: {tally.refused}"
        f" handshakes refused, {tally.cut} conversations cut, {tally.lost} answers not whole"
    )
    for problem in tally.problems:
        print(f"MISSED: {problem}")
    return 1 if tally.refused or tally.cut or tally.lost else 0


if __name__ == "__main__":
    sys.exit(main())
