"""Answers to HAProxy's agent checks, asked of a real server."""

from __future__ import annotations

import re
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import pytest

from tests.functional.processes import write_agent
from tests.helpers import (
    START_TIMEOUT_S,
    TEST_API_KEY,
    ServerProcess,
    connect,
    environment,
    free_port,
    running_server,
    stopped_at_the_end,
)

WAIT_S = 20.0


@pytest.fixture
def app(tmp_path: Path) -> Path:
    return write_agent(tmp_path / "app.py")


@pytest.fixture
def address() -> str:
    return f"127.0.0.1:{free_port()}"


@contextmanager
def started(*args: str, app: Path) -> Iterator[ServerProcess]:
    """Start `se-server` without waiting until it is ready."""
    command = [sys.executable, "-m", "se_server", str(app), "--host", "127.0.0.1", "--port", "0", "--workers", "1"]
    server = ServerProcess([*command, *args], environment(TEST_API_KEY), TEST_API_KEY)
    try:
        yield server
    finally:
        server.stop()


def check(address: str, sends: bytes = b"") -> str:
    """Ask as HAProxy does, and return the line."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=WAIT_S) as connection:
        if sends:
            connection.sendall(sends)
        with connection.makefile() as answer:
            return answer.read()


def until(address: str, expected: str) -> None:
    """Ask until the answer matches."""
    deadline = time.monotonic() + WAIT_S
    while not re.fullmatch(expected, answer := check(address)):
        assert time.monotonic() < deadline, f"still {answer!r}, not {expected!r}"
        time.sleep(0.02)


def weight(address: str) -> int:
    found = re.fullmatch(r"ready (\d+)%\n", check(address))
    assert found is not None
    return int(found[1])


async def test_weight_falls_as_conversations_come(app: Path, address: str) -> None:
    with running_server("--agent-check", address, "--max-sessions", "4", app=app) as server:
        until(address, r"ready (9\d|100)%\n")
        async with AsyncExitStack() as held:
            for most in (75, 50, 25, 1):
                await held.enter_async_context(connect(server.url))
                until(address, rf"ready {most // 10}?\d%\n")
                assert weight(address) <= most
        until(address, r"ready (9\d|100)%\n")


async def test_a_draining_server_says_drain(app: Path, address: str) -> None:
    with running_server("--agent-check", address, app=app) as server:
        async with connect(server.url):
            server.send_signal(signal.SIGTERM)
            until(address, "drain\n")
            assert check(address) == "drain\n"
        assert server.wait() == 0


def test_a_server_that_starts_says_maint(tmp_path: Path, address: str) -> None:
    gate = tmp_path / "gate"
    source = f"""
        import asyncio, pathlib
        async def on_startup():
            while not pathlib.Path({str(gate)!r}).exists():
                await asyncio.sleep(0.02)
        async def on_transcript(transcript, session):
            await session.send_response("hi")
    """
    app = write_agent(tmp_path / "slow.py", source)
    with started("--agent-check", address, app=app) as server:
        deadline = time.monotonic() + WAIT_S
        while True:
            try:
                assert check(address) == "maint\n"
                break
            except ConnectionRefusedError:
                assert time.monotonic() < deadline
                time.sleep(0.02)
        gate.touch()
        server.wait_for_output("ready", START_TIMEOUT_S)
        until(address, r"ready \d+%\n")


def test_an_upgrade_keeps_answering_checks(app: Path, address: str) -> None:
    with running_server("--agent-check", address, app=app) as server:
        until(address, r"ready \d+%\n")
        server.send_signal(signal.SIGUSR2)
        answers = set()
        while server.is_running():
            answers.add(check(address).split()[0])
        found = server.wait_for_output(r"upgrade: supervisor (\d+) serves")
        with stopped_at_the_end(int(found[1])):
            answers.add(check(address).split()[0])
            assert answers == {"ready"}
        assert server.wait() == 0


def test_silent_and_talking_checkers_delay_no_other(app: Path, address: str) -> None:
    host, _, port = address.rpartition(":")
    with running_server("--agent-check", address, app=app):
        until(address, r"ready \d+%\n")
        silent = [socket.create_connection((host, int(port)), timeout=WAIT_S) for _ in range(100)]
        try:
            assert check(address, b"a\n" * 100).startswith("ready ")
        finally:
            for connection in silent:
                connection.close()


def test_an_address_in_use_ends_the_start(app: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with started("--agent-check", address, app=app) as server:
            assert server.wait() == 2
            assert "--agent-check: " in server.output()
