"""The things that an upgrade hands over: the variable that names them, and the table of seats of another supervisor.

An input is a byte that chooses what is read; then the variable's text, or the table's first bytes.
"""

from __future__ import annotations

import mmap

from se_server.errors import ConfigError
from se_server.server.shared._board import LINE_BYTES, Seats
from se_server.server.supervisor.upgrade import VARIABLE, Handover

BLOCKS, LINES = 2, 9
SIZE = BLOCKS * LINES * LINE_BYTES


def one_input(data: bytes) -> None:
    kind, rest = data[:1], data[1:]
    if kind < b"\x80":
        environ = {VARIABLE: rest.decode("utf-8", "surrogateescape")}
        try:
            inherited = Handover.take(environ)
        except ConfigError as error:
            assert str(error).isprintable()
        else:
            assert inherited is not None
            assert not inherited.sockets  # this process has none
        assert not environ
        return
    memory = mmap.mmap(-1, SIZE)
    memory[: min(len(rest), SIZE)] = rest[:SIZE]
    seats = Seats(memory, BLOCKS, LINES)
    for block in range(BLOCKS):
        assert 0 <= seats.in_use(block) < LINES
    seats.taken()
    seats.held()
    seats.use(0, 1)
    seats.claim(0, 1, 10)
    seats.hold(0, 1, 3)
    for block in range(BLOCKS):
        seats.clear(block)
    assert (seats.taken(), seats.held()) == (0, 0)
