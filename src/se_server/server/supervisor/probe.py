"""The address of a program: a child process runs it up to its `serve()`, before the supervisor opens its sockets."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import time
from contextlib import suppress
from typing import Any

from se_server.errors import ConfigError
from se_server.server.config.config import LISTENING
from se_server.server.config.scripts import Script, Serving
from se_server.server.worker.script import run_script

OTHERS_S = 0.05  # in which further serve() calls of the program come
PROBE_S = 60.0  # a program that takes longer to its serve() gets the default address


def address_of(script: Script, *, use_uvloop: bool) -> dict[str, Any]:
    """Return the options of a program's server that say where to listen; none if it does not come to `serve()`.

    The workers run it again, and report why it fails.

    Raises:
        ConfigError: it serves with several servers.
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
        servers = _read(reader)
        if len(servers) > 1:
            raise ConfigError(
                f"{script.file} serves with {len(servers)} servers: se-server run takes one server of a program; run"
                " one program for each"
            )
        return servers[0] if servers else {}
    finally:
        os.close(reader)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def _run(script: Script, writer: int, *, use_uvloop: bool) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)

    servers: list[dict[str, Any]] = []

    async def report(serving: Serving) -> None:
        servers.append({name: value for name, value in serving.server.options.items() if name in LISTENING})
        if len(servers) == 1:
            await asyncio.sleep(OTHERS_S)
            os.write(writer, json.dumps(servers).encode())
            os._exit(0)  # the program goes on in the workers
        await asyncio.Event().wait()

    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    run_script(script, report, use_uvloop=use_uvloop, takes_several=True)


def _read(reader: int) -> list[dict[str, Any]]:
    until, data = time.monotonic() + PROBE_S, b""
    while select.select([reader], [], [], max(0.0, until - time.monotonic()))[0]:
        if not (part := os.read(reader, 65536)):
            break
        data += part
    return list(json.loads(data)) if data else []
