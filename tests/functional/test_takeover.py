"""Upgrades of the supervisor, inherited sockets, the pidfile, and notifications to systemd."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.functional.processes import call, write_agent
from tests.helpers import (
    ANSWER_TIMEOUT_S,
    READY_LINE,
    START_TIMEOUT_S,
    TEST_API_KEY,
    ServerProcess,
    environment,
    read_answer,
    running_server,
    spoken,
    stopped_at_the_end,
    wait_for_end,
)

SERVER = [sys.executable, "-m", "se_server.cli.server"]


# --- another supervisor ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["port", "unix socket"])
async def test_an_upgrade_keeps_the_socket_and_the_conversations(tmp_path: Path, by: str) -> None:
    app, pidfile, path = write_agent(tmp_path / "agent.py"), tmp_path / "pid", tmp_path / "socket"
    args = ["--pidfile", str(pidfile), "--log-level", "debug"] + ([] if by == "port" else ["--uds", str(path)])
    with running_server(*args, app=app) as server:
        options = {} if by == "port" else {"unix": True, "path": str(path)}

        async with contextlib.AsyncExitStack() as stack:
            before = await stack.enter_async_context(call(server, **options))
            old, worker = await before.who()
            assert (old, int(pidfile.read_text())) == (server.pid, server.pid)
            server.send_signal(signal.SIGUSR2)
            new = int(server.wait_for_output(r"upgrade: supervisor (\d+) serves", START_TIMEOUT_S)[1])
            with stopped_at_the_end(new):
                assert int(pidfile.read_text()) == new
                others = [pid for pid in server.worker_pids() if pid not in (worker, new)]
                wait_for_end(others)
                server.wait_for_output(rf"\(pid {worker}\) drains")  # before that it still takes conversations
                async with call(server, **options) as after:
                    assert (await after.who())[0] == new
                assert await before.who() == (old, worker)
                assert server.is_running()
                await stack.aclose()
                wait_for_end([old])
                assert int(pidfile.read_text()) == new
                assert by == "port" or path.exists()
                async with call(server, **options) as after:
                    assert (await after.who())[0] == new
            assert not pidfile.exists()
            assert by == "port" or not path.exists()
        assert server.wait() == 0
        assert "ERROR" not in server.output()


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": "@nobody"}], ids=["alone", "under systemd"])
async def test_a_failed_upgrade_keeps_the_old_supervisor(tmp_path: Path, environ: dict[str, str]) -> None:
    app, pidfile = write_agent(tmp_path / "agent.py"), tmp_path / "pid"
    with running_server("--pidfile", str(pidfile), app=app, env=environ) as server:
        pids = server.worker_pids()
        async with call(server) as caller:
            await caller.who()
            app.write_text("raise RuntimeError('half a deploy')")
            server.send_signal(signal.SIGUSR2)
            server.wait_for_output("raised RuntimeError: half a deploy", START_TIMEOUT_S)
            server.wait_for_output("the upgrade has failed, the server goes on unchanged")
            wait_for_end([int(server.wait_for_output(r"supervisor (\d+) starts on the same sockets")[1])])
            assert (await caller.who())[0] == server.pid
        assert server.worker_pids() == pids
        assert int(pidfile.read_text()) == server.pid
        write_agent(app)
        server.send_signal(signal.SIGUSR2)
        new = int(server.wait_for_output(r"upgrade: supervisor (\d+) serves", START_TIMEOUT_S)[1])
        with stopped_at_the_end(new):
            wait_for_end([server.pid])


async def test_a_stop_during_an_upgrade_stops_both(tmp_path: Path) -> None:
    app = write_agent(tmp_path / "agent.py")
    with running_server(app=app) as server:
        app.write_text("import os, time\nprint('starting, child of', os.getppid(), flush=True)\ntime.sleep(3600)")
        server.send_signal(signal.SIGUSR2)
        new = int(server.wait_for_output(r"starting, child of (\d+)", START_TIMEOUT_S)[1])
        server.send_signal(signal.SIGTERM)
        assert server.wait() == 0
        wait_for_end([new])


async def test_reloads_and_upgrades_under_load_lose_nothing(tmp_path: Path) -> None:
    """No handshake is refused, and no conversation is cut."""
    app, pidfile = write_agent(tmp_path / "agent.py"), tmp_path / "pid"
    with running_server("--pidfile", str(pidfile), app=app) as server:
        enough = asyncio.Event()
        answers = 0

        async def hold() -> None:
            """Hold one conversation the whole time, with the same worker."""
            nonlocal answers
            async with call(server) as caller:
                first = await caller.who()
                while not enough.is_set():
                    assert await caller.who() == first
                    answers += 1

        async def come_and_go() -> None:
            while not enough.is_set():
                async with call(server) as caller:
                    await caller.who()

        async def deploy() -> int:
            for generation in (2, 3, 4):
                server.send_signal(signal.SIGHUP)
                await asyncio.to_thread(server.wait_for_output, f"generation {generation} serves", START_TIMEOUT_S)
            server.send_signal(signal.SIGUSR2)
            upgraded = await asyncio.to_thread(server.wait_for_output, r"supervisor (\d+) serves", START_TIMEOUT_S)
            enough.set()
            return int(upgraded[1])

        callers = [asyncio.create_task(hold()) for _ in range(8)] + [
            asyncio.create_task(come_and_go()) for _ in range(4)
        ]
        new = await deploy()
        with stopped_at_the_end(new):
            await asyncio.gather(*callers)
            assert answers > 8
            wait_for_end([server.pid])
        assert "ERROR" not in server.output()


# --- sockets that are open already ----------------------------------------------------------------------------------


@contextlib.contextmanager
def listening() -> Iterator[socket.socket]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(128)
        yield sock


@contextlib.contextmanager
def server_on(sock: socket.socket, command: list[str], **env: str) -> Iterator[ServerProcess]:
    """Run a server that inherits `sock` with the same descriptor."""
    os.set_inheritable(sock.fileno(), True)
    wrapper = f"import os, sys; os.dup2({sock.fileno()}, {sock.fileno()}); os.execv(sys.argv[1], sys.argv[1:])"
    if "LISTEN_FDS" in env:
        wrapper = (
            f"import os, sys; os.dup2({sock.fileno()}, 3); os.environ['LISTEN_PID'] = str(os.getpid());"
            "os.execv(sys.argv[1], sys.argv[1:])"
        )
    process = ServerProcess(
        [sys.executable, "-c", wrapper, *command], environment(**env), TEST_API_KEY, pass_fds=(sock.fileno(),)
    )
    try:
        ready = process.wait_for_output(READY_LINE, START_TIMEOUT_S)
        process.url, process.port = ready[1], int(ready[2])
        yield process
    finally:
        process.stop()


async def test_a_server_listens_on_a_given_descriptor(tmp_path: Path) -> None:
    app = write_agent(tmp_path / "agent.py")
    with listening() as sock:
        command = [*SERVER, str(app), "--workers", "1", "--fd", str(sock.fileno())]
        with server_on(sock, command) as server:
            assert server.port == sock.getsockname()[1]
            async with call(server) as caller:
                assert (await caller.who())[0] == server.pid


def refusal(*args: str, pass_fds: tuple[int, ...] = (), **env: str) -> str:
    done = subprocess.run(
        [*SERVER, *args],
        env=environment(**env),
        pass_fds=pass_fds,
        capture_output=True,
        text=True,
        timeout=START_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("\n") == 1
    return done.stderr


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (None, "--fd: descriptor 99 is not an open socket"),
        (socket.SOCK_STREAM, "does not listen"),
        (socket.SOCK_DGRAM, "is not a TCP or Unix stream socket"),
    ],
)
def test_an_unusable_descriptor_is_one_sentence(kind: socket.SocketKind | None, text: str) -> None:
    with socket.socket(type=kind or socket.SOCK_STREAM) as sock:
        number = 99 if kind is None else sock.fileno()
        assert text in refusal("--fd", str(number), pass_fds=() if kind is None else (number,))


def test_a_descriptor_beside_an_address_is_one_sentence() -> None:
    with listening() as sock:
        number = sock.fileno()
        text = refusal("--fd", str(number), "--port", "0", pass_fds=(number,))
    assert "--fd and --port both say where to listen" in text


# --- systemd --------------------------------------------------------------------------------------------------------


class Manager:
    """Receives the notifications of a service, as systemd does."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._heard: queue.Queue[str] = queue.Queue()
        # The kernel keeps ten datagrams; a thread takes them, so that none is lost while the test does something else.
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while text := self._socket.recv(4096).decode():
            self._heard.put(text)

    def hear(self, *, skip: str = "WATCHDOG=1") -> dict[str, str]:
        """Return the next notification that is not `skip`."""
        while (text := self._heard.get(timeout=ANSWER_TIMEOUT_S)) == skip:
            pass
        return dict(line.split("=", 1) for line in text.split("\n"))

    def close(self) -> None:
        self._socket.sendto(b"", self.path)
        self._reader.join()
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path / "notify")
    yield made
    made.close()


async def test_systemd_activates_sockets_and_receives_notifications(tmp_path: Path, manager: Manager) -> None:
    app = write_agent(
        tmp_path / "agent.py",
        """
        import os
        async def on_transcript(transcript, session):
            names = ("LISTEN_FDS", "LISTEN_PID", "NOTIFY_SOCKET", "WATCHDOG_USEC")
            await session.send_response(" ".join(name for name in names if name in os.environ) or "none")
        """,
    )
    with listening() as sock:
        command = [*SERVER, str(app), "--workers", "1"]
        with server_on(sock, command, LISTEN_FDS="1", NOTIFY_SOCKET=manager.path, WATCHDOG_USEC="200000") as server:
            assert server.port == sock.getsockname()[1]
            ready = manager.hear()
            assert (ready["READY"], ready["MAINPID"]) == ("1", str(server.pid))
            assert manager.hear(skip="") == {"WATCHDOG": "1"}
            async with call(server) as caller:
                await caller.say("what of systemd do you see?")
                assert spoken(await read_answer(caller.websocket)) == "none"
            server.send_signal(signal.SIGHUP)
            assert manager.hear()["RELOADING"] == "1"
            assert manager.hear()["READY"] == "1"
            app.write_text("raise RuntimeError")
            server.send_signal(signal.SIGHUP)
            assert manager.hear()["RELOADING"] == "1"
            assert manager.hear()["READY"] == "1"
            server.send_signal(signal.SIGTERM)
            assert manager.hear()["STOPPING"] == "1"
            assert server.wait() == 0


async def test_systemd_is_notified_of_the_upgraded_process(tmp_path: Path, manager: Manager) -> None:
    app = write_agent(tmp_path / "agent.py")
    with running_server(app=app, env={"NOTIFY_SOCKET": manager.path}) as server:
        assert manager.hear()["MAINPID"] == str(server.pid)
        server.send_signal(signal.SIGUSR2)
        new = int(server.wait_for_output(r"upgrade: supervisor (\d+) serves", START_TIMEOUT_S)[1])
        with stopped_at_the_end(new):
            heard = [manager.hear(), manager.hear()]
            assert all(item.get("MAINPID") == str(new) for item in heard)
            wait_for_end([server.pid])
            os.kill(new, signal.SIGHUP)  # The old process ends without a notification: the next is the new one's.
            assert manager.hear()["RELOADING"] == "1"
        assert server.wait() == 0


def parent_of(pid: int) -> int:
    """Return the pid of a process's parent."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.skipif(sys.platform != "linux", reason="systemd")
async def test_a_stop_after_upgrades_drains_earlier_supervisors(tmp_path: Path, manager: Manager) -> None:
    app = write_agent(tmp_path / "agent.py")
    with running_server(app=app, workers=1, env={"NOTIFY_SOCKET": manager.path}) as server:
        async with call(server) as first:
            await first.who()
            pids = [server.pid]
            for _ in range(2):
                os.kill(pids[-1], signal.SIGUSR2)
                pattern = rf"upgrade: supervisor ((?!{pids[-1]}\b)\d+) serves"
                pids.append(int(server.wait_for_output(pattern, START_TIMEOUT_S)[1]))
                # systemd waits for its own children alone, and kills the others at a stop.
                assert parent_of(pids[-1]) not in pids
            async with call(server) as last:
                await last.who()
                os.kill(pids[-1], signal.SIGTERM)
                for caller in (first, last):
                    await caller.who()
            wait_for_end([pids[1]])
            await first.who()
            assert parent_of(pids[-1]) > 0
        wait_for_end(pids)
        assert server.wait() == 0


# --- the pidfile ----------------------------------------------------------------------------------------------------


def test_a_pidfile_names_the_supervisor_while_it_runs(tmp_path: Path) -> None:
    pidfile = tmp_path / "pid"
    pidfile.write_text("1\n")  # stale: no process holds it
    with running_server("--pidfile", str(pidfile)) as server:
        assert pidfile.read_text() == f"{server.pid}\n"
        text = refusal("--pidfile", str(pidfile), "--host", "127.0.0.1", "--port", "0")
        assert f"is held by the running process {server.pid}" in text
        assert pidfile.read_text() == f"{server.pid}\n"
        assert server.stop() == 0
    assert not pidfile.exists()


async def test_a_killed_supervisor_frees_its_pidfile(tmp_path: Path) -> None:
    """The file is free while its workers still drain."""
    app, pidfile = write_agent(tmp_path / "agent.py"), tmp_path / "pid"
    with running_server("--pidfile", str(pidfile), app=app) as server:
        async with call(server) as caller:
            await caller.who()
            server.send_signal(signal.SIGKILL)
            wait_for_end([server.pid])
            with running_server("--pidfile", str(pidfile), app=app) as other:
                assert pidfile.read_text() == f"{other.pid}\n"
                await caller.who()


def test_a_pidfile_of_another_server_stays(tmp_path: Path) -> None:
    pidfile = tmp_path / "pid"
    with running_server("--pidfile", str(pidfile)) as server:
        pidfile.unlink()
        pidfile.write_text("another server's\n")
        assert server.stop() == 0
    assert pidfile.read_text() == "another server's\n"


def test_an_unwritable_pidfile_is_one_sentence(tmp_path: Path) -> None:
    assert "--pidfile: cannot write" in refusal("--pidfile", str(tmp_path / "nowhere" / "pid"))
    assert "--pidfile: cannot write" in refusal("--pidfile", str(tmp_path))


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_link(path: Path) -> None:
    (path.parent / "target").write_text("1\n")
    path.symlink_to("target")


def make_hard_link(path: Path) -> None:
    (path.parent / "target").write_text("1\n")
    path.hardlink_to(path.parent / "target")


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))


def make_source(path: Path) -> None:
    path.write_text("def on_transcript(transcript, session): ...\n")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (make_fifo, "it is a FIFO"),
        (make_link, "it is a symbolic link"),
        (make_hard_link, "it has 2 hard links"),
        (make_socket, "it is a socket"),
        (make_source, "it holds something else than a process id"),
        (Path.mkdir, "it is a directory"),
    ],
)
def test_a_pidfile_that_is_something_else_is_refused(tmp_path: Path, make: Callable[[Path], None], reason: str) -> None:
    """What is there stays as it is."""
    pidfile = tmp_path / "pid"
    make(pidfile)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert reason in refusal("--pidfile", str(pidfile), "--host", "127.0.0.1", "--port", "0")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_a_device_is_no_pidfile() -> None:
    assert "it is a device" in refusal("--pidfile", "/dev/null", "--host", "127.0.0.1", "--port", "0")
