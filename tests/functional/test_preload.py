"""`--preload` and `--preload-app`: workers are forked from a zygote, which has imported what they need."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.functional.preloading import (
    AGENT,
    LIBRARY,
    check,
    kill_worker,
    start,
    status,
    until,
    who,
    write_library,
    zygote_of,
)  # fmt: skip
from tests.functional.processes import call, needs_proc, wait_for_drain, write_agent
from tests.helpers import (
    READY_LINE,
    START_TIMEOUT_S,
    TEST_API_KEY,
    ServerProcess,
    environment,
    running_server,
    stopped_at_the_end,
    wait_for_end,
)

pytestmark = needs_proc


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An agent, with a library beside it."""
    monkeypatch.chdir(tmp_path)
    write_library(LIBRARY)
    return write_agent(tmp_path / "agent.py", AGENT)


# --- workers of a zygote ---


@pytest.mark.parametrize("workers", [1, 2])
async def test_workers_have_the_library_of_the_zygote(app: Path, workers: int) -> None:
    with running_server("--preload", "library", app=app, workers=workers) as server:
        zygote = zygote_of(server)
        version, library, agent, worker = await who(server)
        assert (version, library, agent == worker) == ("one", str(zygote), True)
        assert await who(server, "parent") == [str(server.pid), os.getcwd()]  # the supervisor reaps it
        workers_of = set(server.worker_pids()) - {zygote}
        assert len(workers_of) == workers
        await kill_worker(server)
        server.wait_for_output(r"ended with exit code 9; another one takes its place")
        async with call(server) as caller:
            _, library, _, after = (await caller.hear("who")).split()
        assert (library, after != worker or workers == 2) == (str(zygote), True)
        assert server.stop() == 0
        wait_for_end([zygote, *workers_of])
        assert "ERROR" not in re.sub(r".*exit code 9.*", "", server.output())


async def test_workers_draw_different_random_numbers(app: Path) -> None:
    with running_server("--preload", "library", app=app) as server:
        drawn: dict[str, list[str]] = {}
        while len(drawn) < 2:
            async with call(server) as caller:
                worker = (await caller.hear("who")).split()[-1]
                if worker not in drawn:
                    drawn[worker] = (await caller.hear("draw")).split()
        for place, is_equal in enumerate((False, False, True, False)):
            assert len({each[place] for each in drawn.values()}) == (1 if is_equal else 2)


async def test_a_reload_replaces_the_zygote(app: Path) -> None:
    with running_server("--preload", "library", "--log-level", "debug", app=app) as server:
        zygote = zygote_of(server)
        old = set(server.worker_pids()) - {zygote}
        write_agent(app, AGENT, "two")
        server.send_signal(signal.SIGHUP)
        wait_for_drain(server, *old)
        second = zygote_of(server, 2)
        version, library, _, _ = await who(server)
        assert (version, library) == ("two", str(second))
        wait_for_end([zygote])


async def test_a_reload_that_cannot_import_is_refused(app: Path) -> None:
    with running_server("--preload", "library", app=app) as server:
        zygote = zygote_of(server)
        before = server.worker_pids()
        write_library("import nothing_like_this\n")
        server.send_signal(signal.SIGHUP)
        server.wait_for_output(
            "the reload has failed, the old workers serve on: --preload library: importing it raised"
        )
        assert (await who(server))[:2] == ["one", str(zygote)]
        assert server.worker_pids() == before
        await kill_worker(server)  # the old zygote forks on
        await until(lambda: len(server.worker_pids()) == len(before))
        assert (await who(server))[1] == str(zygote)


async def test_a_killed_zygote_costs_no_worker(app: Path) -> None:
    with running_server("--preload", "library", app=app, workers=1) as server:
        zygote = zygote_of(server)
        async with call(server) as caller:
            before = await caller.hear("who")
            os.kill(zygote, signal.SIGKILL)
            second = zygote_of(server, after=zygote)
            assert await caller.hear("who") == before
            os.kill(second, signal.SIGTERM)
            third = zygote_of(server, after=second)
        await kill_worker(server)
        server.wait_for_output("another one takes its place")
        assert (await who(server))[1] == str(third)


async def test_workers_start_without_a_stopped_zygote(app: Path) -> None:
    """A zygote that does not answer is killed; the worker imports the library itself."""
    with running_server("--preload", "library", app=app, workers=1) as server:
        zygote = zygote_of(server)
        os.kill(zygote, signal.SIGSTOP)
        await kill_worker(server)
        server.wait_for_output(r"forks no worker: it does not answer within 5 s")
        server.wait_for_output("a worker starts without the zygote")
        _, library, _, worker = await who(server)
        assert library == "None"
        assert int(worker) in server.worker_pids()
        zygote_of(server, after=zygote)


async def test_the_zygote_ends_with_a_killed_supervisor(app: Path) -> None:
    with running_server("--preload", "library", app=app) as server:
        processes = server.worker_pids()
        os.kill(server.pid, signal.SIGKILL)
        wait_for_end([zygote_of(server)])
        wait_for_end(processes)


async def test_signals_of_a_terminal_leave_the_zygote_alone(app: Path) -> None:
    with running_server("--preload", "library", app=app) as server:
        zygote = zygote_of(server)
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTTIN):
            os.kill(zygote, number)
        await kill_worker(server)
        assert (await who(server))[1] == str(zygote)


async def test_handlers_of_a_library_reach_the_workers(app: Path) -> None:
    write_library(
        LIBRARY
        + """
import signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
signal.signal(signal.SIGTERM, lambda *_: print("never here"))
signal.signal(signal.SIGUSR2, lambda *_: print("the library's handler in", os.getpid(), flush=True))
"""
    )
    with running_server("--preload", "library", app=app, workers=1) as server:
        zygote = zygote_of(server)
        _, library, _, worker = await who(server)
        assert library == str(zygote)
        os.kill(int(worker), signal.SIGUSR2)
        server.wait_for_output(f"the library's handler in {worker}")
        os.kill(zygote, signal.SIGTERM)
        second = zygote_of(server, after=zygote)
        await kill_worker(server)
        assert (await who(server))[1] == str(second)
        assert server.stop() == 0
        assert "never here" not in server.output()


# As on a system where a process does not inherit its grandchildren.
WITHOUT_INHERITANCE = """
import sys
from se_server.server.supervisor import orphans, pool, zygote_process
orphans.Orphans.adopt = lambda self: None
pool.INHERITS_WORKERS = zygote_process.INHERITS_WORKERS = False
from se_server.server.worker import zygote
zygote._end_with = lambda supervisor: None
from se_server.cli.server import main
sys.exit(main())
"""


async def test_a_zygote_reports_ends_that_are_not_inherited(app: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_INHERITANCE, "agent.py", "--host", "127.0.0.1", "--port", "0"]
    server = ServerProcess(
        [*command, "--preload", "library", "--workers", "1"], environment(TEST_API_KEY), TEST_API_KEY
    )
    try:
        found = server.wait_for_output(READY_LINE, START_TIMEOUT_S)
        server.url, server.port = found[1], int(found[2])
        zygote = zygote_of(server)
        _, library, _, worker = await who(server)
        assert library == (await who(server, "parent"))[0] == str(zygote)
        await kill_worker(server)
        server.wait_for_output(rf"worker 0 \(pid {worker}\) ended with exit code 9; another one takes its place")
        orphan = int((await who(server))[-1])
        os.kill(zygote, signal.SIGKILL)
        second = zygote_of(server, after=zygote)
        os.kill(orphan, signal.SIGKILL)
        server.wait_for_output(rf"worker 0 \(pid {orphan}\) was killed by SIGKILL; another one takes its place")
        assert (await who(server))[1] == str(second)
        assert server.stop() == 0
        wait_for_end([second])
    finally:
        server.stop()


async def test_status_shows_the_zygote(app: Path, tmp_path: Path) -> None:
    path = str(tmp_path / "ctl")
    with running_server("--preload", "library", "--control-socket", path, app=app) as server:
        zygote = zygote_of(server)
        assert f"zygote {zygote} of generation 1: ready for" in status(path)
        (row,) = json.loads(status(path, "--json"))["zygotes"]
        assert (row["pid"], row["state"], row["restarts"]) == (zygote, "ready", 0)


async def test_new_workers_write_to_a_reopened_log(app: Path, tmp_path: Path) -> None:
    log, moved = tmp_path / "log", tmp_path / "moved"
    write_library(LIBRARY + "import logging\ndef note(): logging.getLogger('agent').warning('from %d', os.getpid())\n")
    write_agent(app, AGENT + "\n    import library\n    library.note()\n")
    with running_server("--preload", "library", "--log-file", str(log), app=app, workers=1) as server:
        log.rename(moved)
        server.send_signal(signal.SIGUSR1)
        await until(lambda: log.exists() and "all processes write to the new log file" in log.read_text())
        await kill_worker(server)
        worker = (await who(server))[-1]
        assert f"from {worker}" in log.read_text()
        assert f"from {worker}" not in moved.read_text()


async def test_an_upgrade_takes_a_zygote_of_its_own(app: Path, tmp_path: Path) -> None:
    with running_server("--preload", "library", app=app) as server:
        first = zygote_of(server)
        write_library("raise RuntimeError('half a deploy')")
        server.send_signal(signal.SIGUSR2)
        server.wait_for_output("the upgrade has failed, the server goes on unchanged")
        assert (await who(server))[1] == str(first)
        write_library(LIBRARY)
        server.send_signal(signal.SIGUSR2)
        found = server.wait_for_output(r"upgrade: supervisor (\d+) serves")
        with stopped_at_the_end(int(found[1])):
            wait_for_end([server.pid, first])
            assert (await who(server))[1] not in ("None", str(first))


# --- what a library leaves ---

LEFT = {
    "thread": (
        """
        import threading, time
        threading.Thread(target=time.sleep, args=(60,), name="poller", daemon=True).start()
        """,
        r"leaves the thread 'poller' \(started at .*library\.py:3\)",
    ),
    "executor": (
        """
        from concurrent.futures import ThreadPoolExecutor
        pool = ThreadPoolExecutor(1, thread_name_prefix="work")
        pool.submit(int)
        """,
        r"leaves the thread 'work_0' \(started at .*library\.py:4\)",
    ),
    "log listener": (
        "import logging.handlers, queue\nlistener = logging.handlers.QueueListener(queue.Queue())\nlistener.start()\n",
        r"leaves the thread '.*_monitor.*' \(started at .*library\.py:3\)",
    ),
    "bare thread": (
        "import _thread, time\ndef poll():\n    time.sleep(60)\n_thread.start_new_thread(poll, ())\n",
        r"leaves a thread that runs poll \(.*library\.py:2\)",
    ),
    "thread of C code": (
        "import faulthandler\nfaulthandler.dump_traceback_later(60)\n",
        r"leaves 1 thread of C code \(",
    ),
    "lock": (
        """
        import threading
        lock = threading.RLock()
        thread = threading.Thread(target=lock.acquire)
        thread.start()
        thread.join()
        """,
        r"leaves a lock that is held by an ended thread, held by library\.lock,",
    ),
    "connection": (
        """
        import socket
        class Client:
            connection = None
        client = Client()
        client.connection = socket.create_connection(("127.0.0.1", {port}))
        """,
        r"leaves a connection to 127\.0\.0\.1:\d+, held by library\.client\.connection,",
    ),
    "listener": (
        "import socket\nserver = socket.create_server(('127.0.0.1', 0))\n",
        r"leaves a socket that listens on 127\.0\.0\.1:\d+, held by library\.server,",
    ),
    "loop": (
        "import asyncio\nloop = asyncio.new_event_loop()\n",
        r"leaves an event loop \(asyncio\._UnixSelectorEventLoop\) that is not closed, held by library\.loop,",
    ),
    "uvloop": (
        "import uvloop, asyncio\nasyncio.set_event_loop(uvloop.new_event_loop())\n",
        r"leaves an event loop \(uvloop\.Loop\) that is not closed",
    ),
    "child": (
        "import subprocess\nchild = subprocess.Popen(['sleep', '20'], stdout=-3, stderr=-3)\n",
        r"leaves the child process \d+ \(sleep 20\)",
    ),
    "database": (
        "import sqlite3\ndb = sqlite3.connect('data.db')\ndb.execute('create table t(a)')\ndb.commit()\n",
        r"leaves a connection to the SQLite database .*data\.db",
    ),
    "timer": ("import signal\nsignal.alarm(60)\n", r"leaves a running timer"),
    "import error": ("import nothing_like_this\n", r"importing it raised ModuleNotFoundError: No module named 'noth"),
    "exception": ("1 / 0\n", r"importing it raised ZeroDivisionError"),
    "exit": ("import sys\nsys.exit(4)\n", r"importing it raised SystemExit: 4"),
    "serve": (
        "import asyncio, se_server\nasyncio.run(se_server.SpeechEngineServer(port=0, disable_auth=True).serve())\n",
        r"importing it raised RuntimeError: serve\(\) was called while",
    ),
    "agent": ("import agent\n", r"--preload library: importing it imports the APP 'agent\.py'"),
}
CLEAN = """
    import asyncio, concurrent.futures, logging, random, socket, threading
    import httpx
    asyncio.run(asyncio.sleep(0))
    pool = concurrent.futures.ThreadPoolExecutor(4)
    client = httpx.Client()
    async_client = httpx.AsyncClient()
    lock = threading.RLock()
    lock.acquire()
    gate = threading.Lock()
    gate.acquire()
    thread = threading.Thread(target=int)
    thread.start()
    socket.socket().close()
    logging.FileHandler("library.log")
"""


# Preloads in a process for each directory that is named, and writes the sentence of the error there.
PRELOADING = """
import os, sys
from se_server.errors import AppError
from se_server.server.config.config import load_config
from se_server.server.worker.preloading import preload
for folder in sys.argv[1:]:
    if os.fork() == 0:
        os.chdir(folder)
        try:
            preload(load_config({"app": "agent.py", "preload": "library"}, {}), lambda _: None)
        except AppError as error:
            open("sentence", "w").write(str(error))
        os._exit(0)
for _ in sys.argv[1:]:
    os.wait()
"""


@pytest.fixture(scope="module")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The errors of all libraries that leave something, by what they leave."""
    folders = {what: tmp_path_factory.mktemp("left") for what in LEFT}
    with socket.create_server(("127.0.0.1", 0)) as peer:
        for what, folder in folders.items():
            port = str(peer.getsockname()[1])
            folder.joinpath("library.py").write_text(textwrap.dedent(LEFT[what][0]).replace("{port}", port))
            write_agent(folder / "agent.py", AGENT)
        subprocess.run([sys.executable, "-c", PRELOADING, *folders.values()], check=True, timeout=60)
    return {what: folder.joinpath("sentence").read_text() for what, folder in folders.items()}


@pytest.mark.xdist_group("leftovers")
@pytest.mark.parametrize("what", LEFT)
def test_leftovers_are_refused_by_name(sentences: dict[str, str], what: str) -> None:
    assert sentences[what].startswith("--preload library: importing it ")
    assert re.search(LEFT[what][1], sentences[what]), sentences[what]


def test_clean_libraries_pass(app: Path) -> None:
    write_library(CLEAN)
    code, output = check("--preload", "library,json.decoder", "--preload", "httpx")
    assert (code, "preload        library, json.decoder, httpx: imported, and nothing left behind" in output) == (
        0,
        True,
    )


@pytest.mark.parametrize(
    ("args", "code", "sentence"),
    [
        (["--preload", "librray"], 3, r"--preload librray: no module 'librray' in .*; did you mean library\?"),
        (["--preload", "json.nothing"], 3, r"--preload json.nothing: no module 'json.nothing'"),
        (["--preload", "library.py"], 3, r"--preload library.py: no module 'library.py'"),
        (["--preload", "./library.py"], 2, r"--preload: './library.py' is not valid: expected names of modules"),
        (["--preload-timeout-s", "4"], 2, r"--preload-timeout-s is for --preload: give --preload too"),
    ],
)
def test_wrong_names_are_sentences(app: Path, args: list[str], code: int, sentence: str) -> None:
    done = check(*args)
    assert done[0] == code
    assert re.search(sentence, done[1]), done[1]


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (
            "import time\ntime.sleep(60)\n",
            "preloading takes longer than 1 s, and the import of library has not ended",
        ),
        ("import os\nos._exit(5)\n", "the zygote ended with exit code 5 at the import of library"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n", "the zygote was killed by SIGKILL at the import"),
        (LEFT["thread"][0], "--preload library: importing it leaves the thread 'poller'"),
    ],
)
def test_starts_without_a_zygote_fail(app: Path, source: str, sentence: str) -> None:
    write_library(source)
    code, output = start("--preload", "library", "--preload-timeout-s", "1" if "sleep(60)" in source else "30")
    assert (code, sentence in output) == (3, True), output
    if "takes longer" in sentence:
        assert 'library.py", line 2' in output  # the stack


def test_a_zygote_beyond_the_memory_limit_is_refused(app: Path) -> None:
    write_library("import os\nballast = os.urandom(1 << 20) * 100\n")
    code, output = start("--preload", "library", "--max-worker-rss", "120MiB")
    assert code == 3
    assert re.search(r"the preloaded modules take \d+ MiB, and --max-worker-rss 120 MiB would replace", output), output
