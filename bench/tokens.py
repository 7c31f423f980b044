"""The CPU time of a token, from the LLM provider's socket to the caller's frame, by the client that reads it.

`python -m bench.tokens`: some ten minutes. 40 conversations hear answers of 50 tokens a second. The server has a core
of its own; a fake provider, in its own process, and the callers share the other. CPU time is the scheduler's, over
some seconds in which all conversations stream; the published SDK (`elevenlabs`) on uvloop takes turns with se-server in
the same run. Figures are medians of the repetitions.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import uvloop

from bench.kernel import BenchError, Cores, Server, Target, in_turn, pick_cores, running, settle
from bench.llm_paths import BARE_PATHS, PATHS, TOKENS_PER_S, is_installed
from bench.load.frames import HEAD_END, TEXT, client_frame, upgrade_request
from bench.load.targets import API_KEY, TARGETS, certificate
from tests.providers import RemoteProvider, provider_process

__all__ = ["BARE", "TIMEOUT_S", "Caller", "Side", "chosen", "dial", "measure_path", "servers", "serving"]

CONVERSATIONS = 40
SETTLE_S, WINDOW_S = 1.5, 6.0
TIMEOUT_S = 60.0
HANDLER = Path(__file__).parent / "load" / "targets" / "llm_handler.py"
PUBLISHED = "published SDK, uvloop"
BARE = Target(name="bare protocols, uvloop", command=(sys.executable, "-m", "bench.load.targets.bare_tokens_target"))
BARE_TASK = "bare task over it, uvloop"
_TEXT, _FINAL = b'"is_final":false}', b'"is_final":true}'
_SPACED_TEXT, _SPACED_FINAL = b'"is_final": false}', b'"is_final": true}'


class Caller(asyncio.Protocol):
    """A caller of one turn; it notes when each text came."""

    def __init__(self, number: int, question: str, port: int) -> None:
        said = [{"role": "user", "content": question}]
        ask = {"type": "user_transcript", "user_transcript": said, "event_id": 1}
        self.question = question
        self._hello = [
            upgrade_request("/ws", API_KEY),
            client_frame(TEXT, json.dumps({"type": "init", "conversation_id": f"conv_{number}"}).encode()),
            client_frame(TEXT, json.dumps(ask).encode()),
        ]
        self.times_s: list[float] = []
        self.is_up = False
        self.begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._tail = b""
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.write(self._hello[0])

    def data_received(self, data: bytes) -> None:
        data = self._tail + data
        if not self.is_up:
            if HEAD_END not in data:
                self._tail = data
                return
            head, _, data = data.partition(HEAD_END)
            if not head.startswith(b"HTTP/1.1 101"):
                self._end(BenchError(f"the server refused a conversation: {head[:80]!r}"))
                return
            self.is_up = True
            self._transport.write(b"".join(self._hello[1:]))
        now = time.monotonic()
        texts = data.count(_TEXT) + data.count(_SPACED_TEXT)
        self.times_s += [now] * texts
        if texts and not self.begun.done():
            self.begun.set_result(None)
        if _FINAL in data or _SPACED_FINAL in data:
            self._end(None)
        self._tail = data[-(len(_SPACED_TEXT) - 1) :]
        if self._tail.endswith(b"}"):
            self._tail = b""

    def connection_lost(self, error: Exception | None) -> None:
        self._end(BenchError("the server ended a conversation"))

    def hang_up(self) -> None:
        """Cut the connection; nobody waits for the answer's end."""
        self.over.cancel()
        self._transport.abort()

    def _end(self, error: Exception | None) -> None:
        if not self.begun.done():
            self.begun.set_result(None)
        settle(self.over, error)
        self._transport.close()


@dataclass(frozen=True)
class Side:
    """A server under test.

    Attributes:
        name: its name in the tables.
        target: its command.
        path: a name of `PATHS`.
        is_ours: whether it is se-server.
        options: keywords of `send_response`.
        variant: follows the name of the path for the server.
    """

    name: str
    target: Target
    path: str
    is_ours: bool
    options: dict[str, Any] = field(default_factory=dict)
    variant: str = ""


def servers(path: str, *, objects: bool) -> list[Side]:
    """Return the servers to compare on a path: ours, ours without takeover, bare protocols, the published SDK's."""
    known = PATHS[path]
    ours = TARGETS["se-server"]
    ours = dataclasses.replace(
        ours, command=tuple(str(HANDLER) if part.endswith("handler.py") else part for part in ours.command)
    )
    published = TARGETS[PUBLISHED]
    published = dataclasses.replace(published, command=(*published.command, "bench.load.targets.llm_handler"))
    sides = [Side("se-server", ours, path, True)]
    if objects and known.has_takeover:
        sides.append(Side("se-server, takeover=False", ours, path, True, {"takeover": False}))
    if path in BARE_PATHS:
        sides.append(Side(BARE.name, BARE, path, False))
    if path == "plain generator":
        sides.append(Side(BARE_TASK, BARE, path, False, variant=" (task)"))
    return [*sides, Side(PUBLISHED, published, path, False)]


@contextmanager
def serving(side: Side, base_url: Callable[[str], str], cores: Cores) -> Iterator[Server]:
    """Run a server on its core."""
    path = side.path + side.variant
    known = PATHS[side.path]
    if not side.is_ours and known.published is not None:
        path = f"{path} (published)"
    apis = ("openai", "anthropic", "gemini", "mistral", "groq", "together")
    settings = {"path": path, "urls": {api: base_url(api) for api in apis}, "options": side.options}
    environment = {
        **side.target.environment,
        "SE_BENCH_LLM": json.dumps(settings),
        "PYTHONPATH": os.pathsep.join(sys.path),
        "SSL_CERT_FILE": str(certificate.CA) if base_url("openai").startswith("https") else "",
    }
    if not environment["SSL_CERT_FILE"]:
        del environment["SSL_CERT_FILE"]
    with running(dataclasses.replace(side.target, environment=environment), cores.server) as server:
        yield server


async def converse(server: Server, provider: RemoteProvider, conversations: int, window_s: float) -> float:
    """Hold conversations of one answer each, and return the microseconds a token while all of them stream."""
    tokens = int((SETTLE_S * 2 + window_s + 1.5) * TOKENS_PER_S)
    await asyncio.to_thread(provider.script, text=["morning "] * tokens, tokens_per_s=TOKENS_PER_S)
    # The first turn makes the client, which imports its package.
    for number, count in ((0, 3), (1, 3)):
        await asyncio.to_thread(provider.script, f"warm{number}-{count}", text=["morning "] * count)
        await _call(server, number, f"warm{number}-{count}")
    await asyncio.to_thread(provider.script, text=["morning "] * tokens, tokens_per_s=TOKENS_PER_S)
    callers = []
    for number in range(conversations):
        caller = await dial(server, number, f"m{number}-{tokens}")
        callers.append(caller)
        await asyncio.sleep(1 / conversations)
    await asyncio.wait_for(asyncio.gather(*(caller.begun for caller in callers)), TIMEOUT_S)
    await asyncio.sleep(SETTLE_S)
    count = sum(len(caller.times_s) for caller in callers)
    cpu = server.cpu()
    await asyncio.sleep(window_s)
    spent = server.cpu().since(cpu)
    count = sum(len(caller.times_s) for caller in callers) - count
    await asyncio.wait_for(asyncio.gather(*(caller.over for caller in callers)), TIMEOUT_S)
    await asyncio.to_thread(provider.reset)
    return spent / 1000 / max(count, 1)


async def dial(server: Server, number: int, question: str, kind: type[Caller] = Caller) -> Caller:
    """Begin a conversation whose user asks once."""
    loop = asyncio.get_running_loop()
    _, caller = await loop.create_connection(lambda: kind(number, question, server.port), "127.0.0.1", server.port)
    return caller


async def _call(server: Server, number: int, question: str) -> None:
    caller = await dial(server, number, question)
    await asyncio.wait_for(caller.over, TIMEOUT_S)


def measure_path(side: Side, provider: RemoteProvider, cores: Cores, conversations: int, window_s: float) -> float:
    """Return the microseconds a token of one server on one path."""
    with serving(side, provider.base_url, cores) as server:
        return uvloop.run(converse(server, provider, conversations, window_s))


def cost(options: argparse.Namespace, cores: Cores) -> int:
    """Print the table of microseconds a token."""
    paths = chosen(options.paths)
    print(f"{'microseconds a token' + (', TLS' if options.tls else ''):38}{'':26}median  (all)", flush=True)
    with _provider(options.tls) as provider:
        for path in paths:
            sides = servers(path, objects=options.objects)
            figures: dict[str, list[float]] = {side.name: [] for side in sides}
            for repetition in range(options.repetitions):
                for side in in_turn(sides, repetition):
                    figures[side.name].append(
                        measure_path(side, provider, cores, options.conversations, options.window)
                    )
            base = median(figures[PUBLISHED])
            for side in sides:
                taken = figures[side.name]
                ratio = f"{base / median(taken):5.2f}x less" if side.name != PUBLISHED and base else ""
                if side.name == PUBLISHED and not base:
                    ratio = "speaks nothing of it"
                every = " ".join(f"{us:.0f}" for us in taken)
                print(f"{path:38}{side.name:26}{median(taken):6.1f}  ({every})  {ratio}", flush=True)
    return 0


def chosen(names: Sequence[str]) -> list[str]:
    """Return the paths to measure: those whose packages are installed, or those that were named."""
    unknown = set(names) - PATHS.keys()
    if unknown:
        raise BenchError(f"no path is called {', '.join(sorted(unknown))}; the paths: {', '.join(PATHS)}")
    return [name for name, path in PATHS.items() if is_installed(path) and (not names or name in names)]


@contextmanager
def _provider(tls: bool) -> Iterator[RemoteProvider]:
    if not tls:
        with provider_process() as provider:
            yield provider
        return
    certificate.make_certificate()
    os.environ["SSL_CERT_FILE"] = str(certificate.CA)
    with provider_process("--certificate", str(certificate.CHAIN), "--key", str(certificate.KEY)) as provider:
        yield provider


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m bench.tokens", description=__doc__)
    parser.add_argument("--path", dest="paths", action="append", default=[], help="only this one; may be repeated")
    parser.add_argument("--tls", action="store_true", help="the provider speaks TLS")
    parser.add_argument("--objects", action="store_true", help="measure se-server with takeover=False, too")
    parser.add_argument("--conversations", type=int, default=CONVERSATIONS)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--window", type=float, default=WINDOW_S, help="seconds that are measured")
    options = parser.parse_args()
    try:
        cores = pick_cores()
        return cost(options, cores)
    except BenchError as error:
        print(f"bench.tokens: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
