"""The control socket: whatever an operator's program sends, and workers reply, the supervisor answers and goes on.

An input is a request, up to its first line feed, and then the bytes that a worker writes to its control channel.
"""

from __future__ import annotations

import logging
import os
import socket
import time

import orjson

from se_server.server.shared.control_messages import ControlError, Reply
from se_server.server.shared.scoreboard import State
from se_server.server.supervisor.control_socket import MAX_ANSWER_BYTES, Client, ControlSocket
from se_server.server.supervisor.orders import Orders
from tests.unit.server.supervisor.fakes import Stage


class OneRequest(ControlSocket):
    """Serves a client that is there already."""

    def __init__(self) -> None:
        super().__init__(None)
        self.client: Client | None = None

    def take(self) -> list[tuple[Client, dict[str, object]]]:
        client = self.client
        if client is None or client.asked:
            return []
        request = client.receive()
        return [] if request is None else [(client, request)]


def one_input(data: bytes) -> None:
    logging.disable(logging.CRITICAL)
    request, _, written = data.partition(b"\n")
    stage = Stage(workers=2)
    stage.play("begin 2", "ready 0.1", "ready 1.1")
    ours, theirs = socket.socketpair()
    control = OneRequest()
    orders = Orders(control, stage.pool, stage.rollout, reload=lambda: "", stop=lambda: "no", reopen_log=lambda: "")
    try:
        control.client = client = Client(ours, time.monotonic())
        theirs.sendall(request + b"\n")
        orders.serve()
        for record in stage.pool:
            stage.pool.sent_to(record)
        record = stage.worker(0, 1)
        stage.pool.ends[record.pid]._socket.send(written)
        try:
            messages = record.channel.receive()
        except ControlError:
            messages = []
        for message in messages:
            if isinstance(message, Reply):
                message = Reply(orders._asked, message.rows, message.left_out, message.more)
                orders.take_reply(record, message)
                orders.take_reply(stage.worker(1, 1), message)
        orders.serve()
        assert all(each.state in State for each in stage.pool)
        theirs.setblocking(False)
        try:
            answer = theirs.recv(MAX_ANSWER_BYTES)
        except BlockingIOError:
            return  # a worker has not replied
        assert not answer or client.closed or isinstance(orjson.loads(answer), dict)
    finally:
        ours.close()
        theirs.close()
        for end in stage.pool.ends.values():
            end.close()
        stage.pool.close()
        os.close(stage.pool.scoreboard.seats.fileno())  # a supervisor keeps its seats for as long as it lives
        logging.disable(logging.NOTSET)
