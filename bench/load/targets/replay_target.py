"""Our server in one process on uvloop, all options at their defaults: what `bench.instructions` runs under valgrind.

`python -m bench.load.targets.replay_target` prints `ready PORT`, and ends with SIGTERM. It uses the public names only,
so that it also runs on an older `se_server` that stands first on the path.
"""

from __future__ import annotations

import asyncio

import uvloop

from bench.load.targets import API_KEY
from bench.load.targets.handler import on_transcript
from se_server import SpeechEngineServer


async def serve() -> None:
    server = SpeechEngineServer(port=0, host="127.0.0.1", api_key=API_KEY, on_transcript=on_transcript)
    serving = asyncio.create_task(server.serve())
    await server.wait_ready()
    print(f"ready {server.port}", flush=True)
    await serving


if __name__ == "__main__":
    uvloop.run(serve())
