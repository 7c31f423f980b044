"""The supervisor handles workers that hang, die or send invalid messages: real processes, real signals."""

from __future__ import annotations

import os
import pty
import re
import signal
import sys
from pathlib import Path

import pytest

from tests.functional.processes import call, needs_proc, write_agent
from tests.helpers import (
    START_TIMEOUT_S,
    TEST_API_KEY,
    ServerProcess,
    running_server,
    wait_for_end,
    wait_for_text,
)

# --- workers that hang ----------------------------------------------------------------------------------------------


async def test_a_hung_worker_logs_stacks_and_is_replaced(tmp_path: Path) -> None:
    app = write_agent(tmp_path / "agent.py")
    with running_server("--hang-timeout-s", "1", "--log-level", "debug", app=app, workers=1) as server:
        (victim,) = server.worker_pids()
        async with call(server) as waiting, call(server) as caller:
            await waiting.ask()
            await waiting.say("wait")
            await caller.ask()
            await caller.say("block 3600")
            await caller.until_cut()
            await waiting.until_cut()
        server.wait_for_output(rf"worker 0 \(pid {victim}\) hangs, its event loop stood still for \d\.\d s")
        server.wait_for_output(r"thread MainThread stands at \S+agent\.py:7 in on_transcript")
        server.wait_for_output(
            r"task .+ \(waiting\) stands at \S+ in sleep, called from \S+agent\.py:9 in on_transcript"
        )
        server.wait_for_output(rf"worker 0 \(pid {victim}\) was killed by SIGKILL; another one takes its place")
        async with call(server) as caller:
            assert (await caller.ask())[1] != victim
        assert server.stop() == 0


async def test_a_worker_that_holds_the_gil_logs_stacks(tmp_path: Path) -> None:
    """C code that never releases the GIL blocks the watchdog, too: faulthandler writes the stacks."""
    app = write_agent(
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


async def test_a_slow_worker_is_never_killed(tmp_path: Path) -> None:
    """A loop that is late but still runs is alive."""
    app = write_agent(tmp_path / "agent.py")
    with running_server("--hang-timeout-s", "2", app=app, workers=1) as server:
        pids = server.worker_pids()
        async with call(server) as caller:
            for _ in range(4):  # longer than the timeout, together
                assert (await caller.ask("block 0.7"))[1] == pids[0]
        assert server.worker_pids() == pids
        assert "hangs" not in server.output()


@needs_proc
async def test_a_worker_stopped_by_a_signal_is_replaced(tmp_path: Path) -> None:
    app = write_agent(tmp_path / "agent.py")
    with running_server("--hang-timeout-s", "1", app=app, workers=1) as server:
        (victim,) = server.worker_pids()
        os.kill(victim, signal.SIGSTOP)
        server.wait_for_output(rf"pid {victim}\) was killed by SIGKILL; another one")
        async with call(server) as caller:
            assert (await caller.ask())[1] != victim


async def test_a_draining_worker_that_hangs_is_killed(tmp_path: Path) -> None:
    app = write_agent(tmp_path / "agent.py")
    with running_server("--hang-timeout-s", "1", app=app, workers=1) as server:
        async with call(server) as caller:
            await caller.ask()
            await caller.say("block 3600")
            server.send_signal(signal.SIGTERM)
            assert server.wait() == 0
        assert "hangs" in server.output()


async def test_a_blocked_orphan_ends_itself(tmp_path: Path) -> None:
    """A worker whose loop hangs ends after its supervisor was killed."""
    app = write_agent(tmp_path / "agent.py")
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


def test_an_importing_orphan_ends_itself(tmp_path: Path) -> None:
    """A worker that still imports the APP ends after its supervisor was killed."""
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


# --- workers that die or send invalid messages ----------------------------------------------------------------------


async def test_crashes_in_conversations_never_end_the_server(tmp_path: Path) -> None:
    app = write_agent(tmp_path / "agent.py")
    with running_server(app=app, workers=3) as server:
        for _ in range(6):  # more often than consecutive boot failures are allowed
            async with call(server) as caller:
                await caller.say("die")
                await caller.until_cut()
        async with call(server) as caller:
            await caller.ask()
        assert server.is_running()


def test_five_failed_starts_end_the_server(tmp_path: Path) -> None:
    """The exit code is 3."""
    app = write_agent(tmp_path / "agent.py")
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
async def test_an_invalid_control_message_ends_that_worker_only(tmp_path: Path, said: str) -> None:
    app = write_agent(tmp_path / "agent.py", GARBAGE)
    with running_server("--log-level", "debug", app=app, workers=1) as server:
        (victim,) = server.worker_pids()
        async with call(server) as caller:
            await caller.say(said)
            await caller.until_cut()
        server.wait_for_output(rf"pid {victim}\) sent an invalid control message, killed")
        server.wait_for_output(rf"\(pid (?!{victim}\))\d+\) is ready")
        assert server.stop() == 0
        assert "Traceback" not in server.output()


async def test_supervisor_signals_do_not_affect_workers(tmp_path: Path) -> None:
    app = write_agent(tmp_path / "agent.py")
    with running_server(app=app, workers=1) as server:
        (pid,) = server.worker_pids()
        async with call(server) as caller:
            await caller.ask()
            for name in ("SIGHUP", "SIGINT", "SIGUSR1", "SIGUSR2", "SIGTTIN", "SIGTTOU"):
                os.kill(pid, getattr(signal, name))
                assert (await caller.ask())[1] == pid
        assert server.worker_pids() == [pid]


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
        os.kill(pid, signal.SIGHUP)  # the terminal is open: SIGHUP is a reload
        wait_for_text(log, "generation 2 serves")
    finally:
        os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert "SIGHUP of a closed terminal: taking no new conversations" in log.read_text()
