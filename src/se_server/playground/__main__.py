"""The process of the playground; started by `se-server --playground`, which writes lines of JSON to its stdin.

The first line describes the server and has the descriptor of the page's socket. A line comes when the server is ready.
The end of the input is the end of the server, and of this process.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import socket
import sys
import webbrowser
from contextlib import suppress
from typing import Any

import httpx
import orjson
import uvloop

from se_server.observe.logs import setup_logging
from se_server.playground.app import Playground
from se_server.playground.hub import Hub
from se_server.playground.ledger import Ledger
from se_server.playground.server_side import ServerSide
from se_server.server.observer.web import WebServer

logger = logging.getLogger("se_server.playground")

LOOK_S = 0.5
"""The interval at which the server is asked whether it takes conversations, while somebody holds one."""


async def serve(given: dict[str, Any], lines: asyncio.StreamReader) -> None:
    """Serve the page until the input ends."""
    server = ServerSide.of(given["server"])
    ledger = Ledger(**given["observer"])
    hub = Hub(server, ledger)
    app = Playground(hub, server).app(given["token"])
    sock = socket.socket(fileno=given["descriptor"])
    web = WebServer(app)
    serving = asyncio.create_task(web.serve(sockets=[sock]), name="serves the page")
    watching = asyncio.create_task(_watch(server, hub), name="watches the server")
    while line := await lines.readline():
        message = orjson.loads(line)
        server.url = message["url"]
        hub.tell_all("ready")
        if message.get("open"):
            await asyncio.to_thread(_open, message["open"])
    watching.cancel()
    await hub.stop()
    web.should_exit = True
    await serving
    await ledger.close()
    shutil.rmtree(given["folder"], ignore_errors=True)  # a server that was killed leaves it behind


async def _watch(server: ServerSide, hub: Hub) -> None:
    """Hang up when the server wants to stop, so that it need not wait for a page that somebody left open."""
    async with httpx.AsyncClient(trust_env=False, timeout=2.0, verify=False) as client:
        was_there = True
        while True:
            await asyncio.sleep(LOOK_S)
            if not server.url or not (hub.open_talks or not was_there):
                continue
            base = "http" + server.url.removeprefix("ws").rpartition("/")[0]
            is_there = True
            try:
                response = await client.get(str(httpx.URL(base).copy_with(path="/readyz")))
                # Other reasons pass: a server that is full, or whose workers are all busy, goes on.
                is_there = response.status_code != 503 or "drain" not in response.text
            except httpx.TransportError:
                is_there = False
            if is_there != was_there:
                was_there = is_there
                hub.tell_all("server", is_there=is_there)
                if not is_there:
                    hub.close_all()


def _open(url: str) -> None:
    """Open the page in a browser with a window; a browser of the terminal would take that from the server."""
    has_windows = sys.platform == "darwin" or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER", "WSL_DISTRO_NAME")
    )
    if has_windows:
        with suppress(webbrowser.Error, OSError):
            webbrowser.open(url)


async def _main() -> None:
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader(limit=1024 * 1024)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    given = orjson.loads(await lines.readline())
    setup_logging(given["log_level"], given["log_format"])
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)
    await serve(given, lines)


def main() -> None:
    """Run the process."""
    # Ctrl+C in a terminal reaches the whole process group; the server ends this process.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with suppress(OSError):
        os.nice(5)  # the server comes first
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.run_until_complete(_main())


if __name__ == "__main__":
    main()
