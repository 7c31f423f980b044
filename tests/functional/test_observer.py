"""The observer: metrics that hold against what callers did, and a process that callers never notice."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.functional.observing import BEARER, PAGE_LINE, Admin, observed_server
from tests.functional.processes import call, needs_proc, write_agent
from tests.helpers import START_TIMEOUT_S, connect, running_server, wait_for_end

pytestmark = needs_proc


async def test_conversations_and_refusals_are_counted() -> None:
    with observed_server(workers=2, app=None, api_key=None) as admin:
        server = admin.server
        assert admin.get("/livez") == (200, "ok\n")
        assert "<!doctype html>" in admin.get("/")[1].lower()
        with pytest.raises(Exception, match="401"):
            async with connect(server.url, "sk_wrong"):
                pass
        async with connect(server.url, _demo_key()) as one, connect(server.url, _demo_key()):
            admin.wait_for_value(2, "conversations", state="listening")
            await one.close()
            admin.wait_for_value(1, "conversations", state="listening")
        admin.wait_for_value(2, "conversations_closed_total", cause="peer", code="1000")
        assert admin.value("conversations_total") == 2
        assert admin.value("refusals_total", reason="token_refused") == 1
        assert admin.value("handshake_seconds_count") == 2
        assert admin.value("conversation_duration_seconds_count") == 2
        assert admin.value("build_info", version=_version(), python=sys.version.split()[0]) == 1


async def test_load_is_a_share_of_the_measured_capacity(tmp_path: Path) -> None:
    with observed_server("--capacity", "8", app=write_agent(tmp_path / "agent.py"), workers=1) as admin:
        async with call(admin.server) as caller, call(admin.server):
            await caller.ask()
            admin.wait_for_value(0.25, "load_ratio")
            assert admin.value("capacity") == 8
            assert admin.overview()["capacity"] == 8


def test_every_total_is_a_counter_in_text_format() -> None:
    with observed_server(workers=1, app=None, api_key=None) as admin:
        _, text = admin.get("/metrics")
    types = dict(line.split()[2:] for line in text.splitlines() if line.startswith("# TYPE"))
    assert types["se_server_conversations"] == "gauge"
    assert types["se_server_conversations_total"] == "counter"
    assert {kind for name, kind in types.items() if name.endswith("_total")} == {"counter"}
    assert "untyped" not in types.values()


async def test_a_killed_observer_changes_nothing_for_callers(tmp_path: Path) -> None:
    app = write_agent(tmp_path / "agent.py")
    with observed_server(app=app) as admin:
        async with call(admin.server) as caller:
            for turn in range(3):
                pid = admin.pid()
                before = admin.samples()
                os.kill(pid, signal.SIGKILL)
                await caller.ask()
                admin.server.wait_for_output(
                    rf"(?s)(?:the observer was killed.*){{{turn + 1}}}INFO .*page for operators"
                )
                after = admin.samples()
                assert admin.pid() != pid
                fallen = [key for key in before if key[0].endswith("_total") and after[key] < before[key]]
                assert fallen == []
                assert after["start_time_seconds", frozenset()] == before["start_time_seconds", frozenset()]
        assert admin.server.stop() == 0


def test_a_signal_to_the_whole_group_is_no_error() -> None:
    with observed_server(app=None, workers=1, api_key=None) as admin:
        server = admin.server
        os.kill(admin.pid(), signal.SIGTERM)
        server.wait_for_output("(?s)the observer was ended by SIGTERM.*INFO .*page for operators")
        assert server.stop() == 0
        assert "ERROR" not in server.output()


def test_a_stopping_observer_answers_its_last_connection() -> None:
    for tries_left in (2, 1, 0):
        try:
            _stop_with_a_connection_that_waits()
            break
        except http.client.RemoteDisconnected:  # this process stood still for longer than the observer waits
            if not tries_left:
                raise


def _stop_with_a_connection_that_waits() -> None:
    with observed_server(app=None, workers=1, api_key=None) as admin:
        assert isinstance(admin.place, int)
        waiting, kept = (http.client.HTTPConnection("127.0.0.1", admin.place, START_TIMEOUT_S) for _ in range(2))
        with closing(waiting), closing(kept):
            waiting.connect()
            kept.request("GET", "/livez")
            assert kept.getresponse().read() == b"ok\n"  # it was taken after the one that waits
            os.kill(admin.pid(), signal.SIGTERM)
            assert kept.sock.recv(1) == b""
            waiting.request("GET", "/livez")
            answer = waiting.getresponse()
            assert (answer.read(), answer.headers["connection"]) == (b"ok\n", "close")
        assert admin.server.stop() == 0


async def test_an_observer_that_hangs_is_replaced(tmp_path: Path) -> None:
    app = write_agent(tmp_path / "agent.py")
    with observed_server("--hang-timeout-s", "1", app=app, workers=1) as admin:
        async with call(admin.server) as caller:
            stopped = admin.pid()
            os.kill(stopped, signal.SIGSTOP)
            admin.server.wait_for_output("the observer hangs", START_TIMEOUT_S)
            admin.server.wait_for_output("(?s)the observer was killed.*INFO .*page for operators", START_TIMEOUT_S)
            assert admin.pid() != stopped
            assert admin.get("/livez") == (200, "ok\n")
            await caller.ask()


def test_an_observer_that_fails_is_named_in_the_log(tmp_path: Path) -> None:
    broken = tmp_path / "starlette"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise RuntimeError('broken web framework')")
    app = write_agent(tmp_path / "agent.py")
    with running_server("--admin", "127.0.0.1:0", app=app, workers=1, env={"PYTHONPATH": str(tmp_path)}) as server:
        server.wait_for_output("CRITICAL .*the observer fails", START_TIMEOUT_S)
        assert "the worker fails" not in server.output()


async def test_a_killed_worker_takes_no_figure_with_it(tmp_path: Path) -> None:
    app = write_agent(tmp_path / "agent.py")
    with observed_server(app=app, workers=1) as admin:
        (worker,) = [row["pid"] for row in admin.overview()["workers"]]
        async with call(admin.server) as caller:
            await caller.ask()
            os.kill(worker, signal.SIGKILL)
            await caller.until_cut()
        admin.wait_for_value(1, "conversations_closed_total", cause="worker_died", code="1006")
        assert admin.value("conversations_total") == 1
        admin.wait_for_value(1, "worker_restarts_total", cause="crash")
        admin.wait_for_value(0, "conversations", state="listening")


async def test_an_upgrade_hands_the_address_on(tmp_path: Path) -> None:
    app = write_agent(tmp_path / "agent.py")
    with observed_server("--pidfile", str(tmp_path / "pid"), app=app, workers=1) as admin:
        server = admin.server
        started = admin.value("start_time_seconds")
        async with call(server) as caller:
            await caller.ask()
            server.send_signal(signal.SIGUSR2)
            server.wait_for_output(r"upgrade: supervisor (\d+) serves", START_TIMEOUT_S)
            server.wait_for_output(rf"(?s)(?:{PAGE_LINE.pattern}.*){{2}}", START_TIMEOUT_S)
            admin.wait_for_value(1, "upgrades_total", result="succeeded")  # the old observer still answers for a moment
            assert admin.value("start_time_seconds") > started
            # The conversation is on a worker of the old supervisor.
            assert admin.value("conversations", state="listening") == 1
            assert admin.value("conversations_total") == 0
            await caller.ask()
        admin.wait_for_value(0, "conversations", state="listening")
        server.wait()
        successor = int((tmp_path / "pid").read_text())
        os.kill(successor, signal.SIGTERM)
        wait_for_end([successor])


def test_a_unix_socket_serves_and_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    with running_server("--admin", str(path), workers=1, api_key=None) as server:
        server.wait_for_output("the page for operators is at")
        assert Admin(server, path).get("/livez") == (200, "ok\n")
        assert path.stat().st_mode & 0o777 == 0o600
        assert server.stop() == 0
    assert not path.exists()


def test_only_the_observer_has_a_web_server(tmp_path: Path) -> None:
    # A worker has what its supervisor has imported, and what it has imported itself.
    app = write_agent(
        tmp_path / "agent.py",
        """
        import sys
        print("worker has", [name for name in ("starlette", "uvicorn", "prometheus_client") if name in sys.modules])
        async def on_transcript(transcript, session): pass
        """,
    )
    with observed_server(app=app, workers=1) as admin:
        admin.server.wait_for_output(r"worker has \[\]")
        observer = admin.pid()
        (worker,) = [row["pid"] for row in admin.overview()["workers"]]
        ports = {admin.place, admin.server.port}
        assert _listened(observer) & ports == {admin.place}
        assert _listened(worker) & ports == {admin.server.port}


def test_an_address_that_all_can_reach_needs_a_token(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="--admin-token-file FILE"), running_server("--admin", "*:0"):
        raise AssertionError("it serves")


def test_no_scraper_fills_the_log_or_memory() -> None:
    """A scraper may ask for any form of the metrics, also one that is none."""
    with observed_server(workers=1, app=None, api_key=None) as admin:
        for version in (*map(str, range(2, 40)), "a", "1.a", "-1.0.0", "\xe9"):
            status, text = admin.get("/metrics", {"Accept": f"application/openmetrics-text; version={version}"})
            assert status == 200
            assert "se_server_conversations" in text
        assert "Traceback" not in admin.server.output()


def test_bodies_cut_short_are_not_logged(tmp_path: Path) -> None:
    with observed_server(workers=1, app=None, api_key=None, tokens=tmp_path / "tokens") as admin:
        head = f"POST /api/actions/close HTTP/1.1\r\nHost: localhost\r\nAuthorization: {BEARER['Authorization']}\r\n"
        head += "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", int(str(admin.place)))) as peer:
                peer.sendall(head.encode())
                peer.shutdown(socket.SHUT_WR)
                while peer.recv(4096):
                    pass
        assert "Traceback" not in admin.server.output()


def test_actions_need_a_token_and_reach_the_supervisor(tmp_path: Path) -> None:
    app = write_agent(tmp_path / "agent.py")
    with observed_server(app=app, workers=1, tokens=tmp_path / "tokens") as admin:
        as_json = {"Content-Type": "application/json"}
        body = json.dumps({"argument": None})
        assert admin.get("/api/actions/reload", as_json, "POST", body)[0] == 401
        assert admin.get("/api/actions/reload", BEARER, "POST", body)[0] == 415
        assert admin.get("/api/actions/explode", {**as_json, **BEARER}, "POST", body)[0] == 404
        status, text = admin.get("/api/actions/reload", {**as_json, **BEARER}, "POST", body)
        assert (status, "the reload has begun" in text) == (200, True)
        admin.server.wait_for_output("reload: generation 2 serves", START_TIMEOUT_S)
        status, text = admin.get("/api/actions/close", {**as_json, **BEARER}, "POST", body)
        assert (status, "close takes the id" in text) == (409, True)


def _demo_key() -> str:
    from se_server.demo import DEMO_API_KEY

    return DEMO_API_KEY


def _version() -> str:
    import se_server

    return se_server.__version__


def _listened(pid: int) -> set[int]:
    """Return the ports of the listen sockets that a process holds."""
    inodes = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            inodes.add(os.readlink(entry))
        except OSError:
            continue
    ports = set()
    for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
            ports.add(int(fields[1].rpartition(":")[2], 16))
    return ports
