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
import json
import os
import re
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import uvloop

from bench.kernel import BenchError, Cores, Server, pick_cores
from bench.llm_paths import TOKENS_PER_S
from bench.load.frames import HEAD_END
from bench.tokens import BARE, TIMEOUT_S, Caller, Side, chosen, dial, servers, serving
from tests.providers import APIS, BASES, Script
from tests.providers.api import Asked

__all__ = ["try_out"]

DELAY_LIMIT_S = 0.050
SETTLE_S, WINDOW_S = 1.5, 4.0
TICK_S = 0.001
TICKS = int(1 / TOKENS_PER_S / TICK_S)
PROBES = 32
DRAIN_S, DRAIN_BYTES = 0.25, 1 << 16
DIALS_PER_S = 120
LOST_S = 2.0
"""A server whose delays reach this while callers still arrive carries no more of them."""
FULL_SHARE = 0.9
HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n"
    b"x-request-id: req_0001\r\n\r\n"
)
BY_PATH = [(re.compile(re.sub(r"{\w+}", "([^/]+)", f"/{api.name}{path}")), api) for api in APIS for path in api.paths]


def chunk(data: bytes) -> bytes:
    """Frame bytes for a chunked body (RFC 9112, 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


@dataclass(frozen=True)
class Answer:
    """An API's answer as it goes on the wire: before the first text, some texts, and its end."""

    opening: bytes
    tokens: tuple[bytes, ...]
    closing: bytes

    @classmethod
    def of(cls, path: str) -> Answer:
        """Make the answer to a request for a path, which is an API's own and without a query."""
        api = next(api for pattern, api in BY_PATH if pattern.fullmatch(path))
        events = list(api.events(Script(text=("morning ",) * 64), Asked(model="fake")))
        is_text = [event.tokens > 0 for event in events]
        first, last = is_text.index(True), len(events) - is_text[::-1].index(True)
        return cls(
            b"".join(chunk(event.data) for event in events[:first]),
            tuple(chunk(event.data) for event in events[first:last]),
            b"".join(chunk(event.data) for event in events[last:]) + chunk(b""),
        )


class Request(asyncio.Protocol):
    """A connection of the server's LLM client."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._data = b""
        self._transport: Any = None
        self._answer: Answer | None = None
        self.sent_s: list[float] = []
        self.count = 0
        self.is_open = True

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, end, body = self._data.partition(HEAD_END)
        if not end:
            return
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        if len(body) < int(fields[b"content-length"]):
            return
        self._data = b""
        path = head.split(b" ", 2)[1].decode().partition("?")[0]
        self._answer = self._provider.answer(path)
        # Gemini's requests name the model in the path.
        model = json.loads(body).get("model") or path.rpartition("/")[2].partition(":")[0]
        kind, _, number = model.partition("-")
        self._transport.write(HEAD + self._answer.opening)
        if kind == "short":
            self._transport.write(b"".join(self._answer.tokens[:3]) + self._answer.closing)
        else:
            self._provider.begin(self, int(number))

    def send_token(self, now_s: float) -> None:
        """Write the next token, which the server reads in time, or the benchmark fails."""
        assert self._answer is not None
        self._transport.write(self._answer.tokens[self.count % len(self._answer.tokens)])
        self.count += 1
        self.sent_s.append(now_s)

    def connection_lost(self, error: Exception | None) -> None:
        self.is_open = False


class Provider:
    """Streams without an end, all paced by one timer: a token of each in 20 ms, spread over the milliseconds."""

    def __init__(self) -> None:
        self.streams: dict[int, Request] = {}
        self._slots: list[list[Request]] = [[] for _ in range(TICKS)]
        self._answers: dict[str, Answer] = {}
        self._loop = asyncio.get_running_loop()
        self._start_s = self._loop.time()
        self._ticks = 0
        self._server: asyncio.Server | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.origin = ""

    async def open(self) -> None:
        """Listen, and begin to tick."""
        self._server = await self._loop.create_server(lambda: Request(self), "127.0.0.1", 0)
        self.origin = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        self._tick()

    def close(self) -> None:
        """Stop."""
        if self._timer is not None:
            self._timer.cancel()
        if self._server is not None:
            self._server.close()

    def base_url(self, api: str) -> str:
        """The base URL that an API's package is given."""
        return f"{self.origin}/{api}{BASES[api]}"

    def answer(self, path: str) -> Answer:
        """The answer to a request for a path."""
        if path not in self._answers:
            self._answers[path] = Answer.of(path)
        return self._answers[path]

    def begin(self, request: Request, number: int) -> None:
        """Stream to a request from now on."""
        self.streams[number] = request
        self._slots[number % TICKS].append(request)

    def _tick(self) -> None:
        # A tick that comes late is followed by those that it delayed.
        now_s = self._loop.time()
        while self._start_s + self._ticks * TICK_S <= now_s:
            for request in self._slots[self._ticks % TICKS]:
                if request.is_open:
                    request.send_token(time.monotonic())
            self._ticks += 1
        self._timer = self._loop.call_at(self._start_s + self._ticks * TICK_S, self._tick)


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
    """A try: delays of the tokens, and the share of its core that each side ran."""

    p99_s: float
    server_busy: float
    load_busy: float

    def __str__(self) -> str:
        return f"{self.p99_s * 1000:.0f} ms, server {self.server_busy:.0%}, load {self.load_busy:.0%}"


async def hold(side: Side, cores: Cores, conversations: int, window_s: float) -> Held:
    """Hold that many conversations, and measure."""
    provider = Provider()
    await provider.open()
    try:
        with serving(side, provider.base_url, cores) as server:
            return await _hold(server, provider, conversations, window_s)
    finally:
        provider.close()


async def _hold(server: Server, provider: Provider, conversations: int, window_s: float) -> Held:
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
                return Held(LOST_S, 1.0, 0.0)
        await asyncio.wait_for(asyncio.gather(*(caller.begun for caller in callers)), TIMEOUT_S)
        await asyncio.sleep(SETTLE_S)
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
        return Held(sorted(delays)[int(len(delays) * 0.99)], busy, own)
    finally:
        drained.cancel()
        for caller in callers:
            caller.hang_up()


def delay_s(provider: Provider, callers: Sequence[Caller], every: int) -> float:
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


def try_out(side: Side, cores: Cores, conversations: int, window_s: float) -> Held:
    """Hold conversations once, or three times where the delay is near the limit, and return the median try."""
    tries: list[Held] = []
    while len(tries) < 3:
        try:
            tries.append(uvloop.run(hold(side, cores, conversations, window_s)))
        except (BenchError, asyncio.TimeoutError):
            tries.append(Held(LOST_S, 1.0, 0.0))
        if not DELAY_LIMIT_S / 2 < tries[-1].p99_s < DELAY_LIMIT_S * 2:
            return tries[-1]
    return sorted(tries, key=lambda held: held.p99_s)[1]


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m bench.carried", description=__doc__)
    parser.add_argument("--path", dest="paths", action="append", default=[], help="only this one; may be repeated")
    parser.add_argument("--window", type=float, default=WINDOW_S, help="seconds that are measured")
    parser.add_argument("--first", type=int, default=40, help="conversations of the first try")
    parser.add_argument(
        "--most", type=int, default=960, help="conversations at most; HTTP clients have limits of 1,000"
    )
    parser.add_argument("--server", help="only this one, as the table calls it")
    options = parser.parse_args()
    try:
        cores = pick_cores()
        for path in chosen(options.paths or ["openai chat", "openai chat, aiohttp transport", "anthropic"]):
            for side in servers(path, objects=False):
                if side.target is not BARE and options.server in (None, side.name):
                    print(f"{path:34}{side.name:24}{_search(side, cores, options)}", flush=True)
    except BenchError as error:
        print(f"bench.carried: {error}", file=sys.stderr)
        return 2
    return 0


def _search(side: Side, cores: Cores, options: argparse.Namespace) -> str:
    low, high, count = 0, 0, options.first
    tried = []
    while not high or high - low > max(10, low // 10):
        held = try_out(side, cores, count, options.window)
        tried.append(f"{count}: {held}")
        if held.p99_s <= DELAY_LIMIT_S:
            low = count
        else:
            high = count
            if held.load_busy > FULL_SHARE:
                tried.append("the load had no more of its core")
                break
        if low == options.most:
            break
        count = (low + high) // 2 if high else min(count * 2, options.most)
    return f"{low:5}{' or more' if low == options.most else ''}  ({'; '.join(tried)})"


if __name__ == "__main__":
    sys.exit(main())
