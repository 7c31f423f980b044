"""The front door's small promises, through real servers: secrets stay secret, failures of an address are limited."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from se_server.auth import AUTHORIZATION_HEADER, TokenVerifier, sign_token
from se_server.conversation.session import SpeechEngineSession
from se_server.server.door.access import Access
from se_server.server.door.networks import proxies
from se_server.server.listen.sockets import bind
from tests.doors import make_door
from tests.functional.test_door import Run, run, until  # noqa: F401
from tests.functional.test_tls import Files, files  # noqa: F401
from tests.helpers import (
    TEST_API_KEY,
    ServerProcess,
    connect,
    environment,
    init_message,
    read_answer,
    running_server,
    spoken,
    transcript_message,
    wait_for_end,
)

KEY = "sk_2f6c1b0e9d8a7f4e3c2b1a0f9e8d7c6b5a4f3e2d1c0b9a8f"
TELL = """\
async def on_transcript(transcript, session):
    await session.send_response(str({}))
"""


async def ask(url: str, headers: dict[str, str] | None = None) -> str:
    async with connect(url, headers=headers) as websocket:
        await websocket.send(init_message())
        await websocket.send(transcript_message("hello"))
        return spoken(await read_answer(websocket))


def reload(server: ServerProcess) -> None:
    """Reload, and wait until the old workers accept nothing."""
    old = server.worker_pids()
    server.send_signal(signal.SIGHUP)
    server.wait_for_output("generation 2 serves")
    wait_for_end(old)


def sentence(*args: object, **env: str) -> str:
    """Return what se-server says instead of starting."""
    command = [sys.executable, "-m", "se_server.cli.server", "--check", *map(str, args)]
    ended = subprocess.run(
        command, check=False, env=environment(None, **env), capture_output=True, text=True, timeout=30
    )
    assert ended.returncode == 2, ended
    return ended.stdout + ended.stderr


# --- secrets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["--api-key-file", "--config", "--workers"])
def test_key_in_the_wrong_place_is_not_echoed(option: str) -> None:
    assert KEY[:20] not in sentence(option, KEY)


def test_missing_file_is_named(tmp_path: Path) -> None:
    for option in ("--api-key-file", "--config", "--certfile"):
        assert f"{tmp_path}/none" in sentence(option, tmp_path / "none")


async def test_required_header_comes_from_a_file(tmp_path: Path) -> None:
    app, file = tmp_path / "agent.py", tmp_path / "header"
    app.write_text(TELL.format("session.path"))
    file.write_text("# the balancer's secret\nX-Secret=correct horse\n")
    with running_server("--require-header-file", str(file), app=app, workers=1) as server:
        assert await ask(server.url, {"X-Secret": "correct horse"}) == "/"
        with pytest.raises(InvalidStatus, match="401"):
            await ask(server.url, {"X-Secret": "wrong"})
        file.write_text("X-Secret=battery staple\n")
        reload(server)
        assert await ask(server.url, {"X-Secret": "battery staple"}) == "/"
    for content in ("", "X-Secret\n", "A=1\nB=2\n"):
        file.write_text(content)
        said = sentence(app, "--require-header-file", file)
        assert "--require-header-file" in said
        assert "NAME=VALUE" in said


async def test_required_header_comes_from_the_environment(tmp_path: Path) -> None:
    app = tmp_path / "agent.py"
    app.write_text(TELL.format("session.path"))
    with running_server(app=app, workers=1, env={"SE_SERVER_REQUIRE_HEADER": "X-Secret=correct horse"}) as server:
        assert await ask(server.url, {"X-Secret": "correct horse"}) == "/"
        with pytest.raises(InvalidStatus, match="401"):
            await ask(server.url)


async def test_verified_secrets_are_not_in_the_session(tmp_path: Path) -> None:
    app = tmp_path / "agent.py"
    app.write_text(
        TELL.format("[dict(session.headers), session.headers.getall(NAME), list(session.headers.items_raw())]")
    )
    app.write_text(f"NAME = {AUTHORIZATION_HEADER!r}\n" + app.read_text())
    with running_server("--require-header", "X-Lock=correct horse", app=app, workers=1) as server:
        said = await ask(server.url, {"X-Customer": "7", "X-Lock": "correct horse"})
        assert "x-customer" in said.lower()
        assert "x-lock" not in said.lower()
        assert "correct horse" not in said
        assert AUTHORIZATION_HEADER.lower() not in said.lower()
        assert "eyJ" not in said


# --- addresses ------------------------------------------------------------------------------------------------------


async def test_unknown_client_is_not_shown_as_the_proxy(tmp_path: Path) -> None:
    app = tmp_path / "agent.py"
    app.write_text(TELL.format("session.remote or 'unknown'"))
    with running_server("--trusted-proxies", "127.0.0.0/8", app=app, workers=1) as server:
        assert await ask(server.url, {"X-Forwarded-For": "198.51.100.7"}) == "198.51.100.7"
        for names in ("unknown", "198.51.100.7,", "198.51.100.7" + ", 127.0.0.2" * 32, "x" * 5000):
            assert await ask(server.url, {"X-Forwarded-For": names}) == "unknown"


async def test_allowed_addresses_are_read_again_at_a_reload(tmp_path: Path) -> None:
    app, file = tmp_path / "agent.py", tmp_path / "allowed"
    app.write_text(TELL.format("session.path"))
    file.write_text("198.51.100.0/24  # elsewhere\n")
    with running_server("--allow-ips", f"@{file}", app=app, workers=1) as server:
        with pytest.raises(InvalidStatus, match="403"):
            await ask(server.url)
        file.write_text("198.51.100.0/24\n127.0.0.1\n")
        reload(server)
        assert await ask(server.url) == "/"
        file.write_text("\n")
        server.send_signal(signal.SIGHUP)
        server.wait_for_output("no reload, the server goes on unchanged: --allow-ips")
        assert await ask(server.url) == "/"


# --- failed handshakes ----------------------------------------------------------------------------------------------


def test_failures_of_an_address_are_limited_and_good_tokens_never(run: Run) -> None:  # noqa: F811
    async def status(port: int, token: str, client: str = "198.51.100.7") -> tuple[int, Any]:
        headers = {AUTHORIZATION_HEADER: token, "X-Forwarded-For": client}
        try:
            async with connect(f"ws://127.0.0.1:{port}/ws", None, headers=headers) as websocket:
                return 101, websocket.local_address
        except InvalidStatus as refused:
            return refused.response.status_code, refused.response.headers.get("Retry-After")

    async def scenario() -> None:
        sockets = bind("127.0.0.1", 0)
        access = Access(trusted_proxies=proxies("127.0.0.0/8"), max_failed_handshakes_per_s=0.001)
        door = make_door(sockets, verifier=TokenVerifier(TEST_API_KEY), access=access)
        door.open()
        port = sockets[0].getsockname()[1]
        good, wrong = sign_token(TEST_API_KEY), sign_token("sk_other")
        assert (await status(port, wrong))[0] == 401
        assert await status(port, wrong) == (429, "1")
        for _ in range(3):
            assert (await status(port, good))[0] == 101
        assert (await status(port, wrong))[0] == 429
        assert (await status(port, wrong, "198.51.100.8"))[0] == 401
        await until(lambda: not (door.sessions or door.connections))
        await door.close()

    run(scenario())


def test_failed_tls_handshakes_of_an_address_count(run: Run, files: Files) -> None:  # noqa: F811
    async def scenario() -> None:
        sockets = bind("127.0.0.1", 0)
        access = Access(max_failed_handshakes_per_s=0.001)
        door = make_door(sockets, verifier=TokenVerifier(TEST_API_KEY), access=access, ssl=files.server_context())
        door.open()
        port = sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")  # no TLS
        await reader.read()
        writer.close()
        url, context = f"wss://127.0.0.1:{port}/ws", files.client_context()
        with pytest.raises(InvalidStatus, match="429"):
            await connect(url, "sk_other", ssl=context).__aenter__()
        async with connect(url, TEST_API_KEY, ssl=context):
            pass
        await until(lambda: not (door.sessions or door.connections))
        await door.close()

    run(scenario())


async def test_limit_of_failures_is_off_by_default(tmp_path: Path) -> None:
    app = tmp_path / "agent.py"
    app.write_text(TELL.format("session.path"))
    with running_server(app=app, workers=1) as server:
        for _ in range(30):
            with pytest.raises(InvalidStatus, match="401"):
                await connect(server.url, "sk_other").__aenter__()
        assert await ask(server.url) == "/"


async def test_refusals_of_an_address_are_logged(tmp_path: Path) -> None:
    app = tmp_path / "agent.py"
    app.write_text(TELL.format("session.path"))
    with running_server("--max-failed-handshakes-per-s", "0.05", app=app, workers=1) as server:
        results = []
        for _ in range(3):
            with pytest.raises(InvalidStatus) as refused:
                await connect(server.url, "sk_other").__aenter__()
            results.append(refused.value.response.status_code)
        assert results[0] == 401
        assert 429 in results
        server.wait_for_output("too many failed handshakes of one address: 127.0.0.1:.* was answered 429")


def test_session_of_another_library_has_no_token() -> None:
    class Request:
        path = "/ws"
        headers = {AUTHORIZATION_HEADER: "a live token", "X-Customer": "7"}  # noqa: RUF012

    class Other:
        request = Request()

        async def recv(self) -> str:
            raise ConnectionError

        async def send(self, data: str) -> None:
            raise ConnectionError

        async def close(self) -> None:
            raise ConnectionError

    async def scenario() -> None:
        session = SpeechEngineSession(Other())
        assert session.headers["x-customer"] == "7"
        assert list(session.headers) == ["x-customer"]
        assert "live" not in repr(session._request)

    asyncio.run(scenario())
