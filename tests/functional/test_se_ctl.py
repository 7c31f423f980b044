"""`se-ctl` on a real server with real conversations."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from tests.helpers import (
    ServerProcess,
    connect,
    init_message,
    read_answer,
    running_server,
    spoken,
    transcript_message,
    wait_for_end,
    wait_for_text,
)

AGENT = """
import asyncio, os, time
async def on_transcript(transcript, session):
    said = transcript[-1].content
    if said == "block":
        time.sleep(3600)
    elif said == "think":
        await asyncio.sleep(3600)
    elif said == "speak":
        await session.send_response("well,", final=False)
        await asyncio.sleep(3600)
    await session.send_response(str(os.getpid()))
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    path = tmp_path / "agent.py"
    path.write_text(AGENT)
    return path


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "ctl.sock")


@pytest.fixture
def server(app: Path, path: str) -> Iterator[ServerProcess]:
    with running_server("--control-socket", path, "--drain-timeout-s", "0", app=app, workers=2) as running:
        yield running


def command(path: str | None, *arguments: str) -> list[str]:
    place = [] if path is None else ["--socket", path]
    return [sys.executable, "-m", "se_server.cli.ctl", *place, *arguments]


def run(path: str | None, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if name != "SE_SERVER_CONTROL_SOCKET"}
    return subprocess.run(
        command(path, *arguments), check=False, capture_output=True, text=True, timeout=30, env={**inherited, **env}
    )


def is_gone(path: str) -> bool:
    return not os.path.exists(path)


def read_pid(pidfile: Path) -> int:
    return int(pidfile.read_text())


async def ctl(path: str, *arguments: str) -> str:
    """Run a command that succeeds while conversations go on, and return its output."""
    done = await asyncio.to_thread(run, path, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


async def ctl_when(path: str, order: str, *patterns: str) -> str:
    """Repeat an order until its output matches all patterns, and return that output."""
    deadline = time.monotonic() + 20
    while True:
        output = await ctl(path, *order.split())
        if all(re.search(pattern, output) for pattern in patterns):
            return output
        assert time.monotonic() < deadline, output


async def workers(path: str) -> list[dict[str, Any]]:
    found = json.loads(await ctl(path, "status", "--json"))["workers"]
    assert isinstance(found, list)
    return found


async def workers_when(path: str, *states: str) -> list[dict[str, Any]]:
    """Read the workers until they have these states."""
    deadline = time.monotonic() + 20
    found = await workers(path)
    while sorted(row["state"] for row in found) != sorted(states):
        assert time.monotonic() < deadline, found
        found = await workers(path)
    return found


async def test_status_and_calls_show_running_conversations(server: ServerProcess, path: str) -> None:
    async with connect(server.url) as thinking, connect(server.url) as speaking, connect(server.url) as listening:
        for name, websocket in (("think", thinking), ("speak", speaking), ("listen", listening)):
            await websocket.send(init_message(f"conv_{name}\x1b[2J"))
            await websocket.send(transcript_message(name))
        await speaking.recv()
        owner = int(spoken(await read_answer(listening)))
        # Each worker reads its messages and copies its counters to the scoreboard in its own time.
        status = await ctl_when(path, "status --json", r'"sessions_opened": 3\b')
        assert sum(row["sessions"] for row in json.loads(status)["workers"]) == 3
        table = await ctl(path, "status")
        for pid in server.worker_pids():
            assert re.search(rf"(?m)^ +[01] +{pid} +1 +ready ", table)
        assert "\nready: 3 conversations, " in table
        await ctl_when(
            path,
            "conversations",
            r"conv_think\\x1b\[2J .* thinking +\d",
            r"conv_speak\\x1b\[2J .* speaking +\d",
            rf"conv_listen\\x1b\[2J +\d +{owner} .* listening",
        )


async def test_close_ends_the_named_conversation_only(server: ServerProcess, path: str) -> None:
    async with connect(server.url) as one, connect(server.url) as other:
        for name, websocket in (("one", one), ("other", other)):
            await websocket.send(init_message(f"conv_{name}"))
            await websocket.send(transcript_message("hello"))
            await read_answer(websocket)
        assert await ctl(path, "close", "conv_one") == "closed conv_one\n"
        with pytest.raises(ConnectionClosed) as closed:
            await one.recv()
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1000, "closed by the operator")
        await other.send(transcript_message("hello", event_id=2))
        await read_answer(other)
        refused = await asyncio.to_thread(run, path, "close", "conv_nobody")
    assert (refused.returncode, refused.stderr) == (1, "se-ctl: there is no conversation conv_nobody\n")


async def test_drain_replaces_a_worker_and_keeps_its_conversation(server: ServerProcess, path: str) -> None:
    async with connect(server.url) as websocket:
        await websocket.send(transcript_message("hello"))
        pid = int(spoken(await read_answer(websocket)))
        (place,) = (row["worker"] for row in await workers(path) if row["pid"] == pid)
        assert await ctl(path, "drain", str(place)) == (
            f"worker {place} (pid {pid}) drains, and another one takes its place\n"
        )
        found = await workers_when(path, "ready", "ready", "draining")
        assert [row["pid"] for row in found if row["state"] == "draining"] == [pid]
        await websocket.send(transcript_message("hello", event_id=2))
        assert int(spoken(await read_answer(websocket))) == pid
        refused = await asyncio.to_thread(run, path, "drain", str(pid))
        assert refused.stderr == f"se-ctl: worker {place} (pid {pid}) is already draining\n"
    wait_for_end([pid])


async def test_reload_and_scale(server: ServerProcess, path: str) -> None:
    old = server.worker_pids()
    assert await ctl(path, "scale", "3") == "3 workers from now on\n"
    await workers_when(path, "ready", "ready", "ready")
    await ctl(path, "reload")
    wait_for_end(old)
    found = await workers_when(path, "ready", "ready", "ready")
    assert {row["generation"] for row in found} == {2}
    assert await ctl(path, "scale", "1") == "1 worker from now on\n"
    await workers_when(path, "ready")
    refused = await asyncio.to_thread(run, path, "scale", "0")
    assert refused.stderr == "se-ctl: scale takes a number of workers from 1 to 1024\n"


async def test_a_hung_worker_shows_its_stacks(server: ServerProcess, path: str) -> None:
    """Other orders are answered meanwhile."""
    async with connect(server.url) as websocket:
        await websocket.send(transcript_message("hello"))
        pid = int(spoken(await read_answer(websocket)))
        await websocket.send(transcript_message("block", event_id=2))
        while "agent.py:6 in on_transcript" not in await ctl(path, "stacks", str(pid)):
            pass
        asked_at = time.monotonic()
        answer = json.loads(await ctl(path, "conversations", "--json"))
        assert answer["silent_workers"] == [pid]
        assert time.monotonic() - asked_at < 10
        os.kill(pid, signal.SIGSTOP)
        silent = await asyncio.to_thread(run, path, "stacks", str(pid))
        assert silent.returncode == 1
        assert f"worker {pid} did not reply" in silent.stderr
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(ConnectionClosed):
            await websocket.recv()


async def test_reopen_log_names_workers_that_do_not_reply(app: Path, path: str, tmp_path: Path) -> None:
    log = tmp_path / "agent.log"
    options = ("--control-socket", path, "--log-file", str(log), "--drain-timeout-s", "0")
    with running_server(*options, app=app, workers=2) as server:
        moved = log.rename(tmp_path / "agent.log.1")
        assert await ctl(path, "reopen-log") == "all processes write to the new log file\n"
        for pid in server.worker_pids():
            os.kill(pid, signal.SIGQUIT)
        wait_for_text(log, "(?s)Current thread.*Current thread")
        assert "thread" not in moved.read_text()
        victim = server.worker_pids()[0]
        os.kill(victim, signal.SIGSTOP)
        silent = await asyncio.to_thread(run, path, "reopen-log")
        os.kill(victim, signal.SIGCONT)
        assert (silent.returncode, f"no answer from worker {victim}" in silent.stderr) == (1, True)


async def test_reopen_log_needs_a_log_file(server: ServerProcess, path: str) -> None:
    refused = await asyncio.to_thread(run, path, "reopen-log")
    assert (refused.returncode, refused.stderr) == (
        1,
        "se-ctl: there is no log file to reopen: the log goes to stderr\n",
    )


async def test_former_names_of_commands_work_with_a_warning(server: ServerProcess, path: str) -> None:
    listed = await asyncio.to_thread(run, path, "calls", "--json")
    assert json.loads(listed.stdout) == {"conversations": [], "left_out": 0, "silent_workers": []}
    assert listed.stderr == "se-ctl: calls is called conversations now; the former name will go\n"
    ended = await asyncio.to_thread(run, path, "drain", "--yes")
    assert ended.stderr == "se-ctl: drain --yes is called stop --yes now; the former name will go\n"
    assert await asyncio.to_thread(server.wait) == 0


async def test_stopping_the_server_ends_it(server: ServerProcess, path: str) -> None:
    assert await ctl(path, "stop") == "the server takes no new conversations, and ends after the last one\n"
    assert await asyncio.to_thread(server.wait) == 0
    assert is_gone(path)
    gone = await asyncio.to_thread(run, path, "status")
    assert (gone.returncode, gone.stderr) == (
        1,
        f"se-ctl: cannot reach a server at {path}: No such file or directory\n",
    )


async def test_after_an_upgrade_the_new_supervisor_answers(app: Path, tmp_path: Path) -> None:
    pidfile = tmp_path / "agent.pid"
    with running_server("--pidfile", str(pidfile), "--drain-timeout-s", "0", app=app, workers=1) as server:
        path = f"{pidfile}.ctl"  # the default
        (old,) = server.worker_pids()
        async with connect(server.url) as before:
            await before.send(transcript_message("hello"))
            await read_answer(before)
            server.send_signal(signal.SIGUSR2)
            server.wait_for_output(r"upgrade: supervisor \d+ serves")
            table = await ctl(path, "status")
            assert "\nready: 0 conversations (and 1 on workers of the previous supervisor), " in table
        wait_for_end([server.pid])
        (row,) = await workers(path)
        assert row["pid"] != old
        following = read_pid(pidfile)
        await ctl(path, "stop")
        wait_for_end([following, row["pid"]])
        assert is_gone(path)


async def test_while_the_old_server_drains_the_new_is_found(app: Path, tmp_path: Path) -> None:
    env = {"XDG_RUNTIME_DIR": str(tmp_path)}
    with running_server("--drain-timeout-s", "0", app=app, workers=1, env=env) as server:
        async with connect(server.url) as before:
            await before.send(transcript_message("hello"))
            await read_answer(before)
            server.send_signal(signal.SIGUSR2)
            server.wait_for_output(r"upgrade: supervisor \d+ serves")
            assert len(list(tmp_path.glob("se-server-*.ctl"))) == 2  # noqa: ASYNC240
            found = await asyncio.to_thread(lambda: run(None, "status", **env))
            assert "\nready: 0 conversations (and 1 on workers of the previous supervisor)" in found.stdout, (
                found.stderr
            )
        wait_for_end([server.pid])
        assert (await asyncio.to_thread(lambda: run(None, "stop", **env))).returncode == 0


async def test_a_server_that_drains_shows_its_status(app: Path, tmp_path: Path) -> None:
    path = str(tmp_path / "ctl")
    with running_server("--control-socket", path, app=app, workers=1) as server:
        async with connect(server.url) as caller:
            await caller.send(transcript_message("hello", event_id=1))
            await read_answer(caller)
            server.send_signal(signal.SIGTERM)
            server.wait_for_output("SIGTERM: taking no new conversations")
            table = await ctl(path, "status")
            assert "\ndraining: 1 conversation, " in table
            assert f" at ws://127.0.0.1:{server.port}" in table
            await caller.send(transcript_message("hello again", event_id=2))  # the server has survived the question
            await read_answer(caller)
        assert server.stop() == 0


async def test_the_only_server_of_the_user_is_found(app: Path, tmp_path: Path) -> None:
    env = {"XDG_RUNTIME_DIR": str(tmp_path)}
    with running_server(app=app, workers=1, env=env) as one:
        found = await asyncio.to_thread(lambda: run(None, "status", "--json", **env))
        assert [row["pid"] for row in json.loads(found.stdout)["workers"]] == one.worker_pids()
        with running_server(app=app, workers=1, env=env) as other:
            newest = await asyncio.to_thread(lambda: run(None, "status", **env))
            assert f" at ws://127.0.0.1:{other.port}" in newest.stdout
            assert "this is the newest server" in newest.stderr
            assert f"(ready at ws://127.0.0.1:{one.port})" in newest.stderr
            turns = await asyncio.to_thread(lambda: run(None, "turns", **env))
            assert "several servers are running: choose one" in turns.stderr  # none of them keeps turns
            several = await asyncio.to_thread(lambda: run(None, "reload", **env))
            assert "several servers are running: choose one with --socket" in several.stderr
            assert f"(ready at ws://127.0.0.1:{one.port})" in several.stderr
        with running_server("--control-socket", "off", app=app, workers=1, env=env):
            found = await asyncio.to_thread(lambda: run(None, "status", "--json", **env))
            assert [row["pid"] for row in json.loads(found.stdout)["workers"]] == one.worker_pids()


@pytest.mark.parametrize("xdg", ["unset", "missing", "relative", "of_everyone"])
async def test_the_server_is_found_without_a_runtime_directory(app: Path, tmp_path: Path, xdg: str) -> None:
    """The user's directory is in the temporary one, or in /run for root."""
    (tmp_path / "of_everyone").mkdir()
    (tmp_path / "of_everyone").chmod(0o777)
    given = {"unset": "", "relative": "run", "missing": str(tmp_path / "no"), "of_everyone": str(tmp_path / xdg)}[xdg]
    env = {"XDG_RUNTIME_DIR": given}
    with running_server(app=app, workers=1, env=env) as one:
        path = one.wait_for_output(r'started: .* control_socket="?([^"\s]+)')[1]
        found = await asyncio.to_thread(lambda: run(None, "status", "--json", **env))
        assert path in found.stderr or [row["pid"] for row in json.loads(found.stdout)["workers"]] == one.worker_pids()
        directory = Path(path).parent
        assert (directory.stat().st_uid, stat.S_IMODE(directory.stat().st_mode)) == (os.geteuid(), 0o700)
        found = await asyncio.to_thread(lambda: run(path, "status", "--json", **env))
        assert [row["pid"] for row in json.loads(found.stdout)["workers"]] == one.worker_pids()
    assert is_gone(path)


def test_watching_shows_the_table_until_it_is_interrupted(server: ServerProcess, path: str) -> None:
    leader, follower = pty.openpty()
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "40"}
    with subprocess.Popen(command(path, "status", "--watch"), stdin=follower, stdout=follower, env=env) as watching:
        os.close(follower)
        shown = b""
        for pid in server.worker_pids():
            while str(pid).encode() not in shown:
                shown += os.read(leader, 4096)
        watching.send_signal(signal.SIGINT)
        try:
            while os.read(leader, 4096):
                pass
        except OSError:  # Linux reports the end of a terminal by an error
            pass
        os.close(leader)
    assert watching.returncode == 130


def test_watching_through_a_pipe_shows_a_table_each_second(server: ServerProcess, path: str) -> None:
    with subprocess.Popen(command(path, "status", "--watch"), stdout=subprocess.PIPE, text=True) as watching:
        assert watching.stdout is not None
        heads = 0
        while heads < 2:
            line = watching.stdout.readline()
            assert line
            heads += "loop lag" in line
        watching.send_signal(signal.SIGINT)
        watching.stdout.read()
    assert watching.returncode == 130


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["frob"], "there is no command 'frob'; see se-ctl --help"),
        (["scale", "many"], "WORKERS: 'many' is not a whole number"),
    ],
)
def test_wrong_arguments_are_one_sentence(arguments: list[str], sentence: str) -> None:
    wrong = run("/nowhere", *arguments)
    assert (wrong.returncode, wrong.stderr) == (2, f"se-ctl: {sentence}\n")
