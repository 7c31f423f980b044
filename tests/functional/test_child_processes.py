"""Processes that user code starts: they have nothing of the server, and nothing they do reaches it."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import trustme

from tests.functional.processes import Caller, call, needs_proc, write_agent
from tests.helpers import ANSWER_TIMEOUT_S, POLL_S, START_TIMEOUT_S, ServerProcess, running_server

pytestmark = needs_proc

AGENT = """
    import asyncio, gc, multiprocessing, os, pty, signal, subprocess, sys, threading, time
    from concurrent.futures import ProcessPoolExecutor
    VERSION = "one"
    KEPT = []

    def live():
        time.sleep(60)
        os._exit(0)

    def fork():
        return os.fork() or live()

    def fork_in_a_thread():
        pids = []
        thread = threading.Thread(target=lambda: pids.append(fork()))
        thread.start()
        thread.join()
        return pids[0]

    def fork_on_a_terminal():
        pid, terminal = pty.fork()
        KEPT.append(terminal)
        return pid or live()

    def grandchild():
        read, write = os.pipe()
        if os.fork() == 0:
            os.write(write, str(os.fork() or live()).encode())
            os._exit(0)
        os.wait()
        return int(os.read(read, 100))

    def process(method):
        child = multiprocessing.get_context(method).Process(target=time.sleep, args=(60,))
        child.start()
        KEPT.append(child)
        return child.pid

    def executor(method):
        pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method))
        KEPT.append(pool)
        return pool.submit(os.getpid).result()

    def popen():
        child = subprocess.Popen(["sleep", "60"], close_fds=False)
        KEPT.append(child)
        return child.pid

    async def asyncio_subprocess():
        child = await asyncio.create_subprocess_exec("sleep", "60")
        KEPT.append(child)
        return child.pid

    WAYS = {
        "fork": fork,
        "fork in a thread": fork_in_a_thread,
        "fork on a terminal": fork_on_a_terminal,
        "grandchild": grandchild,
        "process by fork": lambda: process("fork"),
        "process by spawn": lambda: process("spawn"),
        "process by forkserver": lambda: process("forkserver"),
        "executor by fork": lambda: executor("fork"),
        "executor by spawn": lambda: executor("spawn"),
        "executor by forkserver": lambda: executor("forkserver"),
        "popen": popen,
        "posix_spawn": lambda: os.posix_spawnp("sleep", ["sleep", "60"], os.environ),
        "asyncio subprocess": asyncio_subprocess,
    }

    def ended(pid):
        _, status = os.waitpid(pid, 0)
        return f"{status and os.waitstatus_to_exitcode(status)}"

    async def on_transcript(transcript, session):
        said = transcript[-1].content
        answer = f"{VERSION} {os.getppid()} {os.getpid()}"
        if said in WAYS:
            pid = WAYS[said]()
            answer = f"child {await pid if asyncio.iscoroutine(pid) else pid}"
        elif said == "terminate":
            child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
            child.start()
            child.terminate()
            child.join(5)
            answer = f"exit code {child.exitcode}"
        elif said == "pool":
            with multiprocessing.get_context("fork").Pool(2) as pool:
                answer = f"sum {sum(pool.map(abs, [-1, -2]))}"
        elif said == "collect":
            pid = os.fork()
            if pid == 0:
                session = transcript = None
                gc.collect()
                sys.exit(0)
            answer = f"exit code {await asyncio.to_thread(ended, pid)}"
        elif said == "wakeup":
            read, write = os.pipe()
            if os.fork() == 0:
                os.write(write, str(signal.set_wakeup_fd(-1)).encode())
                os._exit(0)
            answer = f"wakeup {os.read(read, 100).decode()}"
        elif said.startswith("unwind"):
            never = asyncio.get_running_loop().create_future()
            pid = os.fork()
            if pid == 0:
                if said == "unwind by exit":
                    sys.exit(7)
                if said == "unwind by error":
                    raise ValueError("in the child")
                if said == "unwind by a task":
                    await asyncio.gather(asyncio.create_task(leave()))
                if said == "unwind by waiting":
                    await never
                return
            answer = f"exit code {await asyncio.to_thread(ended, pid)}"
        await session.send_response(answer)

    async def leave():
        sys.exit(8)
"""

PROGRAM = """
    import asyncio, os, sys
    sys.path.insert(0, {folder!r})
    import agent
    from se_server import SpeechEngineServer
    {imports}

    async def main():
        server = SpeechEngineServer(
            host="127.0.0.1", port=0, disable_auth=True, allow_ips="127.0.0.1", on_transcript=agent.on_transcript
        )
        serving = asyncio.create_task(server.serve())
        await server.wait_ready()
        print(f"se-server ready: ws://127.0.0.1:{{server.port}}/", flush=True)
        if sys.argv[1:]:
            pid = os.fork()
            if pid == 0 and sys.argv[1] == "return":
                return
            if pid == 0:
                sys.exit(3)
            print("the child ended with", agent.ended(pid), flush=True)
        await serving

    if __name__ == "__main__":
        {run}
"""

WAYS = [
    "fork",
    "fork in a thread",
    "fork on a terminal",
    "grandchild",
    "process by fork",
    "process by spawn",
    "process by forkserver",
    "executor by fork",
    "executor by spawn",
    "popen",
    "posix_spawn",
    "asyncio subprocess",
]
UNWINDINGS = {
    "unwind by return": "0",
    "unwind by exit": "7",
    "unwind by error": "1",
    "unwind by a task": "1",  # asyncio has no running loop in a forked child
    "unwind by waiting": "0",
}
SIGNALS = [
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGTTIN,
    signal.SIGTTOU,
    signal.SIGCHLD,
]


@contextmanager
def running_program(folder: Path, loop: str, *args: str) -> Iterator[ServerProcess]:
    """Run a program that calls `serve()` with the agent's handler, on a loop of `asyncio` or `uvloop`."""
    imports, run = ("", "asyncio.run(main())") if loop == "asyncio" else ("import uvloop", "uvloop.run(main())")
    file = folder / "program.py"
    file.write_text(textwrap.dedent(PROGRAM).format(folder=str(folder), imports=imports, run=run))
    process = ServerProcess([sys.executable, str(file), *args], dict(os.environ), None)
    try:
        found = process.wait_for_output(r"se-server ready: (ws://\S+:(\d+)/)", START_TIMEOUT_S)
        process.url, process.port = found[1], int(found[2])
        yield process
    finally:
        process.stop()


@pytest.fixture(params=["worker", "zygote", "asyncio", "uvloop"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ServerProcess]:
    """A worker, one that a zygote has forked, and programs with a server of their own."""
    app = write_agent(tmp_path / "agent.py", AGENT)
    if request.param in ("worker", "zygote"):
        options = ("--preload", "json.tool", "--preload-app") if request.param == "zygote" else ()
        with running_server(*options, app=app) as server:
            yield server
    else:
        with running_program(tmp_path, request.param) as server:
            yield server


def mask(pid: int, name: str) -> set[signal.Signals]:
    """Return the signals of a line in /proc/PID/status."""
    status = Path("/proc", str(pid), "status").read_text()
    bits = int(next(line for line in status.splitlines() if line.startswith(name)).split()[1], 16)
    return {number for number in SIGNALS if bits >> (number - 1) & 1}


def sockets(pid: int) -> set[str]:
    """Return the sockets of a process."""
    names = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):
            names.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return {name for name in names if name.startswith("socket:")}


def sockets_of_port(port: int) -> set[str]:
    """Return the sockets that listen on a port, and its connections."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {f"socket:[{row[9]}]" for row in rows if row[1].endswith(f":{port:04X}")}


async def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + ANSWER_TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(POLL_S)


def is_alive(pid: int) -> bool:
    try:
        return ") Z" not in Path("/proc", str(pid), "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


async def hear(caller: Caller, text: str) -> str:
    """Send a transcript and return the last word of the answer."""
    return (await caller.hear(text)).split()[-1]


@pytest.mark.parametrize("way", WAYS)
async def test_children_are_ordinary_processes(server: ServerProcess, way: str) -> None:
    async with call(server) as caller, call(server) as other:
        await other.ask()
        child = int(await hear(caller, way))
        try:
            # The tests may run under nohup.
            for name, inherited in (("SigCgt", set()), ("SigIgn", mask(os.getpid(), "SigIgn")), ("SigBlk", set())):
                await until(lambda name=name, most=inherited: mask(child, name) <= most, f"{name} is not empty")
            ours = sockets_of_port(server.port)
            assert len(ours) >= 3
            # The loop's own pair for signals as well, whichever thread forks.
            ours |= sockets(int(await hear(caller, "who are you?")))
            await until(lambda: not sockets(child) & ours, "the child has sockets of the server")
            os.kill(child, signal.SIGTERM)
            await until(lambda: not is_alive(child), "the child lives on")
        finally:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        await caller.ask()
        await other.ask()
    async with call(server) as third:
        await third.ask()


async def test_children_do_not_wake_the_loop(server: ServerProcess) -> None:
    async with call(server) as caller:
        assert await hear(caller, "wakeup") == "-1"


async def test_terminated_processes_leave_the_server_alone(server: ServerProcess) -> None:
    async with call(server) as caller, call(server) as other:
        for _ in range(3):
            assert await hear(caller, "terminate") == str(-signal.SIGTERM)
        await other.ask()
    async with call(server) as third:
        await third.ask()


async def test_pools_end_with_their_block(server: ServerProcess) -> None:
    async with call(server) as caller:
        for _ in range(5):
            assert await hear(caller, "pool") == "3"


@pytest.mark.parametrize("way", ["fork", "process by fork", "executor by fork"])
async def test_connections_end_while_a_child_lives(server: ServerProcess, way: str) -> None:
    async with call(server) as caller, call(server) as other:
        await other.ask()
        child = int(await hear(caller, way))
        try:
            began = time.monotonic()
            await other.websocket.close()
            assert time.monotonic() - began < 5
        finally:
            os.kill(child, signal.SIGKILL)


async def test_callers_of_a_killed_worker_are_cut(tmp_path: Path) -> None:
    app = write_agent(tmp_path / "agent.py", AGENT)
    with running_server(app=app) as server:
        async with call(server) as caller:
            _, worker = await caller.ask()
            child = int(await hear(caller, "fork"))
            try:
                os.kill(worker, signal.SIGKILL)
                await caller.until_cut()
            finally:
                os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("unwinding", UNWINDINGS)
async def test_children_that_come_back_are_ended(tmp_path: Path, unwinding: str) -> None:
    app = write_agent(tmp_path / "agent.py", AGENT)
    with running_server("--workers", "1", app=app) as server:
        async with call(server) as caller, call(server) as other:
            _, worker = await other.ask()
            assert await hear(caller, unwinding) == UNWINDINGS[unwinding]
            assert (await other.ask())[1] == worker
            assert (await caller.ask())[1] == worker
        async with call(server) as third:
            assert (await third.ask())[1] == worker
        assert "bug of se-server" not in server.output()


@pytest.mark.skipif(
    sys.version_info >= (3, 14), reason="in Python 3.14 a child forked by a task cannot leave asyncio's loop by itself"
)
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize(("unwinding", "code"), [("return", 0), ("exit", 3)])
async def test_programs_hear_after_a_child_unwinds(tmp_path: Path, loop: str, unwinding: str, code: int) -> None:
    write_agent(tmp_path / "agent.py", AGENT)
    with running_program(tmp_path, loop, unwinding) as server:
        server.wait_for_output(f"the child ended with {code}")
        async with call(server) as caller:
            await caller.ask()
            await caller.ask()
        assert server.stop() == 0  # the signal arrives


@pytest.mark.parametrize("unwinding", ["unwind by return", "unwind by exit", "unwind by error"])
async def test_programs_survive_returning_children(server: ServerProcess, unwinding: str) -> None:
    async with call(server) as caller, call(server) as other:
        await other.ask()
        assert await hear(caller, unwinding) == UNWINDINGS[unwinding]
        await other.ask()
        await caller.ask()


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.parametrize(
    "way", ["fork", "executor by fork", "executor by spawn", "executor by forkserver", "unwind by exit", "collect"]
)
async def test_children_leave_conversations_over_tls_alone(tmp_path: Path, loop: str, way: str) -> None:
    """A copy of a TLS connection must neither be used nor say goodbye: the peer would take it for the server's."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    app = write_agent(tmp_path / "agent.py", AGENT)
    files = ("--certfile", str(tmp_path / "cert.pem"), "--keyfile", str(tmp_path / "key.pem"))
    with running_server(*files, "--loop", loop, app=app, workers=1) as server:
        async with call(server, ssl=context) as caller, call(server, ssl=context) as other:
            before = await other.ask()
            said = await hear(caller, way)
            if way not in ("unwind by exit", "collect"):
                child = int(said)
                await until(lambda: not sockets(child) & sockets_of_port(server.port), "the child has sockets")
                os.kill(child, signal.SIGKILL)
            assert await caller.ask() == before
            assert await other.ask() == before
        async with call(server, ssl=context) as third:
            assert await third.ask() == before
