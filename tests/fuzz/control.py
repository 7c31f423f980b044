"""The control channel: cuts do not change the messages, and each message survives being sent again, within the limit.

An input is a byte that chooses the pieces, and then the bytes that one side has sent.
"""

from __future__ import annotations

import socket

from se_server.server.shared.control import ControlChannel
from se_server.server.shared.control_messages import MAX_LINE_BYTES, ControlError, Message, encode
from tests.fuzz.head import cut


def one_input(data: bytes) -> None:
    seed, stream = data[:1], data[1:]
    whole = received([stream])
    pieces = cut(stream, seed[0] if seed else 0)
    assert received(pieces) == whole, pieces
    messages, _ = whole
    for message in messages:
        line = encode(message)
        assert len(line) <= MAX_LINE_BYTES
        assert received([line]) == ([message], "") or float_of(message)


def float_of(message: Message) -> bool:
    """Whether a message holds a number that JSON cannot carry back unchanged."""
    return any(isinstance(value, float) and value != value for value in vars(message).values())


def received(pieces: list[bytes]) -> tuple[list[Message], str]:
    """Return the messages, and the kind of the error that ended them."""
    one, other = socket.socketpair()
    channel = ControlChannel(one)
    messages: list[Message] = []
    try:
        for piece in pieces:
            other.sendall(piece)
            try:
                messages += channel.receive()
            except ControlError:
                return [], "invalid"  # the messages before it depend on the pieces
    finally:
        channel.close()
        other.close()
    return messages, ""
