"""Messages of a zygote: those that come with the answer to an order are taken, too."""

from __future__ import annotations

import os
import socket

from se_server.server.shared.control import ControlChannel
from se_server.server.shared.control_messages import Ended, Forked, encode
from se_server.server.shared.scoreboard import Scoreboard
from se_server.server.supervisor.zygote_process import Zygote
from tests.unit.server.supervisor.fakes import make_spec


def test_an_end_beside_its_start_is_kept() -> None:
    """A worker that ends at once is reported with its start: without its end, its place would stay empty."""
    ours, theirs = ControlChannel.pair()
    orders, _ = pair = socket.socketpair()
    board = Scoreboard(slots=1)
    zygote = Zygote(1, make_spec(), board, tuple)
    zygote._channel, zygote._orders = ours, orders
    theirs._socket.send(encode(Forked(12)) + encode(Ended(12, 3)))
    try:
        assert zygote._order({"slot": 0}, []) == Forked(12)
        assert zygote.ended == [(12, 3)]
    finally:
        zygote.close()
        theirs.close()
        for sock in pair:
            sock.close()
        os.close(board.seats.fileno())
