"""The process under valgrind: our server on uvloop, all options but the limits at their defaults, and the replays.

`python -m bench.micro.target` prints `ready PORT`, and obeys lines on its standard input: `run NAME`, or `begin` and
`end` around a caller's requests. It ends with its input. The server uses public names only, so that this program also
runs an older `se_server` that is first on the path. With `--observed` it also writes what an observer reads: events,
the shapes or texts of recordings, or the ids of traces.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import mmap
import os
import signal
import sys
import traceback
from typing import Any

import uvloop

from bench.load.targets import API_KEY
from bench.load.targets.handler import on_transcript
from bench.micro.in_memory import MUCH_WORK, UNLIMITED
from bench.micro.replays import REPLAYS, Round
from se_server import SpeechEngineServer

__all__ = ["MARK", "OBSERVED"]

MARK = "getloadavg"
"""The C function whose call makes callgrind write its counts: nothing else calls it."""

WARM_UP_ROUNDS = 3
OBSERVED = ("events", "shape", "full", "traces")
TAPE_BYTES = 64 << 20
"""Room for the messages of all replays: nobody reads them."""


def mark() -> None:
    """Make callgrind write its counts and start from zero."""
    os.getloadavg()


def say(line: str) -> None:
    print(line, flush=True)


async def run(name: str) -> None:
    """Run a replay between two marks."""
    try:
        replay = REPLAYS[name]
        round_ = replay.make()
        await _repeat(round_, WARM_UP_ROUNDS)
        _settle()
        mark()
        await _repeat(round_, replay.rounds)
        mark()
    except Exception as error:
        traceback.print_exc()
        say(f"failed {type(error).__name__}: {error}")
    else:
        say("done")


async def _repeat(round_: Round, times: int) -> None:
    if inspect.iscoroutinefunction(round_):
        for _ in range(times):
            await round_()
    else:
        for _ in range(times):
            round_()


def _settle() -> None:
    """Empty the collector, so that its work during a replay belongs to the replay."""
    gc.collect()
    gc.freeze()


def observed(what: str) -> Any:
    """Return counters with a ring, as a worker has them with `--admin`, `--record` or `--traces`.

    Args:
        what: one of `OBSERVED`.
    """
    from se_server.telemetry._ring import RING_BYTES, Ring
    from se_server.types import Counters

    memory = mmap.mmap(-1, RING_BYTES)
    if what == "events":
        return Counters(ring=Ring(memory))
    if what == "traces":
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

        from se_server.conversation.tracing import TurnTracer

        provider = TracerProvider(sampler=ParentBased(TraceIdRatioBased(0.1)))
        ring = Ring(memory)
        ring.tracer = TurnTracer(provider.sampler, provider.id_generator)
        return Counters(ring=ring)
    from se_server.telemetry._tape import Tape

    tape = Tape(mmap.mmap(-1, TAPE_BYTES), has_events=True) if what == "full" else None
    return Counters(ring=Ring(memory, key=bytes(16), tape=tape))


def make_server() -> SpeechEngineServer:
    """Make the server, with limits that no replay reaches."""
    options: dict[str, Any] = {"port": 0, "host": "127.0.0.1", "api_key": API_KEY, "on_transcript": on_transcript}
    try:
        return SpeechEngineServer(**options, **UNLIMITED, **MUCH_WORK)
    except TypeError:  # an older version, without a budget of work
        return SpeechEngineServer(**options, **UNLIMITED)


async def serve() -> None:
    server = make_server()
    if "--observed" in sys.argv:
        server.stats = observed(sys.argv[-1])
    serving = asyncio.create_task(server.serve())
    await server.wait_ready()
    loop = asyncio.get_running_loop()
    runs: set[asyncio.Task[None]] = set()

    def obey() -> None:
        orders = os.read(sys.stdin.fileno(), 4096).decode()
        if not orders:
            loop.remove_reader(sys.stdin.fileno())
            signal.raise_signal(signal.SIGTERM)
        elif orders in ("begin\n", "end\n"):
            if orders == "begin\n":
                _settle()
            mark()
            say("done")
        else:
            runs.add(asyncio.create_task(run(orders.split()[1])))

    loop.add_reader(sys.stdin.fileno(), obey)
    say(f"ready {server.port}")
    await serving


if __name__ == "__main__":
    uvloop.run(serve())
