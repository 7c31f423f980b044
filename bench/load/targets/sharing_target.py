"""`se-server`, with another way of sharing connections: `python -m bench.load.targets.sharing_target WAY`.

`gate` is the product as it is. With `plain` all workers accept from the shared queue regardless of their load, and with
`reuseport` the kernel spreads connections over a queue for each worker. The other arguments are those of `se-server`.
"""

from __future__ import annotations

import socket
import sys
from dataclasses import replace
from typing import Any

from se_server.cli.server import main
from se_server.server.door.placement import Placement
from se_server.server.listen import sockets
from se_server.server.shared.control import ControlChannel
from se_server.server.shared.scoreboard import Slot
from se_server.server.supervisor import launch, places
from se_server.server.worker.spec import WorkerSpec
from se_server.server.worker.worker import run_worker

__all__ = ["WAYS"]

WAYS = ("gate", "plain", "reuseport")


def _take_whatever_comes() -> None:
    Placement.pause_s = lambda self, listen_socket: 0.0  # type: ignore[method-assign]


def _bound(address: Any, family: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setblocking(False)
    sock.bind(address)
    return sock


def _use_a_queue_for_each_worker() -> None:
    def hold(host: str | None, port: int) -> list[socket.socket]:
        # Bound but not listening, it reserves the port and gets no connection.
        return [_bound((host, port), socket.AF_INET)]

    def run(spec: WorkerSpec, slot: Slot, channel: ControlChannel) -> int:
        own = tuple(_bound(sock.getsockname(), sock.family) for sock in spec.listen_sockets)
        for sock in own:
            sock.listen(sockets.BACKLOG)
        return run_worker(replace(spec, listen_sockets=own), slot, channel)

    places.bind = hold  # type: ignore[assignment]
    launch.run_worker = run


if __name__ == "__main__":
    way = sys.argv.pop(1)
    if way != "gate":
        _take_whatever_comes()
    if way == "reuseport":
        _use_a_queue_for_each_worker()
    main()
