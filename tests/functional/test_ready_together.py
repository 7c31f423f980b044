"""Handshakes that are ready in the same step of the loop: the work is spread, and all are served in their turn."""

from __future__ import annotations

import asyncio
import gc
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from se_server.auth import AUTHORIZATION_HEADER, TokenVerifier, sign_token
from se_server.server.door.access import Access
from se_server.server.door.admission import Capacity
from se_server.server.door.door import Door
from se_server.server.door.networks import proxies
from se_server.server.door.pacer import Pacer
from se_server.server.listen.sockets import bind
from tests.doors import make_door
from tests.functional.test_door import Run, run, until  # noqa: F401
from tests.functional.test_tls import Files, files  # noqa: F401
from tests.helpers import TEST_API_KEY

PROXY_LINE = b"PROXY TCP4 198.51.100.7 192.0.2.1 5000 443\r\n"


def request(token: str) -> bytes:
    lines = (
        "GET /ws HTTP/1.1",
        "Host: a",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
        f"{AUTHORIZATION_HEADER}: {token}",
    )
    return "\r\n".join((*lines, "", "")).encode()


@contextmanager
def callers(port: int, count: int) -> Iterator[list[socket.socket]]:
    sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]
    try:
        yield sockets
    finally:
        for sock in sockets:
            sock.close()


async def steps_s(sockets: list[socket.socket]) -> list[float]:
    """Return the CPU time of each step of the loop until all sockets have an answer."""
    loop = asyncio.get_running_loop()
    poll, ended = select.poll(), loop.create_future()
    steps: list[float] = []
    for sock in sockets:
        poll.register(sock, select.POLLIN)
    last_s = time.thread_time()

    def tick() -> None:
        nonlocal last_s
        now_s = time.thread_time()
        steps.append(now_s - last_s)
        answered = len(poll.poll(0))
        last_s = time.thread_time()
        if answered < len(sockets):
            loop.call_soon(tick)
        else:
            ended.set_result(None)

    gc.disable()  # one collection in a process with many tests takes longer than all of this work
    try:
        loop.call_soon(tick)
        await asyncio.wait_for(ended, 30)
    finally:
        gc.enable()
    return steps


async def spread(door: Door, port: int, count: int, say: Callable[[int], bytes], accepted: Callable[[], int]) -> float:
    """Let many callers speak in one step; return the part of the whole work that the longest step did."""
    door.open()
    try:
        with callers(port, count) as sockets:
            await until(lambda: accepted() == count)
            for n, sock in enumerate(sockets):
                sock.sendall(say(n))
            steps = await steps_s(sockets)
        await until(lambda: not (door.connections or door.establishing or door.sessions))
        return max(steps) / sum(steps)
    finally:
        await door.close()


def test_wrong_tokens_together_are_refused_over_many_steps(run: Run) -> None:  # noqa: F811
    async def scenario() -> None:
        sockets = bind("127.0.0.1", 0)
        door = make_door(sockets, verifier=TokenVerifier(TEST_API_KEY))
        wrong = request(sign_token("sk_other"))
        part = await spread(door, sockets[0].getsockname()[1], 1000, lambda _: wrong, lambda: len(door.connections))
        assert part < 0.7

    run(scenario())


def test_tls_handshakes_together_are_done_over_many_steps(run: Run, files: Files) -> None:  # noqa: F811
    def hello() -> bytes:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        with pytest.raises(ssl.SSLWantReadError):
            files.client_context().wrap_bio(incoming, outgoing, server_hostname="127.0.0.1").do_handshake()
        return outgoing.read()

    async def scenario() -> None:
        sockets = bind("127.0.0.1", 0)
        door = make_door(sockets, ssl=files.server_context())
        said = hello()
        part = await spread(door, sockets[0].getsockname()[1], 200, lambda _: said, lambda: len(door.establishing))
        assert part < 0.5

    run(scenario())


def test_proxy_headers_together_are_read_over_many_steps(run: Run) -> None:  # noqa: F811
    async def scenario() -> None:
        sockets = bind("127.0.0.1", 0)
        access = Access(trusted_proxies=proxies("127.0.0.0/8"), proxy_protocol=True)
        door = make_door(sockets, verifier=TokenVerifier(TEST_API_KEY), access=access)
        wrong = PROXY_LINE + request(sign_token("sk_other"))
        part = await spread(door, sockets[0].getsockname()[1], 500, lambda _: wrong, lambda: len(door.establishing))
        assert part < 0.7

    run(scenario())


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
def test_honest_callers_together_are_all_served(run: Run, files: Files, tls: bool) -> None:  # noqa: F811
    count = 60 if tls else 600
    head = request(sign_token(TEST_API_KEY))

    async def call(port: int, context: ssl.SSLContext | None) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        writer.write(head)
        line = await reader.readline()
        writer.transport.abort()
        return line

    async def scenario() -> None:
        sockets = bind("127.0.0.1", 0)
        more: dict[str, Any] = {"ssl": files.server_context()} if tls else {}
        door = make_door(sockets, verifier=TokenVerifier(TEST_API_KEY), capacity=Capacity(), **more)
        door.open()
        port = sockets[0].getsockname()[1]
        lines = await asyncio.gather(*(call(port, files.client_context() if tls else None) for _ in range(count)))
        assert set(lines) == {b"HTTP/1.1 101 Switching Protocols\r\n"}
        await until(lambda: not door.sessions)
        await door.close()

    run(scenario())


def test_default_limit_holds_5000_reconnects() -> None:
    most = Capacity().max_pending_handshakes
    assert most is not None
    assert most >= 5000


class Busy(Pacer):
    """A pacer that has no time left, and tells what was deferred; a connection that it serves has little time left."""

    def __init__(self, loop: asyncio.AbstractEventLoop, connection: Any) -> None:
        super().__init__(loop)
        self.turn_of = loop.create_future()
        self._connection = connection

    def do(self, work: Callable[[bytes], None], data: bytes) -> bool:
        self._connection._timer.cancel()
        self._connection._timer = self._loop.call_later(0.05, self._connection._timed_out)
        return False

    def defer(self, work: Callable[[bytes], None], data: bytes) -> None:
        self.turn_of.set_result((work, data))


def test_waiting_for_a_turn_is_not_the_peers_time(run: Run) -> None:  # noqa: F811
    async def scenario() -> None:
        sockets = bind("127.0.0.1", 0)
        door = make_door(sockets, verifier=TokenVerifier(TEST_API_KEY))
        door.open()
        with callers(sockets[0].getsockname()[1], 1) as (sock,):
            await until(lambda: len(door.connections) == 1)
            (connection,) = door.connections
            pacer, door.pacer = door.pacer, Busy(door.loop, connection)
            sock.sendall(request(sign_token(TEST_API_KEY)))
            work, data = await door.pacer.turn_of
            door.pacer = pacer
            ended = asyncio.Event()
            door.loop.call_later(0.1, ended.set)  # twice the time that was left
            await ended.wait()
            work(data)
            assert (await door.loop.run_in_executor(None, sock.recv, 100)).startswith(b"HTTP/1.1 101 ")
        await until(lambda: not door.sessions)
        await door.close()

    run(scenario())
