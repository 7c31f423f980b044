"""Conversations go on while workers are reloaded, added, removed and recycled."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path

import se_server
from tests.functional.processes import AGENT, call, needs_proc, wait_for_drain, write_agent
from tests.helpers import (
    READY_LINE,
    START_TIMEOUT_S,
    TEST_API_KEY,
    ServerProcess,
    running_server,
    wait_for_end,
)

# --- reload ---------------------------------------------------------------------------------------------------------


async def test_a_reload_keeps_conversations_on_old_code(tmp_path: Path) -> None:
    """New conversations get the new code."""
    app = write_agent(tmp_path / "agent.py")
    with running_server("--log-level", "debug", app=app) as server:
        old = server.worker_pids()
        async with call(server) as before:
            assert (await before.ask())[0] == "one"
            write_agent(app, version="two")
            server.send_signal(signal.SIGHUP)
            server.wait_for_output("generation 2 serves, 2 old workers drain")
            wait_for_drain(server, *old)
            async with call(server) as after:
                assert (await after.ask())[0] == "two"
            version, host = await before.ask()
            assert (version, host in old) == ("one", True)
            wait_for_end([pid for pid in old if pid != host])  # the other old worker has no conversation
        wait_for_end(old)
        assert "ERROR" not in server.output()
        assert server.stop() == 0


async def test_a_reload_reads_the_configuration_again(tmp_path: Path) -> None:
    app = write_agent(tmp_path / "agent.py")
    config = tmp_path / "se-server.toml"
    config.write_text("drain_timeout_s = 20")
    with running_server("--config", str(config), app=app, workers=1) as server:
        config.write_text("drain_timeout_s = 10")
        server.send_signal(signal.SIGHUP)
        server.wait_for_output("generation 2 serves")
        config.write_text("drain_timeout_s = 'soon'")
        server.send_signal(signal.SIGHUP)
        server.wait_for_output("no reload, the server goes on unchanged: drain_timeout_s in .* 'soon' is not valid")
        async with call(server) as caller:
            await caller.ask()
        server.send_signal(signal.SIGTERM)
        server.wait_for_output("waiting up to 10 s")


async def test_a_failed_reload_keeps_the_old_workers(tmp_path: Path) -> None:
    """The error is logged once."""
    app = write_agent(tmp_path / "agent.py")
    with running_server("--log-level", "debug", app=app) as server:
        old = server.worker_pids()
        app.write_text("raise RuntimeError('half a deploy')")
        server.send_signal(signal.SIGHUP)
        server.wait_for_output("the reload has failed, the old workers serve on: APP .* RuntimeError: half a deploy")
        async with call(server) as caller:
            assert (await caller.ask())[0] == "one"
        assert server.worker_pids() == old
        write_agent(app, version="two")
        server.send_signal(signal.SIGHUP)
        server.wait_for_output("generation 3 serves")
        wait_for_drain(server, *old)
        assert server.output().count("Traceback") == 1
        async with call(server) as caller:
            assert (await caller.ask())[0] == "two"


async def test_old_workers_drain_after_all_new_are_ready(tmp_path: Path) -> None:
    app = write_agent(tmp_path / "agent.py")
    with running_server("--log-level", "debug", app=app) as server:
        old = server.worker_pids()
        last = """
    try:
        os.close(os.open("first", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        print("the last one starts")
        while not os.path.exists("go"):
            time.sleep(0.01)
"""
        last = last.replace('"first"', f'"{tmp_path}/first"').replace('"go"', f'"{tmp_path}/go"')
        write_agent(app, AGENT + last, "two")
        server.send_signal(signal.SIGHUP)
        server.wait_for_output("the last one starts")
        async with call(server) as caller:
            await caller.ask()
        assert len(server.worker_pids()) == 4
        assert not re.search("drains|serves, ", server.output())
        (tmp_path / "go").touch()
        server.wait_for_output("generation 2 serves, 2 old workers drain")
        wait_for_end(old)


async def test_a_second_reload_replaces_the_first(tmp_path: Path) -> None:
    app = write_agent(tmp_path / "agent.py")
    with running_server("--log-level", "debug", app=app) as server:
        old = server.worker_pids()
        async with call(server) as caller:
            write_agent(app, AGENT + "\n    print('starting')\n    time.sleep(3600)", version="two")
            server.send_signal(signal.SIGHUP)
            server.wait_for_output("starting")
            assert (await caller.ask())[0] == "one"
            write_agent(app, version="three")
            server.send_signal(signal.SIGHUP)
            server.wait_for_output("generation 3 serves, 2 old workers drain")
            wait_for_drain(server, *old)
            assert (await caller.ask())[0] == "one"
            async with call(server) as other:
                assert (await other.ask())[0] == "three"
        assert server.stop() == 0
        assert "ERROR" not in server.output()


async def test_a_reload_follows_a_redirected_symlink(tmp_path: Path) -> None:
    for version in ("one", "two"):
        (tmp_path / version).mkdir()
        write_agent(tmp_path / version / "agent.py", version=version)
    current = tmp_path / "current"
    current.symlink_to("one")
    command = [sys.executable, "-m", "se_server.cli.server", "agent.py", "--host", "127.0.0.1", "--port", "0"]
    environment = {
        **os.environ,
        "ELEVENLABS_API_KEY": TEST_API_KEY,
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": str(Path(se_server.__file__).parents[1]),
    }
    in_current = ["sh", "-c", 'cd "$0" && exec "$@"', str(current), *command, "--workers", "1", "--log-level", "debug"]
    server = ServerProcess(in_current, environment, TEST_API_KEY)
    try:
        server.url = server.wait_for_output(READY_LINE, START_TIMEOUT_S)[1]
        async with call(server) as caller:
            _, old = await caller.ask()
            current.unlink()
            current.symlink_to("two")
            server.send_signal(signal.SIGHUP)
            wait_for_drain(server, old)
            assert (await caller.ask())[0] == "one"
            async with call(server) as other:
                assert (await other.ask())[0] == "two"
    finally:
        assert server.stop() == 0


async def test_a_stop_does_not_wait_for_reload_drains(tmp_path: Path) -> None:
    """The drain timeout of a stop also applies to workers that drain after a reload."""
    app = write_agent(tmp_path / "agent.py")
    with running_server("--drain-timeout-s", "0.2", app=app, workers=1) as server:
        async with call(server) as caller:
            await caller.ask()
            server.send_signal(signal.SIGHUP)
            server.wait_for_output("generation 2 serves, 1 old worker drains")
            await caller.ask()
            server.send_signal(signal.SIGTERM)
            await caller.until_cut()
        assert server.wait() == 0
        assert "in time" not in server.output()


async def test_an_old_generation_is_gone_by_its_deadline(tmp_path: Path) -> None:
    app = write_agent(tmp_path / "agent.py")
    with running_server("--reload-drain-timeout-s", "0.2", app=app, workers=1) as server:
        old = server.worker_pids()
        async with call(server) as caller:
            await caller.ask()
            server.send_signal(signal.SIGHUP)
            await caller.until_cut()
        wait_for_end(old)


# --- more and fewer workers -----------------------------------------------------------------------------------------


async def test_ttin_adds_and_ttou_removes_a_worker(tmp_path: Path) -> None:
    """Conversations go on."""
    app = write_agent(tmp_path / "agent.py")
    with running_server("--log-level", "debug", app=app, workers=1) as server:
        async with call(server) as caller:
            (first,) = server.worker_pids()
            server.send_signal(signal.SIGTTIN)
            second = int(server.wait_for_output(rf"worker 1 \(pid (?!{first}\))(\d+)\) is ready")[1])
            assert server.worker_pids() == sorted([first, second])
            server.send_signal(signal.SIGTTOU)
            wait_for_end([second])
            server.send_signal(signal.SIGTTOU)  # one worker always stays
            server.wait_for_output("(?s)1 worker from now on.*1 worker from now on")
            assert (await caller.ask())[1] == first
        assert server.stop() == 0


async def test_a_scaled_number_of_workers_survives_a_reload(tmp_path: Path) -> None:
    with running_server(app=write_agent(tmp_path / "agent.py"), workers=1) as server:
        server.send_signal(signal.SIGTTIN)
        server.wait_for_output("2 workers from now on")
        server.send_signal(signal.SIGHUP)
        server.wait_for_output("reload: 2 workers of generation 2 start")


# --- recycling ------------------------------------------------------------------------------------------------------


async def test_a_worker_is_recycled_after_max_worker_sessions(tmp_path: Path) -> None:
    """Its running conversations go on."""
    app = write_agent(tmp_path / "agent.py")
    args = ("--max-worker-sessions", "2", "--drain-timeout-s", "0.1", "--reload-drain-timeout-s", "0.1")
    with running_server(*args, "--log-level", "debug", app=app, workers=1) as server:
        (old,) = server.worker_pids()
        async with call(server) as one:
            async with call(server) as two:
                assert (await one.ask())[1] == (await two.ask())[1] == old
            server.wait_for_output(f"recycling worker process {old}: it has had 2 conversations")
            fresh = int(server.wait_for_output(rf"\(pid (?!{old}\))(\d+)\) is ready")[1])
            wait_for_drain(server, old)
            async with call(server) as three:
                assert (await three.ask())[1] == fresh
            assert (await one.ask())[1] == old
        wait_for_end([old])
        assert server.stop() == 0
        assert "ERROR" not in server.output()


async def test_workers_are_recycled_by_age_in_turn(tmp_path: Path) -> None:
    app = write_agent(tmp_path / "agent.py")
    with running_server("--max-worker-age-s", "1", app=app) as server:
        async with call(server) as caller:
            host = (await caller.ask())[1]
            server.wait_for_output(rf"recycling worker process {host}: it is \d+ s old")
            assert (await caller.ask("take your time"))[1] == host
            # While it drains, no other worker is recycled at any age.
            assert server.output().rstrip().rpartition("recycling worker process ")[2].startswith(str(host))
        server.wait_for_output(f"(?s)recycling worker process {host}.*recycling worker process")


@needs_proc
async def test_a_worker_that_grew_too_big_is_recycled(tmp_path: Path) -> None:
    app = write_agent(tmp_path / "agent.py")
    with running_server("--max-worker-rss", "256MiB", "--log-level", "debug", app=app, workers=1) as server:
        (old,) = server.worker_pids()
        async with call(server) as caller:
            await caller.ask("eat")
            server.wait_for_output(rf"recycling worker process {old}: it uses \d+ MiB")
        wait_for_end([old])
        async with call(server) as caller:
            assert (await caller.ask())[1] != old


@needs_proc
async def test_a_memory_limit_too_small_is_ignored(tmp_path: Path) -> None:
    """A worker that exceeds it before its first conversation is reported and kept."""
    app = write_agent(tmp_path / "agent.py")
    with running_server("--max-worker-rss", "1MiB", app=app, workers=1) as server:
        (pid,) = server.worker_pids()
        server.wait_for_output(f"worker process {pid} uses .* --max-worker-rss is too small for this APP")
        async with call(server) as caller:
            assert (await caller.ask("take your time"))[1] == pid
        assert "recycling" not in server.output()
