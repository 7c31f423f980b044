"""The FastAPI application on granian: `python -m bench.load.targets.granian_target [OPTION...]` prints `ready PORT`.

Granian's workers each bind the port by number and report it before they listen, so this program finds a port for them
and reports when one of them accepts connections. It uses no CPU afterwards, and SIGTERM ends it.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time

APP = "bench.load.targets.fastapi_app:app"
POLL_S = 0.02


def main(*options: str) -> int:
    with socket.socket() as held:
        # Bound but not listening, with SO_REUSEPORT like granian's sockets: it only reserves the port.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(("127.0.0.1", 0))
        host, port = held.getsockname()
        command = ["-m", "granian", APP, "--interface", "asgi", "--host", host, "--port", str(port), *options]
        server = subprocess.Popen([sys.executable, *command])
        signal.signal(signal.SIGTERM, lambda *_: server.terminate())
        while server.poll() is None:
            try:
                socket.create_connection((host, port)).close()
            except ConnectionRefusedError:
                time.sleep(POLL_S)
            else:
                print(f"ready {port}", flush=True)
                break
        return server.wait()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
