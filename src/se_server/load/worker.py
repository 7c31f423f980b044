"""The process of a load generator, driven by `LoadProcess` through a pipe.

Command line: `python -m se_server.load.worker FD CORE`. The first input line is the plan, each further line a command;
each gets one line of JSON in reply. A line that arrives during a command ends it early. The end of the input does so,
too, and ends the process.
"""

from __future__ import annotations

import gc
import mmap
import os
import resource
import sys
from collections.abc import Iterator
from typing import Any

import orjson

from se_server.errors import SpeechEngineError
from se_server.load._engine import SLOT_BYTES, Engine
from se_server.load.plan import LoadPlan
from se_server.load.target import Target

STDIN, STDOUT = 0, 1


def main(fd: str, core: str) -> None:
    """Run the generator."""
    if core:
        os.sched_setaffinity(0, {int(core)})
    memory = mmap.mmap(int(fd), SLOT_BYTES)
    os.close(int(fd))
    orders = _orders()
    plan = LoadPlan.from_dict(next(orders))
    _raise_limit(plan.conversations)
    try:
        engine = Engine(plan, Target(plan), memory, STDIN)
    except (SpeechEngineError, ValueError) as error:
        _reply({"failed": str(error)})
        return
    gc.freeze()
    gc.disable()  # nothing here creates cycles, and a collection would look like a pause of the server
    _reply({})
    for order in orders:
        seconds = 0.0
        if order["do"] == "connect":
            seconds = engine.connect(order["timeout_s"], order["per_s"], order["count"])
        elif order["do"] == "run":
            seconds = engine.run(order["seconds"], order["turns"])
        elif order["do"] == "hang_up":
            engine.hang_up()
        else:
            continue  # "stop", which arrived too late
        _reply({"seconds": seconds, "errors": engine.errors, "failures": engine.failures})
    engine.hang_up()
    engine.close()


def _orders() -> Iterator[dict[str, Any]]:
    """Yield the input lines. Reads are unbuffered, because the engine polls the descriptor for further lines."""
    unread = b""
    while data := os.read(STDIN, 1 << 16):
        *lines, unread = (unread + data).split(b"\n")
        for line in lines:
            yield orjson.loads(line)


def _reply(reply: dict[str, Any]) -> None:
    try:
        os.write(STDOUT, orjson.dumps(reply) + b"\n")
    except BrokenPipeError:  # the command that asked has been killed
        sys.exit(1)


def _raise_limit(conversations: int) -> None:
    """Raise the descriptor limit as far as the system allows; a shortage shows when connecting."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = conversations + 64
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


if __name__ == "__main__":
    main(*sys.argv[1:])
