"""The number of conversations that one worker carries, each with the answer of an LLM at 50 tokens a second.

`python -m bench.carried`: some minutes a path. The server has a core of its own. Provider and callers are one process
on the other: it writes ready-made events at their time, and reads the frames of most callers only now and then; some 32
callers note the delay of each token, from the provider's write to the caller. So the load has more room than a server.
A number of conversations is held when the 99th percentile of the delays stays within 50 ms; near that, in two tries
of three.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import partial

import uvloop

from bench.kernel import BenchError, Server, pick_cores
from bench.load.llm_provider import TOKENS_PER_S, LightProvider
from bench.tokens import BARE, TIMEOUT_S, Caller, chosen, dial, servers, serving

__all__ = ["MOST", "Held", "Serve", "hold", "hold_on", "search"]

DELAY_LIMIT_S = 0.050
SETTLE_S, WINDOW_S = 1.5, 4.0
PROBES = 32
DRAIN_S, DRAIN_BYTES = 0.25, 1 << 16
DIALS_PER_S = 120
MOST = 960
"""HTTP clients have limits of 1,000 connections."""
LOST_S = 2.0
"""A server whose delays reach this while callers still arrive carries no more of them."""
FULL_SHARE, FILLED_SHARE = 0.9, 0.95

Serve = Callable[[Callable[[str], str]], AbstractContextManager[Server]]
"""Starts a server whose LLM clients are given the base URLs that a function returns by the API's name."""


class QuietCaller(Caller):
    """A caller whose frames are read now and then, after the first text."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.begun.done():
            self.times_s.clear()
            self._transport.pause_reading()

    def drain(self) -> None:
        """Take the frames that came, unread."""
        with suppress(BlockingIOError):
            os.read(self._transport.get_extra_info("socket").fileno(), DRAIN_BYTES)


@dataclass(frozen=True)
class Held:
    """A try.

    Attributes:
        conversations: their number.
        p99_s: the 99th percentile of the tokens' delays.
        server_busy, load_busy: the share of its core that each side ran.
    """

    conversations: int
    p99_s: float
    server_busy: float
    load_busy: float

    @property
    def us_per_token(self) -> float:
        """The server's CPU time, divided by the tokens."""
        return self.server_busy * 1e6 / (self.conversations * TOKENS_PER_S)

    def __str__(self) -> str:
        return f"{self.p99_s * 1000:.0f} ms, server {self.server_busy:.0%}, load {self.load_busy:.0%}"


async def hold(serve: Serve, conversations: int, window_s: float) -> Held:
    """Hold that many conversations on a fresh server, and measure for some seconds.

    Raises:
        BenchError: the server refused or ended a conversation.
    """
    provider = LightProvider()
    await provider.open()
    try:
        with serve(provider.base_url) as server:
            return await hold_on(server, provider, conversations, window_s)
    finally:
        provider.close()


async def hold_on(server: Server, provider: LightProvider, conversations: int, window_s: float) -> Held:
    """Hold that many conversations on a server whose clients ask this provider."""
    for number in range(2):  # the first turn makes the client, which imports its package
        caller = await dial(server, number, f"short-{number}")
        await asyncio.wait_for(caller.over, TIMEOUT_S)
    every = max(1, conversations // PROBES)
    callers: list[Caller] = []
    drained = asyncio.ensure_future(_drain(callers))
    try:
        for number in range(conversations):
            callers.append(await dial(server, number, f"long-{number}", Caller if number % every == 0 else QuietCaller))
            await asyncio.sleep(1 / DIALS_PER_S)
            if number % 20 == 19 and delay_s(provider, callers, every) > LOST_S:
                return Held(conversations, LOST_S, 1.0, 0.0)
        await asyncio.wait_for(asyncio.gather(*(caller.begun for caller in callers)), TIMEOUT_S)
        await asyncio.sleep(SETTLE_S)
        for caller in callers:
            if caller.over.done():
                caller.over.result()
                raise BenchError("an answer ended before its time")
        begin = {number: len(callers[number].times_s) for number in range(0, conversations, every)}
        cpu, own_s, start_s = server.cpu(), time.process_time(), time.monotonic()
        await asyncio.sleep(window_s)
        elapsed_s = time.monotonic() - start_s
        busy, own = server.cpu().since(cpu) / 1e9 / elapsed_s, (time.process_time() - own_s) / elapsed_s
        delays: list[float] = []
        for number, count in begin.items():
            came, sent = callers[number].times_s, provider.streams[number].sent_s
            # A token that has not come by now is as late as it is now.
            due = [at for at in sent[count:] if at < start_s + window_s]
            came = came[count:] + [time.monotonic()] * len(due)
            delays += [there - here for there, here in zip(came, due, strict=False)]
        return Held(conversations, sorted(delays)[int(len(delays) * 0.99)], busy, own)
    finally:
        drained.cancel()
        for caller in callers:
            caller.hang_up()


def delay_s(provider: LightProvider, callers: Sequence[Caller], every: int) -> float:
    """Return the time by which the slowest caller is behind the provider, in seconds."""
    behind = 0
    for number in range(0, len(callers), every):
        stream = provider.streams.get(number)
        behind = max(behind, 0 if stream is None else stream.count - len(callers[number].times_s))
    return behind / TOKENS_PER_S


async def _drain(callers: list[Caller]) -> None:
    while True:
        await asyncio.sleep(DRAIN_S)
        for caller in callers:
            if isinstance(caller, QuietCaller) and caller.begun.done():
                caller.drain()


def try_out(serve: Serve, conversations: int, window_s: float) -> Held:
    """Hold conversations once, or three times where the delay is near the limit, and return the median try."""
    tries: list[Held] = []
    while len(tries) < 3:
        try:
            tries.append(uvloop.run(hold(serve, conversations, window_s)))
        except (BenchError, asyncio.TimeoutError):
            tries.append(Held(conversations, LOST_S, 1.0, 0.0))
        if not DELAY_LIMIT_S / 2 < tries[-1].p99_s < DELAY_LIMIT_S * 2:
            return tries[-1]
    return sorted(tries, key=lambda held: held.p99_s)[1]


@dataclass(frozen=True)
class Carried:
    """The conversations that were held, and the tries that found their number."""

    conversations: int
    tries: list[Held]
    load_is_limit: bool

    def __str__(self) -> str:
        more = " or more" if self.conversations == MOST else ""
        notes = [f"{held.conversations}: {held}" for held in self.tries]
        if self.load_is_limit:
            notes.append("the load had no more of its core")
        return f"{self.conversations:5}{more}  ({'; '.join(notes)})"


def search(serve: Serve, *, first: int, most: int, window_s: float, share: float = 0.1) -> Carried:
    """Find the most conversations whose tokens are in time, to a tenth or the given share.

    Args:
        serve: starts the server.
        first: conversations of the first try.
        most: conversations of the last one.
        window_s: the seconds that are measured.
    """
    low, high, count = 0, 0, min(first, most)
    tries: list[Held] = []
    load_is_limit = False
    while not high or high - low > max(10, low * share):
        held = try_out(serve, count, window_s)
        tries.append(held)
        if held.p99_s <= DELAY_LIMIT_S:
            low = count
        else:
            high = count
            load_is_limit = held.load_busy > FULL_SHARE
        if low == most or load_is_limit:
            break
        if high:
            count = (low + high) // 2
        else:  # as many as would fill the core, if each costs as much as these
            count = min(int(count * min(2.0, max(1.1, FILLED_SHARE / held.server_busy))) + 1, most)
    return Carried(low, tries, load_is_limit)


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m bench.carried", description=__doc__)
    parser.add_argument("--path", dest="paths", action="append", default=[], help="only this one; may be repeated")
    parser.add_argument("--window", type=float, default=WINDOW_S, help="seconds that are measured")
    parser.add_argument("--first", type=int, default=40, help="conversations of the first try")
    parser.add_argument("--most", type=int, default=MOST, help="conversations at most")
    parser.add_argument("--server", help="only this one, as the table calls it")
    options = parser.parse_args()
    try:
        cores = pick_cores()
        for path in chosen(options.paths or ["openai chat", "openai chat, aiohttp transport", "anthropic"]):
            for side in servers(path, objects=False):
                if side.target is not BARE and options.server in (None, side.name):
                    serve = partial(serving, side, cores=cores)
                    found = search(serve, first=options.first, most=options.most, window_s=options.window)
                    print(f"{path:34}{side.name:24}{found}", flush=True)
    except BenchError as error:
        print(f"bench.carried: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
