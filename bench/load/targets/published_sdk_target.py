"""The published SDK's own server (`elevenlabs` from PyPI) with the handler all targets share.

`python -m bench.load.targets.published_sdk_target {asyncio,uvloop}` prints `ready PORT`. The SDK offers no choice of
the address: it listens on all interfaces, here on a port the system picks.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys

from elevenlabs.speech_engine import SpeechEngineServer

from bench.load.targets.handler import on_transcript

START_TIMEOUT_S = 20.0
POLL_S = 0.01


async def serve() -> None:
    server = SpeechEngineServer(
        port=0, path="/ws", api_key=os.environ["ELEVENLABS_API_KEY"], on_transcript=on_transcript
    )
    serving = asyncio.create_task(server.serve())
    # The SDK does not tell when it listens, nor on which port: its websockets server is all there is to ask.
    for _ in range(int(START_TIMEOUT_S / POLL_S)):
        if server._server is not None or serving.done():
            break
        await asyncio.sleep(POLL_S)
    if server._server is not None:
        port = next(s.getsockname()[1] for s in server._server.sockets if s.family == socket.AF_INET)
        print(f"ready {port}", flush=True)
    await serving


def main(loop: str) -> None:
    if loop == "uvloop":
        import uvloop

        uvloop.run(serve())
    else:
        asyncio.run(serve())


if __name__ == "__main__":
    main(sys.argv[1])
