"""`[[routes]]`: several engines in one server, found by host and path, with keys and options of their own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from se_server.auth import key_fingerprint
from se_server.errors import CallerError
from se_server.simulator.caller import Caller
from se_server.toml_file import parse_toml
from tests.helpers import START_TIMEOUT_S, ServerProcess, running_server

AGENT = """
async def on_startup():
    print("{name} starts", flush=True)
async def on_transcript(transcript, session):
    tenant = session.path_params.get("tenant")
    await session.send_response(f"{name} {{tenant}}")
"""
FILE = """
[[routes]]
path = "/sales"
app = "sales.py"
api_key_file = "sales.keys"
[[routes]]
path = "/ws/{tenant}"
app = "support.py"
api_key = "sk_support"
[[routes]]
name = "vip"
host = "vip.example.com"
app = "sales.py"
api_key = "sk_vip"
require_header = "X-Vip=yes"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("sales", "support"):
        (tmp_path / f"{name}.py").write_text(AGENT.format(name=name))
    (tmp_path / "sales.keys").write_text("sk_sales\n")
    (tmp_path / "se.toml").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@contextmanager
def running(folder: Path, *options: str) -> Iterator[ServerProcess]:
    with running_server("--config", str(folder / "se.toml"), *options, workers=1, api_key=None) as server:
        yield server


async def said(server: ServerProcess, path: str, key: str, **headers: str) -> str:
    url = f"ws://127.0.0.1:{server.port}{path}"
    async with Caller.connect(url, api_key=key, headers=headers) as caller:
        return (await caller.say("Hello?")).text


async def test_each_route_has_its_agent_and_key(folder: Path) -> None:
    with running(folder) as server:
        assert await said(server, "/sales", "sk_sales") == "sales None"
        assert await said(server, "/ws/caf%C3%A9", "sk_support") == "support caf\u00e9"
        assert await said(server, "/any", "sk_vip", Host="VIP.example.com:80", **{"X-Vip": "yes"}) == "sales None"
        for path, key, headers, status in (
            ("/sales", "sk_support", {}, 401),
            ("/ws/acme", "sk_sales", {}, 401),
            ("/any", "sk_vip", {"Host": "vip.example.com"}, 401),
            ("/any", "sk_sales", {}, 404),
        ):
            with pytest.raises(CallerError) as refused:
                await said(server, path, key, **headers)
            assert refused.value.status == status
        assert server.output().count("sales starts") == 1  # the two routes share the APP
        server.wait_for_output(r"conversation ended: .*path=\"/sales\".* route=\"/sales\"")
        server.wait_for_output(r"401 \(route 'vip', require-header X-Vip\)")


async def test_a_reload_reads_keys_and_routes_again(folder: Path) -> None:
    with running(folder) as server:
        (folder / "sales.keys").write_text("sk_sales\nsk_next\n")
        (folder / "se.toml").write_text(FILE + '[[routes]]\npath = "/new"\napp = "sales.py"\napi_key = "sk_new"\n')
        os.kill(server.pid, signal.SIGHUP)
        server.wait_for_output("generation 2 serves")
        deadline = asyncio.get_running_loop().time() + START_TIMEOUT_S
        for path, key in (("/sales", "sk_next"), ("/sales", "sk_sales"), ("/new", "sk_new")):
            while True:
                try:
                    assert await said(server, path, key) == "sales None"
                    break
                except CallerError:  # the old worker may take one more connection
                    assert asyncio.get_running_loop().time() < deadline


@pytest.mark.parametrize(
    ("file", "text", "sentence"),
    [
        ("support.py", "raise OSError('no pool')", "route '/ws/{tenant}': APP 'support.py': importing"),
        ("support.py", AGENT.format(name="x").replace("print", "1/0; print"), "'support.py': on_startup raised"),
        ("support.py", "nothing = 1", "route '/ws/{tenant}': APP 'support.py' has no handler"),
        ("se.toml", FILE.replace("/sales", "/ws/{other}"), "routes '/ws/{other}' and '/ws/{tenant}' tie"),
        ("se.toml", FILE.replace("sales.keys", "gone.keys"), "[[routes]] 1 in"),
        ("se.toml", FILE.replace('path = "/ws/{tenant}"', 'port = 1'), "port in [[routes]] 2 in"),
    ],
    ids=["import", "startup", "handler", "tie", "keys", "option"],
)  # fmt: skip
async def test_one_bad_route_refuses_the_whole_reload(folder: Path, file: str, text: str, sentence: str) -> None:
    with running(folder) as server:
        (folder / file).write_text(text)
        os.kill(server.pid, signal.SIGHUP)
        server.wait_for_output("the old workers serve on|the server goes on unchanged")
        assert sentence in server.output()
        assert await said(server, "/sales", "sk_sales") == "sales None"
        assert await said(server, "/ws/acme", "sk_support") == "support acme"


HOSTILE = {
    b"/ws/\xff": b"400",
    b"/ws/a b": b"400",
    b"/ws/%0d%0aX-Evil": b"404",
    b"/ws/%1b[31m": b"404",
    b"/ws/..": b"404",
    b"//sales": b"404",
    b"/sales/../sales": b"404",
    b"/" + b"a/" * 4000: b"404",
    b"/ws/" + b"a" * 100_000: b"431",
}


@pytest.mark.parametrize("path", HOSTILE, ids=lambda path: ascii(path[:20]))
def test_hostile_paths_are_refused(path: bytes, hostile: ServerProcess) -> None:
    with socket.create_connection(("127.0.0.1", hostile.port)) as peer:
        head = b"Host: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        peer.sendall(b"GET " + path + b" HTTP/1.1\r\n" + head + b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
        assert peer.recv(4096)[9:12] == HOSTILE[path]
    assert "\x1b" not in hostile.output()


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "agent.py").write_text(AGENT.format(name="agent"))
    routes = "".join(f'[[routes]]\npath = "{path}"\napp = "{folder}/agent.py"\n' for path in ("/sales", "/ws/{tenant}"))
    (folder / "se.toml").write_text("disable_auth = true\n" + routes)
    with running(folder) as server:
        yield server


async def test_a_route_is_limited_counted_and_shown(folder: Path) -> None:
    (folder / "se.toml").write_text(FILE.replace('app = "support.py"\n', 'app = "support.py"\nmax_sessions = 2\n'))
    control, admin = str(folder / "ctl"), str(folder / "admin")
    options = ("--config", str(folder / "se.toml"), "--control-socket", control, "--admin", admin)
    with running_server(*options, workers=2, api_key=None) as server:
        url = f"ws://127.0.0.1:{server.port}/ws/acme"
        async with AsyncExitStack() as stack:
            for _ in range(2):
                caller = await stack.enter_async_context(Caller.connect(url, api_key="sk_support"))
                await caller.say("Hello?")
            with pytest.raises(CallerError) as refused:
                await said(server, "/ws/acme", "sk_support")
            assert refused.value.status == 503
            assert await said(server, "/sales", "sk_sales") == "sales None"
            await until_free(control, "/sales")
            rows = rows_of(control)
            assert [rows["/ws/{tenant}"][name] for name in ("sessions", "max_sessions", "turns_ended")] == [2, 2, 2]
            assert [rows["/sales"][name] for name in ("sessions", "max_sessions", "sessions_opened")] == [0, None, 1]
            metrics = await fetch(admin, "/metrics")
            for line in (
                'se_server_route_conversations{route="/ws/{tenant}"} 2.0',
                'se_server_route_turns_total{outcome="answered",route="/ws/{tenant}"} 2.0',
                'se_server_route_turn_first_text_seconds_count{route="/ws/{tenant}"} 2.0',
                'se_server_turns_total{outcome="answered"} 3.0',
                "se_server_conversations_total 3.0",
            ):
                assert line in metrics
            keys = se_ctl(control, "keys")["keys"]
            assert [(row["route"], len(row["keys"])) for row in keys] == [
                ("/sales", 1),
                ("/ws/{tenant}", 1),
                ("vip", 1),
            ]
            assert key_fingerprint("sk_support") in keys[1]["keys"]
            for pid in server.worker_pids():
                os.kill(pid, signal.SIGKILL)  # their seats are free then, and their counts are kept
        await until_free(control, "/ws/{tenant}")
        assert rows_of(control)["/ws/{tenant}"]["sessions_opened"] == 2
        assert await said(server, "/ws/acme", "sk_support") == "support acme"


def se_ctl(control: str, *words: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "se_server.cli.ctl", "--socket", control, *words, "--json"]
    return dict(json.loads(subprocess.run(command, capture_output=True, check=True, timeout=30).stdout))


def rows_of(control: str) -> dict[str, dict[str, Any]]:
    return {row["route"]: row for row in se_ctl(control, "status")["routes"]}


async def until_free(control: str, route: str) -> None:
    """Wait until a route has no conversation."""
    deadline = asyncio.get_running_loop().time() + START_TIMEOUT_S
    while rows_of(control)[route]["sessions"]:
        assert asyncio.get_running_loop().time() < deadline


async def fetch(path: str, target: str) -> str:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    page = await reader.read()
    writer.close()
    return page.decode()


@pytest.mark.parametrize(
    ("routes", "sentence"),
    [
        ('path = "/b"', "[[routes]] 1 and 2 in se.toml have the same path '/b': give each its own"),
        ('path = "/c"\nname = "/b"', "[[routes]] 1 and 2 in se.toml have the same name '/b': give each its own"),
        ('path = "/a b"', "path in [[routes]] 2 in se.toml: '/a b' is not valid: expected blanks percent-encoded"),
        ('host = "*.a.com"', "host in [[routes]] 2 in se.toml: '*.a.com' is not one name"),
        ('disable_auth = true\napi_key = "sk_a"', "[[routes]] 2 in se.toml: disable_auth asks for no token"),
        ('first_word_after_s = 2', "se-server: first_word_after_s in [[routes]] 2 in se.toml and first_word_text"),
    ],
    ids=["path", "name", "blank", "wildcard", "key", "pair"],
)  # fmt: skip
def test_a_wrong_route_is_one_sentence(folder: Path, routes: str, sentence: str) -> None:
    (folder / "se.toml").write_text(f'app = "sales.py"\n[[routes]]\npath = "/b"\n[[routes]]\n{routes}\n')
    found = se_server(folder, "--check")
    assert found.returncode == 2
    assert sentence in found.stderr.replace(f"{folder}/", "")


def test_printed_routes_are_read_again(folder: Path) -> None:
    (folder / "se.toml").write_text(
        'app = "sales.py"\nturn_timeout_s = 9\n[[routes]]\npath = "/a"\nturn_timeout_s = "off"\n'
    )
    printed = se_server(folder, "--print-config").stdout
    (route,) = parse_toml(printed.encode())["routes"]
    assert route == {"path": "/a", "turn_timeout_s": "off"}


def se_server(folder: Path, option: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "se_server.cli.server", "--config", str(folder / "se.toml"), option]
    return subprocess.run(command, capture_output=True, check=False, timeout=30, text=True)
