"""The PROXY protocol in front of real conversations: whose word counts, what clients get to see, and TLS behind it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from se_server.auth import TokenVerifier
from se_server.errors import ConfigError
from se_server.server.door.access import Access, Networks, networks, proxies
from se_server.server.door.door import Door
from se_server.server.door.limits import Limits
from se_server.server.listen.sockets import bind
from se_server.server.listen.uds import UnixListenSocket
from tests.doors import make_door
from tests.functional.test_door import HEALTH_CHECK, Run, closed, run, until  # noqa: F401
from tests.functional.test_se_server import sentence
from tests.functional.test_speech_engine_server import make_server, serving
from tests.functional.test_tls import Files, files  # noqa: F401
from tests.helpers import (
    ANSWER_TIMEOUT_S,
    TEST_API_KEY,
    connect,
    init_message,
    read_answer,
    running_server,
    spoken,
    transcript_message,
)

LINE = b"PROXY TCP4 198.51.100.7 192.0.2.1 5000 443\r\n"
LINE_6 = b"PROXY TCP6 2001:db8::7 2001:db8::1 5000 443\r\n"
SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")
LOCAL = SIGNATURE + b"\x20\x00\x00\x00"
BLOCK = SIGNATURE + b"\x21\x11" + struct.pack("!H", 12 + 7)
BLOCK += socket.inet_aton("198.51.100.7") + socket.inet_aton("192.0.2.1") + struct.pack("!HH", 5000, 443)
BLOCK += b"\x04\x00\x04abcd"  # an extension that pads


async def tell_remote(transcript: list[Any], session: Any) -> None:
    await session.send_response(session.remote or "unknown")


@contextlib.asynccontextmanager
async def opened(
    *, trusted: str = "127.0.0.0/8", listening: socket.socket | None = None, **given: Any
) -> AsyncIterator[tuple[Door, int]]:
    sockets = bind("127.0.0.1", 0)
    allow = networks(given.pop("allow")) if "allow" in given else Networks()
    door = make_door(
        [*sockets, *([listening] if listening else [])],
        verifier=TokenVerifier(TEST_API_KEY),
        handlers={"on_transcript": tell_remote},
        access=Access(allow, trusted_proxies=proxies(trusted), proxy_protocol=True),
        **given,
    )
    port = sockets[0].getsockname()[1]
    door.open()
    try:
        yield door, port
    finally:
        await door.close()
        assert not door.establishing
        assert not door.connections


async def ask_remote(port: int, header: bytes, *, scheme: str = "ws", **kwargs: Any) -> str:
    """Hold a conversation behind a PROXY header; return where the session says it comes from."""
    sock = socket.create_connection(("127.0.0.1", port))
    sock.sendall(header)
    async with connect(f"{scheme}://127.0.0.1:{port}/ws", sock=sock, **kwargs) as caller:
        await caller.send(init_message())
        await caller.send(transcript_message("where from?"))
        return spoken(await read_answer(caller))


async def exchange(port: int, *pieces: bytes) -> bytes:
    """Send pieces, each as a packet of its own, and return all that comes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    answer = b""
    try:
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0)
        answer = await asyncio.wait_for(reader.read(), ANSWER_TIMEOUT_S)
    except ConnectionError:  # bytes were left unread
        pass
    await closed((reader, writer))
    return answer


@pytest.mark.parametrize(
    ("header", "remote"),
    [
        (LINE, "198.51.100.7:5000"),
        (LINE_6, "[2001:db8::7]:5000"),
        (BLOCK, "198.51.100.7:5000"),
        (b"PROXY UNKNOWN\r\n", "unknown"),
        (SIGNATURE + b"\x21\x00\x00\x00", "unknown"),
        (SIGNATURE + b"\x21\x31\x00\xd8" + bytes(216), "unknown"),
    ],
)
def test_session_sees_the_client_behind_the_proxy(run: Run, header: bytes, remote: str) -> None:  # noqa: F811
    async def scenario() -> None:
        async with opened() as (_, port):
            assert await ask_remote(port, header) == remote

    run(scenario())


def test_local_header_keeps_the_proxys_address(run: Run) -> None:  # noqa: F811
    async def scenario() -> None:
        async with opened() as (_, port):
            assert (await ask_remote(port, LOCAL)).startswith("127.0.0.1:")
            assert (await exchange(port, LOCAL + b"GET /healthz HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.1 200")

    run(scenario())


@pytest.mark.parametrize("header", [LINE, BLOCK])
def test_header_may_come_byte_by_byte(run: Run, header: bytes) -> None:  # noqa: F811
    async def scenario() -> None:
        async with opened() as (_, port):
            pieces = [header[i : i + 1] for i in range(len(header) - 1)]
            answer = await exchange(port, *pieces, header[-1:] + b"GET /healthz HTTP/1.0\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 200 OK")

    run(scenario())


@pytest.mark.parametrize("header", [LINE, BLOCK])
def test_tls_begins_behind_the_header(run: Run, files: Files, header: bytes) -> None:  # noqa: F811
    async def scenario() -> None:
        async with opened(ssl=files.server_context()) as (_, port):
            context = files.client_context()
            for _ in range(2):
                told = await ask_remote(port, header, scheme="wss", ssl=context, server_hostname="127.0.0.1")
                assert told == "198.51.100.7:5000"

    run(scenario())


def test_allow_ips_refuses_an_unknown_client(run: Run) -> None:  # noqa: F811
    async def scenario() -> None:
        async with opened(allow="198.51.100.0/24,127.0.0.1") as (_, port):
            assert await ask_remote(port, LINE) == "198.51.100.7:5000"
            for header in (LINE_6, b"PROXY UNKNOWN\r\n"):
                with pytest.raises(InvalidStatus, match="403"):
                    await ask_remote(port, header)

    run(scenario())


def test_request_headers_count_from_trusted_proxies_only(run: Run) -> None:  # noqa: F811
    async def scenario() -> None:
        async with opened(trusted="127.0.0.0/8,198.51.100.0/24") as (_, port):
            forwarded = {"X-Forwarded-For": "203.0.113.9"}
            assert await ask_remote(port, LINE, headers=forwarded) == "203.0.113.9"
            assert await ask_remote(port, LINE_6, headers=forwarded) == "[2001:db8::7]:5000"

    run(scenario())


@pytest.mark.parametrize(
    ("said", "trusted", "reason"),
    [
        (HEALTH_CHECK, "127.0.0.1", "does not begin with one"),
        (b"PROXY nonsense\r\n" + HEALTH_CHECK, "127.0.0.1", "malformed"),
        (LINE + HEALTH_CHECK, "10.0.0.0/8", "none of the trusted proxies"),
        (LINE + HEALTH_CHECK, "unix", "none of the trusted proxies"),
        (LINE[:20], "127.0.0.1", "its time is up"),
        (BLOCK[:-1], "127.0.0.1", "its time is up"),
    ],
)
def test_connection_without_a_valid_header_gets_nothing(
    run: Run,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
    said: bytes,
    trusted: str,
    reason: str,
) -> None:
    async def scenario() -> None:
        # A long time limit: on a machine that stands still, bad content must not be refused for its time.
        limits = Limits(head_timeout_s=0.2 if "time" in reason else ANSWER_TIMEOUT_S)
        async with opened(trusted=trusted, limits=limits) as (_, port):
            assert await exchange(port, said) == b""

    run(scenario())
    lines = [record.getMessage() for record in caplog.records if record.name == "se_server.door"]
    assert len(lines) == 1
    assert lines[0].startswith("no PROXY header: 127.0.0.1:")
    assert lines[0].endswith(f"({reason})") or reason in lines[0]


def test_proxy_header_uses_up_head_timeout(run: Run) -> None:  # noqa: F811
    async def scenario() -> None:
        async with opened(limits=Limits(head_timeout_s=2.0)) as (_, port):
            loop = asyncio.get_running_loop()
            sent_at = 0.0

            def send_rest() -> None:
                nonlocal sent_at
                sent_at = loop.time()
                writer.write(LINE[10:] + b"GET /")

            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(LINE[:10])
            loop.call_later(1.0, send_rest)
            assert (await reader.read()).startswith(b"HTTP/1.1 408")
            assert loop.time() - sent_at < 2.0  # else it had a time of its own
            await closed((reader, writer))

    run(scenario())


def test_silent_peer_that_leaves_is_not_logged(run: Run, caplog: pytest.LogCaptureFixture) -> None:  # noqa: F811
    async def scenario() -> None:
        async with opened() as (_, port):
            for said in (b"", LINE[:9]):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(said)
                writer.close()
                await writer.wait_closed()
            assert await ask_remote(port, LINE) == "198.51.100.7:5000"

    run(scenario())
    assert caplog.text == ""


def test_drain_does_not_wait_for_headers(run: Run) -> None:  # noqa: F811
    async def scenario() -> None:
        async with opened() as (door, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            await until(lambda: bool(door.establishing))
            await asyncio.wait_for(door.drain(0.1), 4.0)
            assert await reader.read() == b""
            await closed((reader, writer))

    run(scenario())


def test_proxy_on_a_unix_socket_may_be_trusted(run: Run) -> None:  # noqa: F811
    async def scenario(folder: str) -> None:
        for trusted, is_answered in (("unix", True), ("127.0.0.1", False)):
            listening = UnixListenSocket(f"{folder}/s")
            async with opened(trusted=trusted, listening=listening.socket) as (_, _):
                reader, writer = await asyncio.open_unix_connection(f"{folder}/s")
                writer.write(LINE + HEALTH_CHECK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
                answer = b""
                with contextlib.suppress(ConnectionError):  # bytes were left unread
                    answer = await reader.read()
                assert answer.startswith(b"HTTP/1.1 200") is is_answered
                await closed((reader, writer))
            listening.remove()

    with TemporaryDirectory(prefix="se-") as folder:
        run(scenario(folder))


# --- how it is switched on ------------------------------------------------------------------------------------------


def test_missing_trusted_proxies_is_one_sentence() -> None:
    with pytest.raises(ConfigError, match="trusted proxies only: name them"):
        make_server(proxy_protocol=True)
    assert "trusted proxies only: name them" in sentence("--proxy-protocol", code=2)


async def test_server_in_process_takes_it_as_keyword() -> None:
    server = make_server(proxy_protocol=True, trusted_proxies="127.0.0.1", path="/ws", on_transcript=tell_remote)
    async with serving(server):
        assert await ask_remote(server.port, BLOCK) == "198.51.100.7:5000"


async def test_se_server_takes_it_as_an_option(tmp_path: Path) -> None:
    app = tmp_path / "agent.py"
    app.write_text("async def on_transcript(transcript, session):\n    await session.send_response(session.remote)\n")
    args = ("--proxy-protocol", "--trusted-proxies", "127.0.0.1", "--allow-ips", "198.51.100.7")
    with running_server(*args, app=str(app)) as server:
        assert await ask_remote(server.port, LINE) == "198.51.100.7:5000"
        with pytest.raises(InvalidStatus, match="403"):
            await ask_remote(server.port, LINE_6)
