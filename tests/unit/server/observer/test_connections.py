"""Connections to the observer: peers that neither ask nor read keep nobody out."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from se_server.server.observer import connections
from se_server.server.observer.connections import Connection

ASK = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


async def _ok(_request: Request) -> Response:
    return PlainTextResponse("ok")


async def _endless(_request: Request) -> Response:
    async def body() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65536
            await asyncio.sleep(0)

    return StreamingResponse(body())


@asynccontextmanager
async def serving() -> AsyncIterator[int]:
    """Serve on a free port, which is returned."""
    app: Any = Starlette(routes=[Route("/", _ok), Route("/endless", _endless)])
    server = uvicorn.Server(uvicorn.Config(app, http=Connection, ws="none", lifespan="off", log_config=None))
    listener = socket.create_server(("127.0.0.1", 0))
    task = asyncio.create_task(server.serve([listener]))
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = server.force_exit = True
        await task


async def ask(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(ASK)
    try:
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()


async def test_a_head_that_never_ends_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_S", 0.05)
    async with serving() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(ASK[:20])
        assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()


async def test_a_head_that_comes_byte_by_byte_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_S", 0.1)
    async with serving() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(ASK.replace(b"close", b"keep-alive"))
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
        began, read = time.monotonic(), asyncio.ensure_future(reader.read())
        for byte in ASK * 100:
            writer.write(bytes([byte]))
            if (await asyncio.wait({read}, timeout=0.02))[0]:
                break
        with suppress(ConnectionResetError):  # a byte was on its way
            assert read.result() == b""
        assert 0.1 <= time.monotonic() - began < 5
        writer.close()


HEAD = b"GET / HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.parametrize(
    "said",
    [
        HEAD + b"X: y\r\n" * 101,
        HEAD + b"X: " + b"y" * connections.MAX_HEAD_BYTES,
        HEAD + b"X: " + b"y" * 1_000_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 1_000_000,
        HEAD + b"y" * 1_000_000,
        HEAD + b"\r\n" + HEAD + b"X: y\r\n" * 200_000 + b"\r\n",
    ],
    ids=["lines", "value", "megabyte", "path", "name", "second"],
)
@pytest.mark.parametrize("piece_bytes", [1000, 1 << 20])
async def test_a_head_beyond_the_limits_is_refused(said: bytes, piece_bytes: int) -> None:
    async with serving() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        got = asyncio.ensure_future(reader.read())
        for start in range(0, len(said), piece_bytes):
            writer.write(said[start : start + piece_bytes])
            await asyncio.sleep(0)
        try:
            answer = await asyncio.wait_for(got, 10)
            assert b" 431 " in answer or b" 400 " in answer
        except ConnectionError:
            pass  # the peer had more to send
        writer.close()
        assert (await ask(port)).startswith(b"HTTP/1.1 200")


async def test_a_head_within_the_limits_is_answered() -> None:
    lines = b"".join(b"X-%d: %s\r\n" % (number, b"y" * 100) for number in range(98))
    async with serving() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write((HEAD + lines + b"\r\n") * 3)
        for _ in range(3):
            assert b"ok" in await asyncio.wait_for(reader.readuntil(b"ok"), 10)
        writer.close()


async def test_too_many_pipelined_requests_end_the_connection() -> None:
    async with serving() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write((HEAD + b"\r\n") * (connections.MAX_PIPELINED + 2))
        with suppress(ConnectionError):
            assert b"200" not in await asyncio.wait_for(reader.read(), 10)
        writer.close()
        assert (await ask(port)).startswith(b"HTTP/1.1 200")


async def test_connections_without_a_request_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 3)
    monkeypatch.setattr(connections, "YOUNG_S", 0.0)
    async with serving() as port:
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        assert (await ask(port)).startswith(b"HTTP/1.1 200")
        assert await asyncio.wait_for(idle[0][0].read(), 10) == b""
        for _, writer in idle:
            writer.close()


async def test_a_connection_too_many_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 1)
    async with serving() as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        reader, other = await asyncio.open_connection("127.0.0.1", port)
        assert (await asyncio.wait_for(reader.read(), 10)).startswith(b"HTTP/1.1 503")
        writer.close()
        other.close()


lost = Connection.connection_lost


async def test_a_peer_that_does_not_read_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "STALL_S", 0.05)
    aborted = asyncio.Event()
    monkeypatch.setattr(Connection, "connection_lost", lambda self, _: (aborted.set(), lost(self, _)))
    async with serving() as port:
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(b"GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n")
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.wait_for(aborted.wait(), 10)
        writer.close()
