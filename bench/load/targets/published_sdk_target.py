"""The published SDK's own server (`elevenlabs` from PyPI), with the handler that all targets share, or with another.

`python -m bench.load.targets.published_sdk_target {asyncio,uvloop} [MODULE]` prints `ready PORT`; MODULE has an
`on_transcript`. `BENCH_WEBSOCKETS=picows.websockets` has it served by picows' module of the same interface in place of
`websockets`. The SDK offers no choice of the address: it
listens on all interfaces, here on a port the system picks.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import socket
import sys

from elevenlabs.speech_engine import SpeechEngineServer

DEFAULT_HANDLER = "bench.load.targets.handler"
START_TIMEOUT_S = 20.0
POLL_S = 0.01


def replace_websockets(package: str) -> None:
    """Have the SDK, which imports it as it starts, find another package's server."""
    server = f"{package}.asyncio.server"
    sys.modules["websockets.asyncio.server"] = importlib.import_module(server)


async def serve(module: str) -> None:
    on_transcript = importlib.import_module(module).on_transcript
    server = SpeechEngineServer(
        port=0, path="/ws", api_key=os.environ["ELEVENLABS_API_KEY"], on_transcript=on_transcript
    )
    serving = asyncio.create_task(server.serve())
    # The SDK reports neither readiness nor its port; only its websockets server knows them.
    for _ in range(int(START_TIMEOUT_S / POLL_S)):
        if server._server is not None or serving.done():
            break
        await asyncio.sleep(POLL_S)
    if server._server is not None:
        port = next(s.getsockname()[1] for s in server._server.sockets if s.family == socket.AF_INET)
        print(f"ready {port}", flush=True)
    await serving


def main(loop: str, module: str = DEFAULT_HANDLER) -> None:
    if package := os.environ.get("BENCH_WEBSOCKETS"):
        replace_websockets(package)
    if loop == "uvloop":
        import uvloop

        uvloop.run(serve(module))
    else:
        asyncio.run(serve(module))


if __name__ == "__main__":
    main(*sys.argv[1:])
