"""What the supervisor promises about its workers: real processes, real signals, conversations that go on meanwhile."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import signal
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

import se_server
from tests.helpers import (
    ANSWER_TIMEOUT_S,
    READY_LINE,
    START_TIMEOUT_S,
    TEST_API_KEY,
    ServerProcess,
    connect,
    read_answer,
    running_server,
    spoken,
    transcript_message,
    wait_for_end,
    wait_for_text,
)

# Answers with its version and its process; what else the caller says, it does.
AGENT = """
    import asyncio, os, time
    VERSION = "one"
    async def on_transcript(transcript, session):
        said = transcript[-1].content
        if said.startswith("block "):
            time.sleep(float(said.split()[1]))
        elif said == "wait":
            await asyncio.sleep(3600)
        elif said == "take your time":
            await asyncio.sleep(3)
        elif said == "die":
            os._exit(9)
        elif said == "eat":
            global eaten
            eaten = bytearray(os.urandom(1024) * 256 * 1024)
        await session.send_response(f"{VERSION} {os.getpid()}")
"""

needs_proc = pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="looks at processes in /proc")


def write(path: Path, source: str = AGENT, version: str = "one") -> Path:
    path.write_text(textwrap.dedent(source).replace('VERSION = "one"', f'VERSION = "{version}"'))
    # Python takes compiled code of the same second and size for that of this source.
    for compiled in path.parent.glob("__pycache__/*.pyc"):
        compiled.unlink()
    return path


class Caller:
    """One conversation."""

    def __init__(self, websocket: ClientConnection) -> None:
        self._websocket = websocket
        self._turns = 0

    async def say(self, text: str) -> None:
        self._turns += 1
        await self._websocket.send(transcript_message(text, event_id=self._turns))

    async def ask(self, text: str = "who are you?") -> tuple[str, int]:
        """Say something and return version and process id of who answers."""
        await self.say(text)
        version, pid = spoken(await asyncio.wait_for(read_answer(self._websocket), ANSWER_TIMEOUT_S)).split()
        return version, int(pid)

    async def until_cut(self) -> None:
        """Wait until the connection has ended, whatever comes before."""

        async def read() -> None:
            while True:
                await self._websocket.recv()

        with pytest.raises(ConnectionClosed):
            await asyncio.wait_for(read(), ANSWER_TIMEOUT_S)


@asynccontextmanager
async def call(server: ServerProcess) -> AsyncIterator[Caller]:
    async with connect(server.url) as websocket:
        yield Caller(websocket)


def wait_for_drain(server: ServerProcess, *pids: int) -> None:
    """Wait until these workers take no new conversations; needs --log-level debug."""
    for pid in pids:
        server.wait_for_output(rf"\(pid {pid}\) drains")


# --- workers that hang ----------------------------------------------------------------------------------------------


async def test_a_hung_worker_is_killed_after_saying_where_it_stands_and_replaced(tmp_path: Path) -> None:
    app = write(tmp_path / "agent.py")
    with running_server("--hang-timeout-s", "1", "--log-level", "debug", app=app, workers=1) as server:
        (victim,) = server.worker_pids()
        async with call(server) as waiting, call(server) as caller:
            await waiting.ask()
            await waiting.say("wait")
            await caller.ask()
            await caller.say("block 3600")
            await caller.until_cut()
            await waiting.until_cut()
        server.wait_for_output(rf"worker 0 \(pid {victim}\) hangs, its event loop stood still for 1\.\d s")
        server.wait_for_output(r"thread MainThread stands at \S+agent\.py:7 in on_transcript")
        server.wait_for_output(
            r"task \S+ \(waiting\) stands at \S+ in sleep, called from \S+agent\.py:9 in on_transcript"
        )
        server.wait_for_output(rf"worker 0 \(pid {victim}\) was killed by SIGKILL; another one takes its place")
        async with call(server) as caller:
            assert (await caller.ask())[1] != victim
        assert server.stop() == 0


async def test_a_worker_that_hangs_in_c_code_with_the_gil_is_killed_with_its_stacks(tmp_path: Path) -> None:
    app = write(
        tmp_path / "agent.py",
        """
        import ctypes
        async def on_transcript(transcript, session):
            ctypes.PyDLL(None).sleep(3600)
        """,
    )
    with running_server("--hang-timeout-s", "1", app=app, workers=1) as server:
        async with call(server) as caller:
            await caller.say("sleep")
            await caller.until_cut()
        server.wait_for_output(r'File ".*agent\.py", line 4 in on_transcript')
        server.wait_for_output("was killed by SIGKILL; another one takes its place")


async def test_a_slow_worker_whose_loop_turns_is_never_killed(tmp_path: Path) -> None:
    app = write(tmp_path / "agent.py")
    with running_server("--hang-timeout-s", "1", app=app, workers=1) as server:
        pids = server.worker_pids()
        async with call(server) as caller:
            for _ in range(5):
                assert (await caller.ask("block 0.7"))[1] == pids[0]
        assert server.worker_pids() == pids
        assert "hangs" not in server.output()


@needs_proc
async def test_a_worker_stopped_by_a_signal_is_replaced(tmp_path: Path) -> None:
    app = write(tmp_path / "agent.py")
    with running_server("--hang-timeout-s", "1", app=app, workers=1) as server:
        (victim,) = server.worker_pids()
        os.kill(victim, signal.SIGSTOP)
        server.wait_for_output(rf"pid {victim}\) was killed by SIGKILL; another one")
        async with call(server) as caller:
            assert (await caller.ask())[1] != victim


async def test_a_worker_that_hangs_while_it_drains_is_killed(tmp_path: Path) -> None:
    app = write(tmp_path / "agent.py")
    with running_server("--hang-timeout-s", "1", app=app, workers=1) as server:
        async with call(server) as caller:
            await caller.ask()
            await caller.say("block 3600")
            server.send_signal(signal.SIGTERM)
            assert server.wait() == 0
        assert "hangs" in server.output()


async def test_a_blocked_worker_ends_when_its_supervisor_was_killed(tmp_path: Path) -> None:
    app = write(tmp_path / "agent.py")
    with running_server("--hang-timeout-s", "1", app=app, workers=1) as server:
        pids = server.worker_pids()
        async with call(server) as caller:
            await caller.ask()
            await caller.say("block 3600")
            server.send_signal(signal.SIGKILL)
            await caller.until_cut()
        assert server.wait() == -signal.SIGKILL
        assert "the event loop stands still" in server.output()
        wait_for_end(pids)


def test_a_worker_that_is_still_importing_ends_when_its_supervisor_was_killed(tmp_path: Path) -> None:
    source = "import time\nprint('importing')\ntime.sleep(3600)"
    app = tmp_path / "agent.py"
    app.write_text(source)
    command = [sys.executable, "-m", "se_server.cli.server", str(app), "--port", "0", "--workers", "1"]
    environment = {**os.environ, "ELEVENLABS_API_KEY": TEST_API_KEY, "PYTHONUNBUFFERED": "1"}
    server = ServerProcess([*command, "--host", "127.0.0.1"], environment, TEST_API_KEY)
    server.wait_for_output("importing", START_TIMEOUT_S)
    pids = server.worker_pids()
    server.send_signal(signal.SIGKILL)
    server.wait()
    wait_for_end(pids)


# --- workers that die or talk nonsense ------------------------------------------------------------------------------


async def test_crashes_in_conversations_never_end_the_server(tmp_path: Path) -> None:
    app = write(tmp_path / "agent.py")
    with running_server(app=app, workers=3) as server:
        for _ in range(6):  # more than boot failures may come in a row
            async with call(server) as caller:
                await caller.say("die")
                await caller.until_cut()
        async with call(server) as caller:
            await caller.ask()
        assert server.is_running()


def test_five_workers_in_a_row_that_cannot_start_end_the_server_with_3(tmp_path: Path) -> None:
    app = write(tmp_path / "agent.py")
    with running_server(app=app, workers=1) as server:
        app.write_text("raise RuntimeError('half a deploy')")
        os.kill(server.worker_pids()[0], signal.SIGKILL)
        assert server.wait(30) == 3
        output = server.output()
    assert output.count("cannot start, next try in") == 4
    assert re.search(r"\nse-server: APP .* raised RuntimeError: half a deploy\n", output)


GARBAGE = """
    import os, socket
    def channel():
        for name in os.listdir("/proc/self/fd"):
            try:
                sock = socket.socket(fileno=os.dup(int(name)))
                if sock.family == socket.AF_UNIX and sock.type == socket.SOCK_STREAM:
                    yield sock
            except OSError:
                continue
    async def on_transcript(transcript, session):
        for sock in channel():
            sock.setblocking(False)
            try:
                sock.send(eval(transcript[-1].content))
            except OSError:
                pass
        if "exit" in transcript[-1].content:
            os._exit(1)
"""


@needs_proc
@pytest.mark.parametrize(
    "said",
    [
        "b'hello\\n'",
        "b'\\xff' * 70000 + b'\\n'",
        'b\'{"kind":"draining","sessions":"%d"}\\n\'',
        'b\'{"kind":"failed","reason":null}\\n\'',
        "b'hello # and exit\\n'",
    ],
)
async def test_nonsense_on_the_control_channel_ends_that_worker_only(tmp_path: Path, said: str) -> None:
    app = write(tmp_path / "agent.py", GARBAGE)
    with running_server("--log-level", "debug", app=app, workers=1) as server:
        (victim,) = server.worker_pids()
        async with call(server) as caller:
            await caller.say(said)
            await caller.until_cut()
        server.wait_for_output(rf"pid {victim}\) cannot be understood, killed")
        server.wait_for_output(rf"\(pid (?!{victim}\))\d+\) is ready")
        assert server.stop() == 0
        assert "Traceback" not in server.output()


async def test_signals_meant_for_the_supervisor_do_nothing_to_workers(tmp_path: Path) -> None:
    app = write(tmp_path / "agent.py")
    with running_server(app=app, workers=1) as server:
        (pid,) = server.worker_pids()
        async with call(server) as caller:
            await caller.ask()
            for name in ("SIGHUP", "SIGINT", "SIGUSR1", "SIGUSR2", "SIGTTIN", "SIGTTOU"):
                os.kill(pid, getattr(signal, name))
                assert (await caller.ask())[1] == pid
        assert server.worker_pids() == [pid]


# --- reload ---------------------------------------------------------------------------------------------------------


async def test_a_reload_runs_new_code_and_leaves_conversations_to_the_old(tmp_path: Path) -> None:
    app = write(tmp_path / "agent.py")
    with running_server("--log-level", "debug", app=app) as server:
        old = server.worker_pids()
        async with call(server) as before:
            assert (await before.ask())[0] == "one"
            write(app, version="two")
            server.send_signal(signal.SIGHUP)
            server.wait_for_output("generation 2 serves, 2 old workers drain")
            wait_for_drain(server, *old)
            async with call(server) as after:
                assert (await after.ask())[0] == "two"
            version, host = await before.ask()
            assert (version, host in old) == ("one", True)
            wait_for_end([pid for pid in old if pid != host])  # the other one has nothing to wait for
        wait_for_end(old)
        assert "ERROR" not in server.output()
        assert server.stop() == 0


async def test_a_reload_reads_the_configuration_again(tmp_path: Path) -> None:
    app = write(tmp_path / "agent.py")
    config = tmp_path / "se-server.toml"
    config.write_text("drain_timeout_s = 20")
    with running_server("--config", str(config), app=app, workers=1) as server:
        config.write_text("drain_timeout_s = 10")
        server.send_signal(signal.SIGHUP)
        server.wait_for_output("generation 2 serves")
        config.write_text("drain_timeout_s = 'soon'")
        server.send_signal(signal.SIGHUP)
        server.wait_for_output("no reload, everything goes on as before: drain_timeout_s in .* 'soon' is not valid")
        async with call(server) as caller:
            await caller.ask()
        server.send_signal(signal.SIGTERM)
        server.wait_for_output("waiting up to 10 s")


async def test_a_reload_whose_app_is_broken_leaves_the_old_workers_and_shows_the_error_once(tmp_path: Path) -> None:
    app = write(tmp_path / "agent.py")
    with running_server("--log-level", "debug", app=app) as server:
        old = server.worker_pids()
        app.write_text("raise RuntimeError('half a deploy')")
        server.send_signal(signal.SIGHUP)
        server.wait_for_output("the reload has failed, the old workers serve on: APP .* RuntimeError: half a deploy")
        async with call(server) as caller:
            assert (await caller.ask())[0] == "one"
        assert server.worker_pids() == old
        write(app, version="two")
        server.send_signal(signal.SIGHUP)
        server.wait_for_output("generation 3 serves")
        wait_for_drain(server, *old)
        assert server.output().count("Traceback") == 1
        async with call(server) as caller:
            assert (await caller.ask())[0] == "two"


async def test_no_old_worker_drains_before_every_new_one_is_ready(tmp_path: Path) -> None:
    app = write(tmp_path / "agent.py")
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
        write(app, AGENT + last.replace('"first"', f'"{tmp_path}/first"').replace('"go"', f'"{tmp_path}/go"'), "two")
        server.send_signal(signal.SIGHUP)
        server.wait_for_output("the last one starts")
        async with call(server) as caller:
            await caller.ask()
        assert len(server.worker_pids()) == 4
        assert not re.search("drains|serves, ", server.output())
        (tmp_path / "go").touch()
        server.wait_for_output("generation 2 serves, 2 old workers drain")
        wait_for_end(old)


async def test_a_second_reload_during_the_first_takes_its_place(tmp_path: Path) -> None:
    app = write(tmp_path / "agent.py")
    with running_server("--log-level", "debug", app=app) as server:
        old = server.worker_pids()
        async with call(server) as caller:
            write(app, AGENT + "\n    print('starting')\n    time.sleep(3600)", version="two")
            server.send_signal(signal.SIGHUP)
            server.wait_for_output("starting")
            assert (await caller.ask())[0] == "one"
            write(app, version="three")
            server.send_signal(signal.SIGHUP)
            server.wait_for_output("generation 3 serves, 2 old workers drain")
            wait_for_drain(server, *old)
            assert (await caller.ask())[0] == "one"
            async with call(server) as other:
                assert (await other.ask())[0] == "three"
        assert server.stop() == 0
        assert "ERROR" not in server.output()


async def test_a_reload_follows_a_link_that_a_deploy_has_turned(tmp_path: Path) -> None:
    for version in ("one", "two"):
        (tmp_path / version).mkdir()
        write(tmp_path / version / "agent.py", version=version)
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


async def test_a_stop_does_not_wait_for_the_time_that_a_reload_grants(tmp_path: Path) -> None:
    app = write(tmp_path / "agent.py")
    with running_server("--drain-timeout-s", "0.2", app=app, workers=1) as server:
        async with call(server) as caller:
            await caller.ask()
            server.send_signal(signal.SIGHUP)
            server.wait_for_output("generation 2 serves, 1 old workers drain")
            await caller.ask()
            server.send_signal(signal.SIGTERM)
            await caller.until_cut()
        assert server.wait() == 0
        assert "in time" not in server.output()


async def test_an_old_generation_is_gone_by_its_deadline(tmp_path: Path) -> None:
    app = write(tmp_path / "agent.py")
    with running_server("--reload-drain-timeout-s", "0.2", app=app, workers=1) as server:
        old = server.worker_pids()
        async with call(server) as caller:
            await caller.ask()
            server.send_signal(signal.SIGHUP)
            await caller.until_cut()
        wait_for_end(old)


# --- more and fewer workers -----------------------------------------------------------------------------------------


async def test_ttin_adds_a_worker_and_ttou_removes_one_without_a_cut(tmp_path: Path) -> None:
    app = write(tmp_path / "agent.py")
    with running_server("--log-level", "debug", app=app, workers=1) as server:
        async with call(server) as caller:
            (first,) = server.worker_pids()
            server.send_signal(signal.SIGTTIN)
            second = int(server.wait_for_output(rf"worker 1 \(pid (?!{first}\))(\d+)\) is ready")[1])
            assert server.worker_pids() == sorted([first, second])
            server.send_signal(signal.SIGTTOU)
            wait_for_end([second])
            server.send_signal(signal.SIGTTOU)  # one is the least
            server.wait_for_output("(?s)1 workers from now on.*1 workers from now on")
            assert (await caller.ask())[1] == first
        assert server.stop() == 0


async def test_a_number_of_workers_set_by_signals_outlives_a_reload(tmp_path: Path) -> None:
    with running_server(app=write(tmp_path / "agent.py"), workers=1) as server:
        server.send_signal(signal.SIGTTIN)
        server.wait_for_output("2 workers from now on")
        server.send_signal(signal.SIGHUP)
        server.wait_for_output("reload: 2 workers of generation 2 start")


# --- recycling ------------------------------------------------------------------------------------------------------


async def test_a_worker_is_recycled_after_its_conversations_and_cuts_none(tmp_path: Path) -> None:
    app = write(tmp_path / "agent.py")
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


async def test_workers_are_recycled_by_age_one_after_the_other(tmp_path: Path) -> None:
    app = write(tmp_path / "agent.py")
    with running_server("--max-worker-age-s", "1", app=app) as server:
        async with call(server) as caller:
            host = (await caller.ask())[1]
            server.wait_for_output(rf"recycling worker process {host}: it is \d+ s old")
            assert (await caller.ask("take your time"))[1] == host
            # As long as it drains, no other one's turn comes, however old they become.
            assert server.output().rstrip().rpartition("recycling worker process ")[2].startswith(str(host))
        server.wait_for_output(f"(?s)recycling worker process {host}.*recycling worker process")


@needs_proc
async def test_a_worker_that_grew_too_big_is_recycled(tmp_path: Path) -> None:
    app = write(tmp_path / "agent.py")
    with running_server("--max-worker-rss", "256MiB", "--log-level", "debug", app=app, workers=1) as server:
        (old,) = server.worker_pids()
        async with call(server) as caller:
            await caller.ask("eat")
            server.wait_for_output(rf"recycling worker process {old}: it uses \d+ MiB")
        wait_for_end([old])
        async with call(server) as caller:
            assert (await caller.ask())[1] != old


@needs_proc
async def test_a_memory_limit_below_what_an_empty_worker_needs_is_reported_and_not_applied(tmp_path: Path) -> None:
    app = write(tmp_path / "agent.py")
    with running_server("--max-worker-rss", "1MiB", app=app, workers=1) as server:
        (pid,) = server.worker_pids()
        server.wait_for_output(f"worker process {pid} uses .* --max-worker-rss is too small for this APP")
        async with call(server) as caller:
            assert (await caller.ask("take your time"))[1] == pid
        assert "recycling" not in server.output()


# --- the terminal ---------------------------------------------------------------------------------------------------


def run_in_terminal(command: list[str], output: Path, environment: dict[str, str]) -> tuple[int, int]:
    """Start a program as the leader of a terminal's session, its output in a file; return its pid and our end."""
    pid, terminal = pty.fork()
    if pid == 0:
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        os.execve(command[0], command, environment)
    return pid, terminal


def test_a_closed_terminal_stops_the_server(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [sys.executable, "-m", "se_server.cli.server", "--host", "127.0.0.1", "--port", "0", "--workers", "2"]
    environment = {n: v for n, v in os.environ.items() if n != "ELEVENLABS_API_KEY"}
    pid, terminal = run_in_terminal(command, log, environment)
    try:
        wait_for_text(log, "se-server ready")
        os.kill(pid, signal.SIGHUP)  # the terminal is there: a reload
        wait_for_text(log, "generation 2 serves")
    finally:
        os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert "SIGHUP of a closed terminal: taking no new conversations" in log.read_text()
