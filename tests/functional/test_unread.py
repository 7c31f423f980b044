"""Peers that never read: the kernel keeps little for each, and nothing for one that the write timeout has dropped."""

from __future__ import annotations

import select
import signal
import socket
import ssl
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from se_server.auth import AUTHORIZATION_HEADER, sign_token
from tests.frames import CLOSE, TEXT, frame, split_frames
from tests.helpers import (
    ANSWER_TIMEOUT_S,
    TEST_API_KEY,
    ServerProcess,
    close_message,
    running_server,
    transcript_message,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/net/tcp")

AGENT = """
    async def on_transcript(transcript, session):
        said = transcript[-1].content
        for _ in range(int(said)):
            await session.send_response("x" * 65536, final=False)
        await session.send_response("the end")
"""
MUCH, SOME = 320, 6  # pieces of 64 KiB: 20 MB, and more than the transport and a small receive buffer take
KERNEL_BYTES = 256 * 1024
WRITE_TIMEOUT_S = 1.0
LONG_S = 20.0  # a write timeout that no peer exceeds that reads late


@pytest.fixture(params=["plain", "tls"])
def certificate(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    """A certificate and its key in one file, or None without TLS."""
    if request.param == "plain":
        return None
    path = tmp_path / "both.pem"
    certificate = tmp_path / "cert.pem"
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -days 2"
    subprocess.run([*make.split(), "-keyout", path, "-out", certificate], check=True, capture_output=True)
    path.write_text(path.read_text() + certificate.read_text())
    return path


@pytest.fixture
def server(tmp_path: Path, certificate: Path | None, request: pytest.FixtureRequest) -> Iterator[ServerProcess]:
    """A server with the write timeout `WRITE_TIMEOUT_S`, or with the one that a test gives."""
    app = tmp_path / "agent.py"
    app.write_text(textwrap.dedent(AGENT))
    options = ["--write-timeout-s", str(getattr(request, "param", WRITE_TIMEOUT_S)), "--drain-timeout-s", "0"]
    if certificate is not None:
        options += ["--certfile", str(certificate)]
    with running_server(*options, app=app, workers=1) as running:
        yield running


_opened: list[socket.socket] = []


@pytest.fixture(autouse=True)
def close_peers() -> Iterator[None]:
    yield
    while _opened:
        _opened.pop().close()


class Peer:
    """A caller by hand, with a receive buffer of its own size, that reads only when told."""

    def __init__(self, server: ServerProcess, *, rcvbuf: int = 4096) -> None:
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        raw.settimeout(ANSWER_TIMEOUT_S)
        raw.connect(("127.0.0.1", server.port))
        self.port = raw.getsockname()[1]
        self._server_port = server.port
        self.socket: socket.socket = raw
        if server.url.startswith("wss"):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            self.socket = context.wrap_socket(raw)
        _opened.append(self.socket)
        head = (
            f"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            f"{AUTHORIZATION_HEADER}: {sign_token(TEST_API_KEY)}\r\n\r\n"
        )
        self.socket.sendall(head.encode())
        self._data = b""
        while b"\r\n\r\n" not in self._data:
            self._data += self.socket.recv(4096)
        assert b" 101 " in self._data
        self._data = self._data.partition(b"\r\n\r\n")[2]

    def ask(self, pieces: int, event_id: int = 1) -> None:
        self.socket.sendall(frame(TEXT, transcript_message(str(pieces), event_id=event_id).encode()))

    def read_all(self) -> tuple[str, int | None]:
        """Read until the connection ends; return the text of all messages and the close code, if there was one."""
        try:
            while data := self.socket.recv(1 << 16):
                self._data += data
        except (ssl.SSLEOFError, ConnectionResetError):
            frames, _ = split_frames(self._data)
            return "".join(item.payload.decode() for item in frames if item.opcode == TEXT), None
        frames, _ = split_frames(self._data)
        text = "".join(item.payload.decode() for item in frames if item.opcode == TEXT)
        return text, next((item.close_code for item in frames if item.opcode == CLOSE), None)

    def kernel_bytes(self) -> int | None:
        """Return how many bytes the server's kernel holds for this peer; None if the connection is gone."""
        ports = f":{self._server_port:04X}", f":{self.port:04X}"
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[1].endswith(ports[0]) and fields[2].endswith(ports[1]):
                return int(fields[4].split(":")[0], 16)
        return None


def wait_until(peer: Peer, *, gone: bool, timeout_s: float = ANSWER_TIMEOUT_S) -> int:
    """Wait until the connection is gone, or until what the kernel holds stops growing; return the most it held."""
    deadline, most, same_since = time.monotonic() + timeout_s, 0, time.monotonic()
    while time.monotonic() < deadline:
        held = peer.kernel_bytes()
        if held is None:
            return most
        if held > most:
            most, same_since = held, time.monotonic()
        elif not gone and most and time.monotonic() - same_since > WRITE_TIMEOUT_S / 3:
            return most
        time.sleep(0.01)
    raise AssertionError(f"the kernel still holds {peer.kernel_bytes()} bytes")


def test_a_peer_that_never_reads_is_reset(server: ServerProcess) -> None:
    """While it is waited for, the kernel keeps little; after the write timeout it keeps nothing."""
    peer = Peer(server)
    peer.ask(MUCH)
    assert wait_until(peer, gone=False) <= KERNEL_BYTES
    wait_until(peer, gone=True)
    poll = select.poll()
    poll.register(peer.socket, 0)
    assert poll.poll(1000)[0][1] & select.POLLERR  # a reset, not an end
    server.wait_for_output("the peer does not read, dropped")


@pytest.mark.parametrize("server", [LONG_S], indirect=True)
@pytest.mark.parametrize("end", ["close", "drain", "interruption"])
def test_unread_text_survives(server: ServerProcess, end: str) -> None:
    """A peer that reads late, within the write timeout, gets all that was said before the end, and a close code."""
    peer = Peer(server)
    peer.ask(1)
    wait_until(peer, gone=False)
    if end == "drain":
        server.send_signal(signal.SIGTERM)
        server.wait_for_output("SIGTERM: taking no new")
    elif end == "close":
        peer.socket.sendall(frame(TEXT, close_message().encode()))
    else:
        peer.ask(0, event_id=2)
        peer.socket.sendall(frame(TEXT, close_message().encode()))
    text, code = peer.read_all()
    assert text.count("x") >= 65536
    assert code in (1000, 1001, 1012)
    assert end == "drain" or "the end" in text


@pytest.mark.parametrize("server", [LONG_S], indirect=True)
def test_a_slow_reader_gets_all(server: ServerProcess) -> None:
    peer = Peer(server)
    peer.ask(SOME)
    peer.ask(1, event_id=2)
    peer.socket.sendall(frame(TEXT, close_message().encode()))
    text, code = peer.read_all()
    assert code == 1000
    assert text.count("x") >= 65536


def test_many_peers_that_never_read_cost_little(server: ServerProcess) -> None:
    peers = [Peer(server) for _ in range(40)]
    for peer in peers:
        peer.ask(MUCH)
    assert sum(wait_until(peer, gone=False) for peer in peers[-5:]) <= 5 * KERNEL_BYTES
    for peer in peers:
        wait_until(peer, gone=True)
