"""The memory that conversations cost a worker, as its operator would see it."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from se_server.auth import AUTHORIZATION_HEADER, sign_token
from se_server.server.shared.procfs import rss_bytes_of
from tests.frames import TEXT, frame
from tests.helpers import TEST_API_KEY, ServerProcess, init_message, running_server, transcript_message

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="only /proc tells"),
    pytest.mark.skipif("PYTHONMALLOC" in os.environ, reason="another allocator has other figures"),
]

APP = """
async def on_transcript(transcript, session):
    await session.send_response("yes")
"""
CONVERSATIONS = 500
# The callers come to speak one after the other, and answer no pings.
PATIENT = ("--first-message-timeout-s", "600", "--ping-interval-s", "600")
LARGE_BYTES = 200_000
PING, PONG = b'{"type": "ping"}', b'{"type":"pong"}'
FINAL = b'"is_final":true}'


class Callers:
    """Many conversations with one worker."""

    def __init__(self, server: ServerProcess) -> None:
        (self._worker,) = server.worker_pids()
        self._address = ("127.0.0.1", server.port)
        self._head = (
            "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
            f"{AUTHORIZATION_HEADER}: {sign_token(TEST_API_KEY)}\r\n\r\n"
        ).encode()
        self.sockets: list[socket.socket] = []

    def connect(self, count: int) -> list[socket.socket]:
        for _ in range(count):
            self.sockets.append(socket.create_connection(self._address, 10))
            self.sockets[-1].sendall(self._head)
            read(self.sockets[-1], b"\r\n\r\n")
        return self.sockets[-count:]

    def rss_bytes(self) -> int:
        found = rss_bytes_of(self._worker)
        assert found is not None
        return found

    def falls_below(self, rss_bytes: int) -> bool:
        """Whether the worker's memory gets there: what a message needed may be given back a little after the answer."""
        deadline = time.monotonic() + 5
        while self.rss_bytes() > rss_bytes:
            if time.monotonic() > deadline:
                return False
        return True


def read(sock: socket.socket, end: bytes) -> None:
    received = b""
    while not received.endswith(end):
        data = sock.recv(65536)
        assert data, f"the server hung up after {received!r}"
        received += data


@contextmanager
def callers(tmp_path: object) -> Iterator[Callers]:
    app = f"{tmp_path}/app.py"
    with open(app, "w", encoding="utf-8") as file:
        file.write(APP)
    with running_server(*PATIENT, app=app, workers=1) as server:
        calling = Callers(server)
        try:
            yield calling
        finally:
            for sock in calling.sockets:
                sock.close()


def say(sockets: list[socket.socket], turn: int) -> None:
    history = [f"It is the {number}th thing that is said here, and not the last one." for number in range(turn * 2 - 1)]
    for number, sock in enumerate(sockets):
        init = frame(TEXT, init_message(f"conv_{number}").encode()) if turn == 1 else b""
        sock.sendall(init + frame(TEXT, transcript_message(*history, event_id=turn).encode()))
        read(sock, FINAL)


def test_an_idle_conversation_is_small(tmp_path: object) -> None:
    with callers(tmp_path) as calling:
        say(calling.connect(100), 1)
        before = calling.rss_bytes()
        quiet = calling.connect(CONVERSATIONS)
        say(quiet, 1)
        say(quiet, 2)
        each = (calling.rss_bytes() - before) / CONVERSATIONS
        assert each < 9 * 1024, f"{each:.0f} bytes"


def test_what_a_large_message_needed_is_given_back(tmp_path: object) -> None:
    large = frame(TEXT, b'{"type": "ping", "padding": "' + b"x" * LARGE_BYTES + b'"}')
    with callers(tmp_path) as calling:
        sockets = calling.connect(CONVERSATIONS)
        say(sockets, 1)
        for sock in sockets[:3]:  # what the worker needs for the first ones it may keep
            sock.sendall(large)
            read(sock, PONG)
        before = calling.rss_bytes()
        for sock in sockets[3:]:
            sock.sendall(large)
            read(sock, PONG)
        for sock in sockets:
            sock.sendall(frame(TEXT, PING))
            read(sock, PONG)
        assert calling.falls_below(before + CONVERSATIONS * 4096), f"{before} bytes, now {calling.rss_bytes()}"


def test_the_garbage_collector_skips_start_up_objects(tmp_path: object) -> None:
    """The garbage collector runs in a worker and leaves out what was there at the start."""
    app = f"{tmp_path}/app.py"
    with open(app, "w", encoding="utf-8") as file:
        file.write(
            "import gc\n\nKEPT = [[]]\n\n\n"
            "class Loop:\n    left = 0\n\n    def __init__(self):\n        self.me = self\n"
            "        Loop.left += 1\n\n    def __del__(self):\n        Loop.left -= 1\n\n\n"
            "async def on_transcript(transcript, session):\n"
            "    for _ in range(20_000):\n        Loop()\n"
            "    collected, frozen = Loop.left < 20_000, all(o is not KEPT for o in gc.get_objects())\n"
            "    await session.send_response(f'{collected} {frozen}')\n"
        )
    with running_server(app=app, workers=1) as server:
        calling = Callers(server)
        (sock,) = calling.connect(1)
        sock.sendall(frame(TEXT, transcript_message("hello", event_id=1).encode()))
        received = b""
        while FINAL not in received:
            received += sock.recv(65536)
        sock.close()
    assert b"True True" in received
