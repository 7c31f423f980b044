"""picows at its best, from Cython: `bare/picows_limit.pyx` on uvloop.

`python -m bench.load.targets.picows_cython_target` prints `ready PORT`.
"""

from __future__ import annotations

import sys

import uvloop
from picows import ws_create_server

from bench.load.targets import bare


async def serve() -> None:
    sys.path.insert(0, str(bare.picows_folder()))
    from picows_limit import Session

    server = await ws_create_server(lambda request: Session(), "127.0.0.1", 0, backlog=4096)
    print(f"ready {server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve())
