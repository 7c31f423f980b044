"""Listening on a Unix socket: conversations on both event loops, its file, and `se-server --uds`."""

from __future__ import annotations

import asyncio
import grp
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from websockets.asyncio.client import unix_connect

from se_server.auth import AUTHORIZATION_HEADER, TokenVerifier, sign_token
from se_server.errors import ConfigError
from se_server.sdk.server import SpeechEngineServer
from se_server.server.door.access import Access, proxies
from se_server.server.listen.uds import UnixListenSocket
from tests.doors import make_door
from tests.functional.test_se_server import health, sentence
from tests.functional.test_speech_engine_server import Run, close_code, echo, make_server, run, serving  # noqa: F401
from tests.helpers import (
    TEST_API_KEY,
    ServerProcess,
    close_message,
    connect,
    environment,
    init_message,
    read_answer,
    running_server,
    spoken,
    transcript_message,
)


@pytest.fixture
def path() -> Iterator[Path]:
    """A short one: a socket's path has 107 bytes at most, and 103 on macOS."""
    with TemporaryDirectory(prefix="se-") as folder:
        yield Path(folder, "s")


def call(path: Path, **headers: str) -> unix_connect:
    token = {AUTHORIZATION_HEADER: sign_token(TEST_API_KEY)}
    uri = "ws://agent.example/ws"
    return unix_connect(str(path), uri, additional_headers={**token, **headers}, compression=None)


async def converse(path: Path, *texts: str, **headers: str) -> list[str]:
    answers = []
    async with call(path, **headers) as caller:
        await caller.send(init_message())
        for event_id, text in enumerate(texts, 1):
            await caller.send(transcript_message(text, event_id=event_id))
            answers.append(spoken(await read_answer(caller)))
        await caller.send(close_message())
    return answers


def test_a_conversation_over_a_unix_socket(run: Run, path: Path) -> None:  # noqa: F811
    remotes: list[str] = []

    async def echo(transcript: list[Any], session: Any) -> None:
        remotes.append(session.remote)
        await session.send_response(transcript[-1].content)

    async def scenario() -> None:
        listening = UnixListenSocket(str(path))
        door = make_door(
            [listening.socket],
            verifier=TokenVerifier(TEST_API_KEY),
            handlers={"on_transcript": echo},
            access=Access(trusted_proxies=proxies("unix")),
        )
        door.open()
        texts = ["hello", "x" * 500_000, "goodbye"]
        assert await converse(path, *texts) == texts
        assert await converse(path, "hello", **{"X-Forwarded-For": "198.51.100.7"}) == ["hello"]
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 200 OK")
        writer.close()
        await writer.wait_closed()
        async with call(path) as caller:
            await caller.send(init_message())
            await caller.send(transcript_message("hello"))
            await read_answer(caller)
            drain = asyncio.create_task(door.drain(0))
            assert await close_code(caller) == 1001
            await drain
        await door.close()
        listening.remove()

    run(scenario())
    assert remotes == ["", "", "", "198.51.100.7", ""]
    assert not os.path.lexists(path)


def test_only_the_user_may_connect(path: Path) -> None:
    listening = UnixListenSocket(str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    listening.socket.close()


of_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may use any group")


@pytest.mark.parametrize(
    ("given", "mode", "group"),
    [
        (["--uds-mode", "666"], 0o666, None),
        (["--uds-mode", "0o0660"], 0o660, None),
        (["--uds-group", str(os.getgid())], 0o660, os.getgid()),
        (["--uds-group", grp.getgrgid(os.getgid()).gr_name, "--uds-mode", "620"], 0o620, os.getgid()),
        pytest.param(
            ["--uds-group", "54321"], 0o660, 54321, marks=pytest.mark.skipif(os.geteuid() != 0, reason="root")
        ),
    ],
)
def test_mode_and_group_of_the_file(path: Path, given: list[str], mode: int, group: int | None) -> None:
    with running_server("--uds", str(path), *given, workers=1):
        found = path.stat()
        assert stat.S_IMODE(found.st_mode) == mode
        assert found.st_gid == (os.getgid() if group is None else group)
    assert not path.exists()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["--uds-group", "no-such-group"], "--uds-group: there is no group 'no-such-group': give the name of one"),
        (["--uds-group", "99999999999"], "to the group '99999999999': make the user a member of it"),
        (["--uds-mode", "rw"], "--uds-mode: 'rw' is not valid: expected permissions in octal, as text"),
        (["--uds-mode", "1777"], "--uds-mode: '1777' is not valid"),
    ],
)
def test_wrong_mode_or_group_leaves_no_file(path: Path, given: list[str], sentence: str) -> None:
    command = [sys.executable, "-m", "se_server", "--workers", "1", "--uds", str(path), *given]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert not path.exists()


def test_mode_without_a_unix_socket_is_refused() -> None:
    command = [sys.executable, "-m", "se_server", "--workers", "1", "--port", "0", "--uds-mode", "660"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, "--uds-mode is for a Unix socket: give --uds PATH too" in done.stderr) == (2, True)


def test_a_file_that_nobody_listens_on_is_replaced(path: Path) -> None:
    first = UnixListenSocket(str(path))
    with pytest.raises(ConfigError, match=r"uds: .* is already in use"):
        UnixListenSocket(str(path))
    first.socket.close()  # as if it had been killed
    second = UnixListenSocket(str(path))
    first.remove()  # it is late, and the file is no longer its own
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    second.socket.close()
    second.remove()
    second.remove()
    assert not os.path.lexists(path)


def test_paths_that_cannot_be_had(path: Path) -> None:
    path.write_text("precious")
    for wrong, expected in (
        (str(path), "exists and is not a socket"),
        (str(path.parent / "none" / "s"), "No such file or directory"),
        (str(path.parent / ("x" * 200)), "too long"),
    ):
        with pytest.raises(ConfigError, match=expected):
            UnixListenSocket(wrong)
    assert path.read_text() == "precious"
    assert "is not a socket" in sentence("--uds", path, code=2)


async def test_se_server_listens_on_both(path: Path) -> None:
    with running_server("--uds", str(path)) as server:
        server.wait_for_output(rf"ready: ws://127.0.0.1:{server.port}/ and unix:{path} \(2 workers\)")
        assert all(await converse(path, "hello"))
        async with connect(server.url) as caller:
            await caller.send(transcript_message("hello"))
            assert spoken(await read_answer(caller))
        assert health(server.port) == 200
    assert not os.path.lexists(path)  # noqa: ASYNC240


async def test_se_server_listens_on_the_unix_socket_alone(path: Path) -> None:
    command = [sys.executable, "-m", "se_server.cli.server", "--uds", str(path), "--workers", "1"]
    server = ServerProcess(command, environment(), TEST_API_KEY)
    try:
        server.wait_for_output(rf"ready: unix:{path} \(1 worker\)\n")
        assert all(await converse(path, "hello"))
        assert "ws://" not in server.output()
    finally:
        assert server.stop() == 0
    assert not os.path.lexists(path)  # noqa: ASYNC240


async def test_server_in_process_listens_on_uds_alone(path: Path) -> None:
    server = SpeechEngineServer(uds=str(path), api_key=TEST_API_KEY, on_transcript=echo)
    async with serving(server):
        assert server.port == 0
        assert await converse(path, "hello") == ["hello"]
    assert not os.path.lexists(path)  # noqa: ASYNC240


async def test_a_server_of_one_process_listens_on_both(path: Path) -> None:
    server = make_server(uds=str(path))
    async with serving(server):
        assert await converse(path, "hello") == ["hello"]
        async with connect(f"ws://127.0.0.1:{server.port}/") as caller:
            await caller.send(transcript_message("hello"))
            assert spoken(await read_answer(caller)) == "hello"


def test_failed_uds_frees_the_port(run: Run, path: Path) -> None:  # noqa: F811
    path.write_text("precious")
    server = make_server(uds=str(path))
    with pytest.raises(ConfigError, match=r"^uds: .* is not a socket"):
        run(server.serve())
    assert path.read_text() == "precious"
