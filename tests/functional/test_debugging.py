"""A developer at the prompt of a debugger is not taken for a worker that hangs."""

from __future__ import annotations

import asyncio
import os
import pty
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.functional.processes import call, needs_proc, write_agent
from tests.helpers import READY_LINE, START_TIMEOUT_S, TEST_API_KEY, ServerProcess, environment

HANG_TIMEOUT_S = 1.0
THOUGHT_S = 2.5 * HANG_TIMEOUT_S
AGENT = """
    import bdb, code, os, pdb, sys, time
    VERSION = "one"

    class Debugger(bdb.Bdb):
        def user_line(self, frame):
            if frame.f_code.co_name == "think":
                ask()
                self.set_continue()

    def ask():
        print("(Prompt)", flush=True)
        sys.stdin.readline()

    def trace(frame, event, arg):
        if event == "line":
            sys.settrace(None)
            ask()
        return trace

    def think():
        return 1

    def on_transcript(transcript, session):
        said = transcript[-1].content
        if said == "breakpoint":
            breakpoint()
        elif said == "pdb":
            pdb.set_trace()
        elif said == "post mortem":
            try:
                raise ValueError
            except ValueError as error:
                pdb.post_mortem(error.__traceback__)
        elif said == "bdb":
            Debugger().runcall(think)
        elif said == "trace":
            sys.settrace(trace)
            think()
            sys.settrace(None)
        elif said == "hang":
            time.sleep(60)
        return session.send_response(f"{VERSION} {os.getppid()} {os.getpid()}")
"""


@contextmanager
def debugged_server(app: Path, *args: str) -> Iterator[tuple[ServerProcess, int]]:
    """Run a server with a terminal on stdin, and return the terminal."""
    terminal, stdin = pty.openpty()
    command = [sys.executable, "-m", "se_server.cli.server", str(app), "--host", "127.0.0.1", "--port", "0"]
    command += ["--hang-timeout-s", str(HANG_TIMEOUT_S), *args]
    server = ServerProcess(command, environment(), TEST_API_KEY, stdin=stdin)
    try:
        ready = server.wait_for_output(READY_LINE, START_TIMEOUT_S)
        server.url, server.port = ready[1], int(ready[2])
        yield server, terminal
    finally:
        server.stop()
        os.close(terminal)
        os.close(stdin)


@pytest.fixture
def app(tmp_path: Path) -> Path:
    return write_agent(tmp_path / "agent.py", AGENT)


@needs_proc
@pytest.mark.parametrize("how", ["breakpoint", "pdb", "post mortem", "bdb", "trace"])
async def test_the_watchdog_waits_for_a_debugger(app: Path, how: str) -> None:
    with debugged_server(app, "--workers", "1") as (server, terminal):
        async with call(server) as caller:
            _, worker = await caller.ask()
            await caller.say(how)
            await asyncio.to_thread(server.wait_for_output, r"\((Pdb|Prompt)\)")
            await asyncio.sleep(THOUGHT_S)  # the developer thinks
            os.write(terminal, b"c\n")
            assert (await caller.answer()).split()[-1] == str(worker)
        assert "hangs" not in server.output()


@needs_proc
@pytest.mark.parametrize(("workers", "order"), [("1", "hang"), ("2", "pdb")])
async def test_other_workers_that_hang_are_killed(app: Path, workers: str, order: str) -> None:
    with debugged_server(app, "--workers", workers) as (server, _):
        async with call(server) as caller:
            await caller.say(order)
            await caller.until_cut()
        server.wait_for_output("hangs, its event loop stood still")
