"""TLS and mutual TLS with real clients: `serve(ssl=...)` on both event loops, and `se-server --certfile`."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import signal
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus

from se_server.errors import ConfigError
from se_server.sdk.resource import SpeechEngineResource
from se_server.sdk.server import SpeechEngineServer
from se_server.server.door.limits import Limits
from se_server.server.listen.sockets import bind
from se_server.server.listen.tls import make_context
from tests.doors import make_door
from tests.functional.test_door import until
from tests.functional.test_se_server import sentence
from tests.functional.test_speech_engine_server import Run, echo, make_server, run, serving  # noqa: F401
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


class Files:
    """An authority, the certificate of a server and that of a client, as PEM files."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        server, client = authority.issue_cert("127.0.0.1"), authority.issue_cert("caller@example.org")
        self.chain, self.key, self.both = folder / "chain.pem", folder / "key.pem", folder / "both.pem"
        self.authority, self.client = folder / "ca.pem", folder / "client.pem"
        for blob in server.cert_chain_pems:
            blob.write_to_path(self.chain, append=True)
        server.private_key_pem.write_to_path(self.key)
        server.private_key_and_cert_chain_pem.write_to_path(self.both)
        client.private_key_and_cert_chain_pem.write_to_path(self.client)
        authority.cert_pem.write_to_path(self.authority)

    def server_context(self, *, mutual: bool = False) -> ssl.SSLContext:
        context = make_context(str(self.chain), str(self.key), str(self.authority) if mutual else None)
        assert context is not None
        return context

    def client_context(self, *, with_certificate: bool = False) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.authority)
        if with_certificate:
            context.load_cert_chain(self.client)
        return context


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("tls"))


async def converse(url: str, context: ssl.SSLContext) -> None:
    """Hold a conversation with short and long texts, up to its close."""
    async with connect(url, ssl=context) as caller:
        await caller.send(init_message())
        for event_id, text in enumerate(("hello", "x" * 200_000, "goodbye"), 1):
            await caller.send(transcript_message(text, event_id=event_id))
            assert spoken(await asyncio.wait_for(read_answer(caller), ANSWER_TIMEOUT_S)) == text


def url_of(server: SpeechEngineServer) -> str:
    return f"wss://127.0.0.1:{server.port}/ws"


def test_a_conversation_over_tls(run: Run, files: Files) -> None:  # noqa: F811
    ends: list[Any] = []

    async def scenario() -> None:
        server = make_server(ssl=files.server_context(), on_close=ends.append, on_disconnect=ends.append)
        async with serving(server):
            await asyncio.gather(*(converse(url_of(server), files.client_context()) for _ in range(3)))
            with pytest.raises(InvalidStatus) as refused:
                await connect(url_of(server), "sk_other", ssl=files.client_context()).__aenter__()
            assert refused.value.response.status_code == 401

    run(scenario())
    assert len(ends) == 3


def test_engine_serve_takes_a_context(run: Run, files: Files) -> None:  # noqa: F811
    class Keys:
        def get_headers(self) -> dict[str, str]:
            return {"xi-api-key": TEST_API_KEY}

    async def scenario() -> None:
        engine = SpeechEngineResource("seng_1", Keys())
        context = files.server_context()
        task = asyncio.create_task(engine.serve(port=0, host="127.0.0.1", ssl=context, on_transcript=echo))
        await asyncio.sleep(0)
        assert engine.server is not None
        await engine.server.wait_ready()
        await converse(url_of(engine.server), files.client_context())
        await engine.server.stop()
        await task

    run(scenario())


def test_running_conversation_is_closed_when_serving_ends(run: Run, files: Files) -> None:  # noqa: F811
    async def scenario() -> None:
        server = make_server(ssl=files.server_context(), drain_timeout_s=0.01)
        async with serving(server), connect(url_of(server), ssl=files.client_context()) as caller:
            await server.stop()
            with pytest.raises(ConnectionClosed):
                await asyncio.wait_for(caller.recv(), ANSWER_TIMEOUT_S)
            assert caller.close_code == 1001

    run(scenario())


def test_mutual_tls_refuses_a_client_without_a_certificate(
    run: Run,  # noqa: F811
    files: Files,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario() -> None:
        server = make_server(ssl=files.server_context(mutual=True))
        async with serving(server):
            await converse(url_of(server), files.client_context(with_certificate=True))
            with pytest.raises((ssl.SSLError, ConnectionError, InvalidMessage)):  # TLS 1.3: it hears of it later
                await connect(url_of(server), ssl=files.client_context()).__aenter__()

    run(scenario())
    assert "no TLS handshake" in caplog.text


def test_old_tls_is_refused(run: Run, files: Files) -> None:  # noqa: F811
    context = files.client_context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1

    async def scenario() -> None:
        server = make_server(ssl=files.server_context())
        async with serving(server):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await asyncio.open_connection("127.0.0.1", server.port, ssl=context)

    run(scenario())


@pytest.mark.parametrize("said", [b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n", b"", b"\x16\x03\x01"])
def test_peer_without_tls_is_dropped(run: Run, files: Files, said: bytes) -> None:  # noqa: F811
    async def scenario() -> None:
        sockets = bind("127.0.0.1", 0)
        door = make_door(sockets, limits=Limits(head_timeout_s=0.2), ssl=files.server_context())
        door.open()
        reader, writer = await asyncio.open_connection(*sockets[0].getsockname())
        writer.write(said)
        with contextlib.suppress(ConnectionResetError):  # bytes were left unread
            assert b"HTTP" not in await asyncio.wait_for(reader.read(), ANSWER_TIMEOUT_S)
        writer.close()
        await asyncio.wait([asyncio.create_task(writer.wait_closed())])
        await door.close()
        assert not door.establishing
        assert not door.connections

    run(scenario())


def test_stop_waits_for_a_silent_peer_briefly(run: Run, files: Files) -> None:  # noqa: F811
    async def scenario() -> None:
        server = make_server(ssl=files.server_context())
        async with serving(server) as task:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            await converse(url_of(server), files.client_context())  # accepted later than the silent one
            await server.stop()
            await asyncio.wait_for(task, Limits().head_timeout_s + 2.0)
            assert await reader.read() == b""
            writer.close()
            await asyncio.wait([asyncio.create_task(writer.wait_closed())])

    run(scenario())


def test_peer_that_leaves_at_once_is_unlogged(
    run: Run,  # noqa: F811
    files: Files,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario() -> None:
        server = make_server(ssl=files.server_context())
        async with serving(server):
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.close()
            await writer.wait_closed()
            await converse(url_of(server), files.client_context())

    run(scenario())
    assert "no TLS handshake" not in caplog.text


def ask_for_new_keys(port: int, context: ssl.SSLContext, times: int) -> bytes:
    """Connect, ask the peer of TLS 1.3 for new keys again and again, then for its health; return the answer."""
    library = ctypes.CDLL(ssl._ssl.__file__)  # type: ignore[attr-defined]
    library.SSL_key_update.argtypes = [ctypes.c_void_p, ctypes.c_int]
    library.SSL_do_handshake.argtypes = [ctypes.c_void_p]
    plain = socket.create_connection(("127.0.0.1", port))
    with context.wrap_socket(plain, server_hostname="127.0.0.1") as sock:
        if sock.version() != "TLSv1.3":
            pytest.skip("needs TLS 1.3")
        # The second field after the head of the object is OpenSSL's `SSL *`.
        connection = ctypes.c_void_p.from_address(id(sock._sslobj) + object.__basicsize__ + 8).value  # type: ignore[attr-defined]
        for _ in range(times):
            assert library.SSL_key_update(connection, 0) == 1
            if library.SSL_do_handshake(connection) != 1:
                return b""
        try:
            sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
            return sock.recv(100)
        except OSError:
            return b""


@pytest.mark.parametrize(("times", "is_kept"), [(100, True), (1000, False)])
def test_a_flood_of_new_keys_is_dropped(
    run: Run,  # noqa: F811
    files: Files,
    caplog: pytest.LogCaptureFixture,
    times: int,
    is_kept: bool,
) -> None:
    async def scenario() -> None:
        server = make_server(ssl=files.server_context())
        async with serving(server):
            answer = await asyncio.to_thread(ask_for_new_keys, server.port, files.client_context(), times)
            assert answer.startswith(b"HTTP/1.1 200") == is_kept
            await converse(url_of(server), files.client_context())

    run(scenario())
    assert ("a flood of TLS records: 127.0.0.1" in caplog.text) != is_kept


def test_connection_accepted_during_the_end_is_closed(run: Run, files: Files) -> None:  # noqa: F811
    async def scenario() -> None:
        sockets = bind("127.0.0.1", 0)
        door = make_door(sockets, ssl=files.server_context())
        door.open()
        reader, writer = await asyncio.open_connection(*sockets[0].getsockname())
        await until(lambda: bool(door.establishing))
        await door.close()
        assert await reader.read() == b""
        writer.close()

    run(scenario())


def test_ssl_must_be_a_context() -> None:
    with pytest.raises(TypeError, match=r"ssl=bool is not an ssl.SSLContext"):
        make_server(ssl=True)


# --- se-server ------------------------------------------------------------------------------------------------------


async def test_se_server_speaks_mutual_tls(files: Files) -> None:
    args = ("--certfile", str(files.both), "--ca-certs", str(files.authority))
    with running_server(*args) as server:
        assert server.url.startswith("wss://127.0.0.1:")
        context = files.client_context(with_certificate=True)
        async with connect(server.url, ssl=context) as caller:
            await caller.send(transcript_message("hello"))
            assert spoken(await asyncio.wait_for(read_answer(caller), ANSWER_TIMEOUT_S))
            server.send_signal(signal.SIGTERM)
        assert server.wait() == 0


def test_wrong_files_are_one_sentence(files: Files, tmp_path: Path) -> None:
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\n")
    for arguments, expected in (
        ((files.both, None, tmp_path / "none"), r"--ca-certs: cannot read .*none: No such file"),
        ((tmp_path / "none", None, None), r"--certfile: cannot read .*none: No such file"),
        ((files.chain, tmp_path, None), r"--keyfile: cannot read .*: Is a directory"),
        ((files.chain, None, None), r"--certfile: .*chain.pem holds no private key"),
        ((files.key, None, None), r"--certfile: .*key.pem holds no certificate"),
        ((files.chain, files.chain, None), r"--keyfile: .*chain.pem holds no private key"),
        ((files.chain, files.client, None), r"the key in .*client.pem is not that of the certificate .*chain.pem"),
        ((garbage, None, None), r"cannot use the certificate and key in .*garbage.pem: "),
        ((files.both, None, files.key), r"--ca-certs: .*key.pem holds no certificate"),
        ((files.both, None, garbage), r"cannot use the certificates in .*garbage.pem: "),
        ((None, files.key, None), r"--keyfile .*key.pem has no effect without a certificate"),
        ((None, None, files.authority), r"--ca-certs .*ca.pem has no effect without a certificate"),
    ):
        with pytest.raises(ConfigError, match=expected) as wrong:
            make_context(*(None if name is None else str(name) for name in arguments))
        assert "\n" not in str(wrong.value)
    assert "cannot read" in sentence("--certfile", tmp_path / "none", code=2)


def test_an_encrypted_key_is_refused_without_asking(files: Files, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization as s

    key = s.load_pem_private_key(files.key.read_bytes(), None)
    encrypted = tmp_path / "encrypted.pem"
    encrypted.write_bytes(
        key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.BestAvailableEncryption(b"secret"))
    )
    with pytest.raises(ConfigError, match="is encrypted"):
        make_context(str(files.chain), str(encrypted), None)


def test_without_a_certificate_there_is_no_context() -> None:
    assert make_context(None, None, None) is None
