"""The control channel between supervisor and worker."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator

import pytest

from se_server.server.shared.control import ControlChannel
from se_server.server.shared.control_messages import (
    MAX_LINE_BYTES,
    Ask,
    ControlError,
    Drain,
    Draining,
    Dumped,
    Failed,
    Message,
    Ready,
    Reply,
    Stacks,
    Stopped,
)


@pytest.fixture
def pair() -> Iterator[tuple[ControlChannel, ControlChannel]]:
    ends = ControlChannel.pair()
    yield ends
    for end in ends:
        end.close()


@pytest.fixture
def raw() -> Iterator[tuple[ControlChannel, socket.socket]]:
    """A channel whose other side is a plain socket."""
    one, other = socket.socketpair()
    channel = ControlChannel(one)
    yield channel, other
    channel.close()
    other.close()


@pytest.mark.parametrize(
    "message",
    [Ready(), Failed("no\nluck", "Traceback…\n"), Draining(3), Dumped(), Stopped(), Drain(timeout_s=2.5), Stacks()],
)
def test_a_message_arrives_as_it_was_sent(pair: tuple[ControlChannel, ControlChannel], message: Message) -> None:
    assert pair[0].send(message)
    assert pair[1].receive() == [message]
    assert pair[1].receive() == []
    assert not pair[1].ended


def test_nothing_to_read_does_not_wait(pair: tuple[ControlChannel, ControlChannel]) -> None:
    assert pair[0].receive() == []


def test_messages_come_in_order_and_in_pieces(raw: tuple[ControlChannel, socket.socket]) -> None:
    channel, other = raw
    other.sendall(b'{"kind":"ready"}\n{"kind":"drai')
    assert channel.receive() == [Ready()]
    other.sendall(b'ning","sessions":2}\n')
    assert channel.receive() == [Draining(2)]


def test_the_last_message_arrives_before_the_end(pair: tuple[ControlChannel, ControlChannel]) -> None:
    pair[0].send(Failed("no"))
    pair[0].close()
    assert pair[1].receive() == [Failed("no")]
    assert pair[1].ended
    assert pair[1].receive() == []


def test_end_is_readable(pair: tuple[ControlChannel, ControlChannel]) -> None:
    pair[0].close()
    poll = select.poll()
    poll.register(pair[1].fileno(), select.POLLIN)
    assert poll.poll(0)


def test_sending_to_a_closed_side_returns_false(pair: tuple[ControlChannel, ControlChannel]) -> None:
    pair[1].close()
    assert not pair[0].send(Ready())
    pair[0].close()
    assert not pair[0].send(Ready())


def test_a_side_that_does_not_read_blocks_nobody(pair: tuple[ControlChannel, ControlChannel]) -> None:
    long = Failed("x" * 100_000)
    assert not all(pair[0].send(long) for _ in range(100))


def test_unknown_kinds_and_fields_are_ignored(raw: tuple[ControlChannel, socket.socket]) -> None:
    channel, other = raw
    other.sendall(b'{"kind":"new"}\n{"kind":"drain","timeout_s":1.0,"why":"deploy"}\n{"kind":"draining"}\n')
    assert channel.receive() == [Drain(1.0), Draining(0)]


@pytest.mark.parametrize(
    "line",
    [
        b'{"kind":"draining","sessions":"3"}',
        b'{"kind":"draining","sessions":1.5}',
        b'{"kind":"failed","reason":null}',
        b'{"kind":"drain","timeout_s":[]}',
    ],
)
def test_a_value_of_another_type_is_invalid(raw: tuple[ControlChannel, socket.socket], line: bytes) -> None:
    channel, other = raw
    other.sendall(line + b"\n")
    with pytest.raises(ControlError, match="with a wrong"):
        channel.receive()


@pytest.mark.parametrize("line", [b"hello", b"[]", b"3", b"{}", b'{"kind":"drain"}', b"", b'{"kind":["ready"]}'])
def test_an_invalid_message_is_an_error(raw: tuple[ControlChannel, socket.socket], line: bytes) -> None:
    channel, other = raw
    other.sendall(line + b"\n")
    with pytest.raises(ControlError):
        channel.receive()


def test_an_endless_line_is_an_error(raw: tuple[ControlChannel, socket.socket]) -> None:
    channel, other = raw
    piece = b"x" * 65536
    for _ in range(MAX_LINE_BYTES // len(piece)):
        other.sendall(piece)
        assert channel.receive() == []
    other.sendall(piece)
    with pytest.raises(ControlError, match="too long"):
        channel.receive()


@pytest.mark.parametrize(
    "message",
    [
        Ready("x" * 2 * MAX_LINE_BYTES, "\x00" * MAX_LINE_BYTES),
        Failed("\udcff" * MAX_LINE_BYTES, "\U0001f600" * MAX_LINE_BYTES),
        Ask(1, "close", "x" * 2 * MAX_LINE_BYTES),
        Reply(1, ["x" * 1000] * 2000),
        Reply(1, [["\udc80", None, 1.5, {"\udc80": ("x",)}]]),
    ],
)
def test_no_message_is_too_long(pair: tuple[ControlChannel, ControlChannel], message: Message) -> None:
    assert pair[0].send(message)
    arrived: list[Message] = []
    while not arrived:
        arrived = pair[1].receive()
        pair[0].flush()
    assert type(arrived[0]) is type(message)
    assert not isinstance(arrived[0], Reply) or arrived[0].rows or arrived[0].left_out == 2000


def test_a_message_that_waits_is_sent_whole(pair: tuple[ControlChannel, ControlChannel]) -> None:
    """A side that reads late gets every message, or none of it."""
    sent = [number for number in range(200) if pair[0].send(Failed("x" * 50_000, code=number))]
    assert pair[0].has_unsent
    arrived: list[Message] = []
    while pair[0].has_unsent:
        arrived += pair[1].receive()
        pair[0].flush()
    arrived += pair[1].receive()
    assert [message.code for message in arrived if isinstance(message, Failed)] == sent
    assert 10 < len(sent) < 200
