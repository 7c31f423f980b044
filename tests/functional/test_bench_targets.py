"""Compared targets are alike: each answers the questions in full, and products verify their callers."""

from __future__ import annotations

import json
import os
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, nullcontext
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidHandshake

if sys.platform != "linux":
    pytest.skip("the benchmark kernel is for Linux", allow_module_level=True)

from bench.kernel import BenchError, Server, Target, running
from bench.load.frames import CLOSE, HEAD_END, TEXT, client_frame, upgrade_request
from bench.load.targets import API_KEY, NEXT_SDK_FOLDER, TARGETS, certificate, javascript
from bench.load.targets.bare import C_SERVER, build_c_server
from bench.load.targets.handler import WORDS
from bench.load.targets.making import make, need_program, run_tool
from tests.helpers import connect, ping_message, read_answer, read_message, transcript_message

CORE = min(os.sched_getaffinity(0))
LIMITS = [name for name in TARGETS if "bare" in name or name.startswith(("picows", "plain")) or "no auth" in name]
HISTORY = ('I ordered a "lamp", ça va?', 'Sure: {"content": "9 x"}.') * 2
LONG_HISTORY = ("seven four one nine, in the second mail " * 8,) * 300  # some 100 KB, so in several reads


@pytest.fixture(
    params=[name for name in TARGETS if not name.endswith("paced") and "Python" not in name], scope="module"
)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    target = TARGETS[request.param]
    if target.name.startswith("JavaScript") and not javascript.is_installed():
        pytest.skip("the JavaScript SDK is not installed; the benchmark installs it")
    if target.name.startswith("published SDK 3") and not NEXT_SDK_FOLDER.exists():
        pytest.skip("the published SDK's next version is not installed; the benchmark installs it")
    if (why := target.unavailable()) is not None:
        pytest.skip(why)
    with running(target, CORE) as server:
        yield server


@asynccontextmanager
async def calling(server: Server, api_key: str = API_KEY) -> AsyncIterator[ClientConnection]:
    trusted = {"ssl": ssl.create_default_context(cafile=certificate.CA)} if server.target.tls else {}
    async with connect(server.url, api_key, close_timeout=1, **trusted) as websocket:
        yield websocket


def answer(chunks: int, tag: str, event_id: int) -> list[dict[str, object]]:
    texts = (tag, *WORDS[1:chunks], "")
    return [
        {"type": "agent_response", "content": text, "event_id": event_id, "is_final": place == chunks}
        for place, text in enumerate(texts)
    ]


async def test_a_target_answers_in_full(server: Server) -> None:
    async with calling(server) as websocket:
        await websocket.send(json.dumps({"type": "init", "conversation_id": "conv_bench"}))
        for event_id, chunks, history, rest in (
            (1, 1, (), "so when will it be here?"),
            (9, 32, HISTORY, "so when?"),
            (10, 32, HISTORY, "trickle: so when?"),
            (123456789, 2, LONG_HISTORY, "trickle: so when?"),
        ):
            tag = f"c7e{event_id}"
            question = ("user", f"{chunks} {tag} {rest}")
            await websocket.send(transcript_message(*history, question, event_id=event_id))
            assert await read_answer(websocket) == answer(chunks, tag, event_id)


async def test_products_refuse_a_stranger_and_limits_take_everybody(server: Server) -> None:
    is_limit = server.target.name in LIMITS
    with nullcontext() if is_limit else pytest.raises((InvalidHandshake, EOFError, ConnectionError)):
        async with calling(server, "sk_of_somebody_else"):
            assert is_limit


# ---------------------------------------------------------------------------------------------------- the C server


@pytest.fixture(params=["turn", "frame"])
def c_server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with running(Target("C server", (str(C_SERVER), request.param), prepare=build_c_server), CORE) as server:
        yield server


def upgraded(server: Server) -> socket.socket:
    caller = socket.create_connection(("127.0.0.1", server.port))
    caller.settimeout(10)
    caller.sendall(upgrade_request("/ws", API_KEY))
    received = b""
    while not received.endswith(HEAD_END):
        received += caller.recv(1)
    assert received.startswith(b"HTTP/1.1 101 ")
    return caller


def asked(event_id: int) -> bytes:
    return client_frame(TEXT, transcript_message(f"32 c1e{event_id} so when?", event_id=event_id).encode())


def received_until(caller: socket.socket, final_of: int) -> bytes:
    received = b""
    while not received.endswith(b'"content":"","event_id":%d,"is_final":true}' % final_of):
        part = caller.recv(65536)
        assert part, "the server closed the connection"
        received += part
    return received


def test_the_c_server_takes_messages_in_any_pieces(c_server: Server) -> None:
    with closing(upgraded(c_server)) as caller:
        caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sent = asked(1) + asked(2)
        for piece in (sent[:1], sent[1:5], sent[5:40], sent[40:-3], sent[-3:] + asked(3)):
            caller.sendall(piece)
        assert received_until(caller, final_of=3).count(b'"is_final":true') == 3


def test_the_c_server_buffers_for_a_slow_caller(c_server: Server) -> None:
    turns = 3000  # 9 MB of answers: more than the socket buffers of a usual machine hold
    with closing(upgraded(c_server)) as caller:
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
        for event_id in range(1, turns + 1):
            caller.sendall(asked(event_id))
        received = received_until(caller, final_of=turns)
    assert received.count(b'"is_final":false') == 32 * turns
    assert received.count(b'"is_final":true') == turns


async def test_the_c_server_answers_pings_and_closes(c_server: Server) -> None:
    async with connect(c_server.url) as websocket:
        await (await websocket.ping(b"are you there?"))
        await websocket.send(ping_message())
        assert await read_message(websocket) == {"type": "pong"}
        await websocket.send(json.dumps({"type": "close"}))
        with pytest.raises(ConnectionClosed) as closed:
            await websocket.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1000


def test_the_c_server_survives_invalid_requests(c_server: Server) -> None:
    unmasked = bytes([0x81, 8]) + b"unmasked"
    endless = bytes([0x81, 0xFF]) + b"\xff" * 8 + b"mask"
    for nonsense in (unmasked, endless, client_frame(CLOSE, b""), client_frame(TEXT, b'{"event_id": 1, "content": "')):
        with closing(upgraded(c_server)) as caller:
            caller.sendall(nonsense)
            while caller.recv(4096):
                pass
    with closing(socket.create_connection(("127.0.0.1", c_server.port))) as caller:
        caller.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        assert caller.recv(4096).startswith(b"HTTP/1.1 400 ")
    with closing(upgraded(c_server)) as caller:
        caller.sendall(asked(1))
        received_until(caller, final_of=1)


# ---------------------------------------------------------------------------------------------------- preparing


def test_a_target_names_its_missing_requirement() -> None:
    def prepare() -> None:
        need_program("no-such-compiler", "nor-this-one")

    target = Target("dreamt of", ("false",), prepare=prepare)
    assert target.unavailable() == ("dreamt of is left out: there is no no-such-compiler or nor-this-one on the PATH")
    with pytest.raises(BenchError, match="on the PATH"), running(target, CORE):
        pass


def test_a_failed_build_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = tmp_path / "made"

    def fails(draft: Path) -> None:
        (draft / "half").touch()
        run_tool("the compiler", ["sh", "-c", "echo no such thing; exit 3"], draft)

    with pytest.raises(BenchError, match="the compiler failed: no such thing"):
        make(folder, fails)
    assert not folder.exists()
    for _ in range(2):  # the second finds what the first has made
        make(folder, lambda draft: (draft / "whole").write_text("fine", encoding="utf-8"))
    assert [path.name for path in folder.iterdir()] == ["whole"]
