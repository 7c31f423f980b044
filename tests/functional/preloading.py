"""Shared by the tests of preloading: an agent with a library, and the zygote of a server."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

from tests.functional.processes import call
from tests.helpers import POLL_S, START_TIMEOUT_S, ServerProcess, environment

# Answers with its version, the process that imported the library, the one that imported the agent, and its own.
AGENT = """
    import os, sys
    import random as randomness
    VERSION = "one"
    IMPORTED_BY = os.getpid()
    async def on_transcript(transcript, session):
        said = transcript[-1].content
        if said == "die":
            os._exit(9)
        library = sys.modules.get("library")
        answer = f"{VERSION} {library and library.IMPORTED_BY} {IMPORTED_BY} {os.getpid()}"
        if said == "draw":
            import ssl
            answer = f"{randomness.random()} {library.own.random()} {library.seeded.random()} {ssl.RAND_bytes(8).hex()}"
        elif said == "parent":
            answer = f"{os.getppid()} {os.getcwd()}"
        await session.send_response(answer)
"""
LIBRARY = "import os, random\nIMPORTED_BY = os.getpid()\nown = random.Random()\nseeded = random.Random(7)\n"


def write_library(source: str) -> None:
    """Write the library in the working directory."""
    Path("library.py").write_text(textwrap.dedent(source))
    for compiled in Path.cwd().glob("__pycache__/library*.pyc"):
        compiled.unlink()


def zygote_of(server: ServerProcess, generation: int = 1, after: int = 0) -> int:
    """Wait for the zygote of a generation that follows the one with the pid `after`, and return its pid."""
    pattern = rf"zygote (\d+) is ready .* generation {generation} forks from it"
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        server.wait_for_output(pattern)
        pid = int(re.findall(pattern, server.output())[-1])
        if pid != after:
            return pid
        assert time.monotonic() < deadline, "no other zygote"
        time.sleep(POLL_S)


async def who(server: ServerProcess, said: str = "who are you?") -> list[str]:
    """Return the words of the answer in a conversation of its own."""
    async with call(server) as caller:
        return (await caller.hear(said)).split()


async def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(POLL_S)


def check(*args: str, app: str = "agent.py") -> tuple[int, str]:
    """Return exit code and output of `--check`."""
    command = [sys.executable, "-m", "se_server.cli.server", app, "--port", "0", *args, "--check"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment("sk_key"), timeout=30, check=False)
    return done.returncode, done.stdout + done.stderr


def status(path: str, *args: str) -> str:
    """Return the output of `se-ctl status`."""
    command = [sys.executable, "-m", "se_server.cli.ctl", "--socket", path, "status", *args]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


async def kill_worker(server: ServerProcess) -> None:
    """Have a worker end abruptly."""
    async with call(server) as caller:
        await caller.say("die")
        await caller.until_cut()


def start(*args: str, app: str = "agent.py", run: bool = False) -> tuple[int, str]:
    """Return exit code and output of a start that fails."""
    named = ["run", app] if run else [app]
    command = [sys.executable, "-m", "se_server.cli.server", *named, "--host", "127.0.0.1", "--port", "0", *args]
    done = subprocess.run(command, capture_output=True, text=True, env=environment("sk_key"), timeout=30, check=False)
    return done.returncode, done.stderr
