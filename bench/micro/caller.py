"""The caller's side of the replays over a socket: one conversation, the next turn after the answer of the last.

It is not part of the process whose instructions are counted.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from bench.kernel import BenchError
from bench.load.frames import CLOSE, HEAD_END, TEXT, client_frame, upgrade_request
from bench.load.targets import API_KEY
from bench.micro.material import entries, transcript

__all__ = ["CALLS", "Call", "handshakes", "turns"]

ANSWER_TIMEOUT_S = 30.0
GROWN = 200
INIT = json.dumps({"type": "init", "conversation_id": "conv_replay"}).encode()
NORMAL = b"\x03\xe8"  # 1000
SERVER_CLOSE = b"\x88\x02" + NORMAL

Count = Callable[[bool], object]
"""Called with True when counting begins, and with False when it ends."""


@dataclass(frozen=True, slots=True)
class Call:
    """A replay over a socket, from the caller's side.

    Attributes:
        what: one unit, for the table.
        units: the number of counted units.
        hold: connect to a port and replay this many units.
    """

    what: str
    units: int
    hold: Callable[[int, Count, int], None]


def turns(
    port: int, count: Count, units: int, *, chunks: int, history: int | None, pauses: bool = False, warm_up: int = 50
) -> None:
    """Hold one conversation, and check the answer of each turn.

    Args:
        units: counted turns; `warm_up` turns precede them.
        chunks: of each answer.
        history: messages of each transcript, the new one included; None: it grows to 200, and starts over.
        pauses: whether the answer's stream suspends before each chunk.

    Raises:
        BenchError: an answer was wrong or missing.
    """
    word = "trickle" if pauses else "and"
    asked = _growing(chunks, word) if history is None else _fixed(chunks, word, history)
    with _connected(port) as sock:
        sock.sendall(client_frame(TEXT, INIT))
        for event_id, frame in zip(range(1, warm_up + units + 1), asked, strict=False):
            if event_id == warm_up + 1:
                count(True)
            sock.sendall(frame)
            answer = _read_until(sock, b'"is_final":true}')
            heard = answer.count(b'"event_id":%d,"is_final":false}' % event_id)
            if heard != chunks or not answer.endswith(b'"event_id":%d,"is_final":true}' % event_id):
                raise BenchError(f"turn {event_id} got a wrong answer: {answer[-200:]!r}")
        count(False)


def handshakes(port: int, count: Count, units: int, *, warm_up: int = 20) -> None:
    """Begin and end conversations one after another, all with the same token.

    Raises:
        BenchError: one was not opened, or not closed.
    """
    request = upgrade_request("/ws", API_KEY)
    for number in range(warm_up + units):
        if number == warm_up:
            count(True)
        with _connected(port, request) as sock:
            sock.sendall(client_frame(TEXT, INIT) + client_frame(CLOSE, NORMAL))
            _read_until(sock, SERVER_CLOSE)
            if sock.recv(1):
                raise BenchError("the server said more after its CLOSE")
    count(False)


def _fixed(chunks: int, word: str, history: int) -> Iterator[bytes]:
    old = entries(history + 1)[1:-1]  # the roles count back from the new message
    event_id = 0
    while event_id := event_id + 1:
        yield client_frame(TEXT, transcript([*old, _question(chunks, word, event_id)], event_id))


def _growing(chunks: int, word: str) -> Iterator[bytes]:
    messages: list[dict[str, str]] = []
    event_id = 0
    while event_id := event_id + 1:
        messages.append(_question(chunks, word, event_id))
        yield client_frame(TEXT, transcript(messages, event_id))
        messages.append({"role": "agent", "content": f"It left on Monday, under the number {event_id}."})
        if len(messages) >= GROWN:
            messages = []


def _question(chunks: int, word: str, event_id: int) -> dict[str, str]:
    """The new message, as `load/targets/handler.py` understands it."""
    return {"role": "user", "content": f"{chunks} c{event_id} {word} so when will it be at my door?"}


@contextmanager
def _connected(port: int, request: bytes | None = None) -> Iterator[socket.socket]:
    try:
        with socket.create_connection(("127.0.0.1", port), ANSWER_TIMEOUT_S) as sock:
            sock.sendall(request or upgrade_request("/ws", API_KEY))
            head = _read_until(sock, HEAD_END)
            if b" 101 " not in head:
                raise BenchError(f"the upgrade was answered {head[:40]!r}")
            yield sock
    except OSError as error:
        raise BenchError(f"the server did not answer: {error!r}") from None


def _read_until(sock: socket.socket, end: bytes) -> bytes:
    received = b""
    while not received.endswith(end):
        data = sock.recv(1 << 18)
        if not data:
            raise BenchError(f"the server hung up after {received[-200:]!r}")
        received += data
    return received


CALLS: dict[str, Call] = {
    "turn-1-4": Call("a turn of 1 chunk, 4 messages", 400, partial(turns, chunks=1, history=4)),
    "turn-1-100": Call("a turn of 1 chunk, 100 messages", 400, partial(turns, chunks=1, history=100)),
    "turn-1-growing": Call(f"a turn of 1 chunk, growing to {GROWN}", 2 * GROWN, partial(turns, chunks=1, history=None)),
    "turn-32-4": Call("a turn of 32 chunks, 4 messages", 400, partial(turns, chunks=32, history=4)),
    "turn-32-100": Call("a turn of 32 chunks, 100 messages", 400, partial(turns, chunks=32, history=100)),
    "turn-trickle": Call("a turn of 32 chunks, paused", 100, partial(turns, chunks=32, history=4, pauses=True)),
    "handshake": Call("a conversation without a turn", 200, handshakes),
}
"""By name, in the order of the table."""
