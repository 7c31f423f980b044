"""The processes of the supervisor that run code of the user: whatever they write, the supervisor goes on.

An input is a byte that chooses the process, a zygote or a worker that starts; then the bytes that it has written.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Sequence

from se_server.errors import ConfigError
from se_server.server.config.config import LISTENING, listening, read_addresses
from se_server.server.shared.control import ControlChannel
from se_server.server.shared.scoreboard import Scoreboard, State
from se_server.server.supervisor.worker_events import WorkerEvents
from se_server.server.supervisor.zygote_process import Zygote, ZygoteGone
from tests.unit.server.supervisor.fakes import Stage, make_spec


def one_input(data: bytes) -> None:
    logging.disable(logging.CRITICAL)
    (from_zygote if data[:1] < b"\x80" else from_worker)(data[1:])
    logging.disable(logging.NOTSET)


def from_zygote(written: bytes) -> None:
    """The zygote has been ordered to fork, and ends after what it has written."""
    ours, theirs = socket.socketpair()
    orders, _ = pair = socket.socketpair()
    scoreboard = Scoreboard(slots=1)
    zygote = Zygote(1, make_spec(), scoreboard, tuple)
    zygote._channel, zygote._orders = ControlChannel(ours), orders
    try:
        theirs.sendall(written)
        theirs.close()
        try:
            forked = zygote._order({"slot": 0}, [])
        except ZygoteGone:
            assert not zygote.is_ready
        else:
            assert isinstance(forked.pid, int)
            assert isinstance(forked.problem, str)
        zygote.receive()
        for pid, code in zygote.ended:
            assert isinstance(pid, int)
            assert isinstance(code, int)
    finally:
        zygote.close()
        for sock in pair:
            sock.close()
        os.close(scoreboard.seats.fileno())


def from_worker(written: bytes) -> None:
    """A worker starts, and the first one of a program may say where to listen."""
    stage = Stage(workers=2)
    stage.play("begin 2")
    config = make_spec(app="run agent.py").config

    def open_sockets(reported: Sequence[object]) -> None:
        try:
            for address in read_addresses(reported):
                assert set(address) <= set(LISTENING)
                assert 0 <= listening(config, address).listening.port <= 65535
        except ConfigError as error:
            assert str(error).isprintable()

    events = WorkerEvents(stage.pool, stage.rollout, lambda _record, _reply: None, open_sockets)
    record = stage.worker(0, 1)
    try:
        stage.pool.ends[record.pid]._socket.send(written)
        events.receive(record)
        assert all(each.state in State for each in stage.pool)
    finally:
        for end in stage.pool.ends.values():
            end.close()
        stage.pool.close()
        os.close(stage.pool.scoreboard.seats.fileno())
