"""The end of a worker: exit hooks run, and child processes do not outlive it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from se_server.server.shared.procfs import children_of
from tests.functional.processes import call, needs_proc, write_agent
from tests.helpers import ANSWER_TIMEOUT_S, POLL_S, ServerProcess, free_port, running_server, wait_for_end

AGENT = """
    import atexit, multiprocessing, os, queue, subprocess, sys, threading, time, weakref
    from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
    VERSION = "one"
    KEPT = []

    def note(text):
        with open(os.path.join(os.path.dirname(__file__), "notes"), "a") as file:
            file.write(f"{text} {os.getpid()}\\n")

    def linger():
        time.sleep(1.5)
        note("lingered")

    def never_end():
        threading.Event().wait()

    def fail():
        raise ValueError("a hook that fails")

    class Exporter:
        def __init__(self):
            self.spans = queue.Queue()
            threading.Thread(target=self.export, daemon=True).start()
            atexit.register(self.spans.join)

        def export(self):
            while True:
                note(self.spans.get())
                self.spans.task_done()

    def manager():
        KEPT.append(multiprocessing.get_context("spawn").Manager())
        return KEPT[-1]._process.pid

    def pool():
        KEPT.append(multiprocessing.get_context("spawn").Pool(1))
        return KEPT[-1].apply(os.getpid)

    def process(method="fork"):
        child = multiprocessing.get_context(method).Process(target=time.sleep, args=(60,))
        child.start()
        KEPT.append(child)
        return child.pid

    def stubborn_process():
        child = multiprocessing.get_context("fork").Process(target=ignore_term)
        child.start()
        KEPT.append(child)
        return child.pid

    def ignore_term():
        import signal
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(60)

    def executor(method):
        pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(method))
        KEPT.append(pool)
        return pool.submit(os.getpid).result()

    def busy_executor():
        pid = executor("fork")
        KEPT[-1].submit(time.sleep, 60)
        return pid

    def sleep():
        silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}  # the log ends with the server
        KEPT.append(subprocess.Popen(["sleep", "61"], start_new_session=True, **silent))
        return KEPT[-1].pid

    def thread():
        threading.Thread(target=never_end, name="the endless thread").start()

    def write_later():
        KEPT.append(ThreadPoolExecutor(1))
        KEPT[-1].submit(lambda: (time.sleep(0.5), note("written")))

    ORDERS = {
        "hook": lambda: atexit.register(note, "hook"),
        "finalizer": lambda: weakref.finalize(fail, note, "finalizer"),
        "thread executor": write_later,
        "exporter": lambda: Exporter().spans.put("span"),
        "failing hook": lambda: (atexit.register(note, "hook"), atexit.register(fail)),
        "lingering hook": lambda: atexit.register(linger),
        "endless hook": lambda: atexit.register(never_end),
        "endless thread": thread,
        "process": process,
        "stubborn process": stubborn_process,
        "executor by fork": lambda: executor("fork"),
        "executor by spawn": lambda: executor("spawn"),
        "executor by forkserver": lambda: executor("forkserver"),
        "process by spawn": lambda: process("spawn"),
        "process by forkserver": lambda: process("forkserver"),
        "manager": manager,
        "pool by spawn": pool,
        "busy executor": busy_executor,
        "sleep": sleep,
    }

    async def on_transcript(transcript, session):
        said = transcript[-1].content
        if said in ORDERS:
            pid = ORDERS[said]()
            await session.send_response(f"child {pid}")
        else:
            await session.send_response(f"{VERSION} {os.getppid()} {os.getpid()}")
"""
NOTES = {
    "hook": "hook",
    "finalizer": "finalizer",
    "thread executor": "written",
    "exporter": "span",
    "failing hook": "hook",
    "lingering hook": "lingered",
}


@pytest.fixture
def app(tmp_path: Path) -> Path:
    return write_agent(tmp_path / "agent.py", AGENT)


def notes(app: Path) -> list[str]:
    file = app.parent / "notes"
    return file.read_text().splitlines() if file.exists() else []


def wait_for_note(app: Path, note: str) -> None:
    deadline = time.monotonic() + ANSWER_TIMEOUT_S
    while note not in notes(app):
        assert time.monotonic() < deadline, notes(app)
        time.sleep(POLL_S)


async def order(server: ServerProcess, *orders: str) -> tuple[int, str]:
    """Give orders to one worker; return its pid and the last answer's last word."""
    async with call(server) as caller:
        _, worker = await caller.ask()
        said = ""
        for text in orders:
            said = (await caller.hear(text)).split()[-1]
        return worker, said


@pytest.mark.parametrize("hook", NOTES)
async def test_a_stop_runs_the_exit_hooks(app: Path, hook: str) -> None:
    with running_server(app=app, workers=1) as server:
        worker, _ = await order(server, hook)
        assert server.stop() == 0
        assert notes(app) == [f"{NOTES[hook]} {worker}"]


async def test_a_reload_runs_the_exit_hooks(app: Path) -> None:
    with running_server(app=app, workers=1) as server:
        worker, _ = await order(server, "hook")
        server.send_signal(signal.SIGHUP)
        wait_for_note(app, f"hook {worker}")


async def test_recycling_runs_the_exit_hooks(app: Path) -> None:
    with running_server("--max-worker-sessions", "1", app=app, workers=1) as server:
        worker, _ = await order(server, "hook")
        wait_for_note(app, f"hook {worker}")


async def test_hooks_do_not_count_as_hanging(app: Path) -> None:
    with running_server("--hang-timeout-s", "1", app=app, workers=1) as server:
        worker, _ = await order(server, "lingering hook")
        assert server.stop() == 0
        assert notes(app) == [f"lingered {worker}"]
        assert "hangs" not in server.output()


async def test_no_time_runs_no_hooks(app: Path) -> None:
    with running_server("--exit-timeout-s", "0", app=app, workers=1) as server:
        await order(server, "hook", "endless hook")
        assert server.stop() == 0
        assert notes(app) == []


@pytest.mark.parametrize(
    ("hook", "named"),
    [
        ("endless hook", r"exit hook \S+agent\.py:\d+ in never_end has not ended"),
        ("endless thread", "the endless thread"),
    ],
)
async def test_a_hook_that_hangs_is_named(app: Path, hook: str, named: str) -> None:
    with running_server("--exit-timeout-s", "0.5", app=app, workers=1) as server:
        await order(server, hook)
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 5
        server.wait_for_output(named)


@needs_proc
@pytest.mark.parametrize(
    "child", ["process", "stubborn process", "executor by fork", "executor by spawn", "busy executor"]
)
async def test_children_end_with_their_worker(app: Path, child: str) -> None:
    with running_server("--exit-timeout-s", "0.5", app=app, workers=1) as server:
        _, pid = await order(server, child)
        assert server.stop() == 0
        wait_for_end([int(pid)])


@needs_proc
@pytest.mark.parametrize("child", ["executor by spawn", "executor by forkserver"])
async def test_an_executor_in_order_is_not_reported(app: Path, child: str) -> None:
    """Neither are the helpers that it has started: multiprocessing's fork server and resource tracker."""
    with running_server(app=app, workers=1) as server:
        worker, _ = await order(server, child)
        helpers = [pid for pid, _ in children_of(worker)]
        assert server.stop() == 0
        wait_for_end(helpers)
        assert "outlive" not in server.output()


@needs_proc
async def test_other_processes_are_reported(app: Path) -> None:
    with running_server(app=app, workers=1) as server:
        _, pid = await order(server, "sleep")
        try:
            assert server.stop() == 0
            server.wait_for_output(rf"outlive the worker that has started them: {pid} \(sleep 61\)")
        finally:
            os.kill(int(pid), signal.SIGKILL)


@needs_proc
async def test_a_pool_of_the_import_ends(tmp_path: Path) -> None:
    app = write_agent(tmp_path / "agent.py", AGENT + "\n    note(executor('fork'))\n")
    port = str(free_port())
    with running_server("--port", port, app=app, workers=1) as server:
        pool = int(notes(app)[0].split()[0])
        assert server.stop() == 0
        wait_for_end([pool])
    with running_server("--port", port, app=app, workers=1) as again:
        await order(again, "hook")


@needs_proc
def test_a_failed_start_leaves_no_pool(tmp_path: Path) -> None:
    app = write_agent(tmp_path / "agent.py", AGENT + "\n    note(executor('fork'))\n    raise ValueError\n")
    with pytest.raises(AssertionError, match="it ended"), running_server(app=app, workers=1):
        pass
    wait_for_end([int(notes(app)[0].split()[0])])


SPAWNED = ["executor by spawn", "executor by forkserver", "process by spawn", "process by forkserver", "manager"]


@needs_proc
@pytest.mark.parametrize("child", ["process", "executor by fork", "busy executor", "pool by spawn", *SPAWNED])
async def test_children_end_with_a_killed_worker(app: Path, child: str) -> None:
    with running_server(app=app, workers=1) as server:
        worker, pid = await order(server, child)
        os.kill(worker, signal.SIGKILL)
        wait_for_end([int(pid)])
        if child.startswith("process by "):
            server.wait_for_output(rf"process {pid} \(.*\) has outlived its worker: ended")


@needs_proc
async def test_a_killed_workers_other_processes_are_reported(app: Path) -> None:
    """Once, and they go on: they were detached on purpose."""
    with running_server(app=app, workers=1) as server:
        worker, pid = await order(server, "sleep")
        try:
            os.kill(worker, signal.SIGKILL)
            server.wait_for_output(rf"outlive a worker that has ended abruptly: {pid} \(sleep 61\)")
            second, _ = await order(server, "hook")
            os.kill(second, signal.SIGKILL)
            server.wait_for_output(r"(?s)another one takes its place.*another one takes its place")
            assert server.stop() == 0
            assert server.output().count("(sleep 61)") == 1
            os.kill(int(pid), 0)
        finally:
            os.kill(int(pid), signal.SIGKILL)
