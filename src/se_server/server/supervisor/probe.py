"""The address of a program: a child process runs it up to its `serve()`, before the supervisor opens its sockets."""

from __future__ import annotations

import json
import os
import select
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from se_server.server.config.config import LISTENING
from se_server.server.config.scripts import Script, Serving
from se_server.server.worker.script import run_script

PROBE_S = 60.0  # a program that takes longer to its serve() gets the default address


def addresses_of(script: Script, *, use_uvloop: bool) -> list[dict[str, Any]]:
    """Return the options of each server of a program that say where to listen; none if it does not come to `serve()`.

    The workers run it again, and report why it fails.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        with suppress(BaseException):
            os.close(reader)
            _run(script, writer, use_uvloop=use_uvloop)
        os._exit(0)
    os.close(writer)
    try:
        return _read(reader)
    finally:
        os.close(reader)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _run(script: Script, writer: int, *, use_uvloop: bool) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)

    async def report(servings: Sequence[Serving]) -> None:
        servers = [
            {name: value for name, value in serving.server.options.items() if name in LISTENING} for serving in servings
        ]
        os.write(writer, json.dumps(servers).encode())
        os._exit(0)  # the program goes on in the workers

    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    run_script(script, report, use_uvloop=use_uvloop)


def _read(reader: int) -> list[dict[str, Any]]:
    until, data = time.monotonic() + PROBE_S, b""
    while select.select([reader], [], [], max(0.0, until - time.monotonic()))[0]:
        if not (part := os.read(reader, 65536)):
            break
        data += part
    return list(json.loads(data)) if data else []
