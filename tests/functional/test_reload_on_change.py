"""`se-server --reload` serves an agent while it is being edited."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers import (
    READY_LINE,
    START_TIMEOUT_S,
    TEST_API_KEY,
    ServerProcess,
    connect,
    environment,
    read_answer,
    running_server,
    spoken,
    transcript_message,
    wait_for_text,
)

WATCHING = "watching .* for changes"


def agent(word: str) -> str:
    return f"async def on_transcript(transcript, session):\n    await session.send_response({word!r})\n"


async def ask(server: ServerProcess) -> str:
    async with connect(server.url) as websocket:
        await websocket.send(transcript_message("hello"))
        return spoken(await asyncio.wait_for(read_answer(websocket), 10))


async def is_answered(server: ServerProcess, word: str) -> bool:
    """Begin conversations until the answer arrives: an old worker may take some before its order to drain."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while (said := await ask(server)) != word and time.monotonic() < deadline:
        pass
    return said == word


async def test_a_changed_file_is_served_unless_broken(tmp_path: Path) -> None:
    """The port stays the same."""
    app, part = tmp_path / "agent.py", tmp_path / "words.py"
    part.write_text("WORD = 'one'\n")
    app.write_text("import words\n" + agent("-").replace("'-'", "words.WORD"))
    with running_server("--reload", app=app, workers=1) as server:
        server.wait_for_output(WATCHING)
        assert await is_answered(server, "one")
        part.write_text("WORD = 'two'\n")
        server.wait_for_output("reload: generation 2 serves")
        assert await is_answered(server, "two")
        part.write_text("WORD = = 'three'\n")
        server.wait_for_output("the reload has failed, the old workers serve on")
        server.wait_for_output("SyntaxError")
        assert await is_answered(server, "two")
        part.write_text("WORD = 'four'\n")
        server.wait_for_output(r"reload: generation \d serves(?s:.*)reload: generation \d serves")
        assert await is_answered(server, "four")
        assert server.stop() == 0


async def test_the_watcher_reopens_a_moved_log_file(tmp_path: Path) -> None:
    folder, log = tmp_path / "app", tmp_path / "agent.log"
    folder.mkdir()
    app = folder / "agent.py"
    app.write_text(agent("one"))
    with running_server("--reload", "--log-file", str(log), app=app, workers=1) as server:
        wait_for_text(log, WATCHING)
        log.rename(tmp_path / "agent.log.1")
        server.send_signal(signal.SIGUSR1)
        wait_for_text(log, "all processes write to the new log file")
        app.write_text(agent("two"))
        wait_for_text(log, r"reload: generation \d serves")
        assert await is_answered(server, "two")
        app.write_text(agent("three"))
        wait_for_text(log, r"se_server\.watch: changed: ")


async def test_a_quick_change_of_equal_size_is_served(tmp_path: Path) -> None:
    """Compiled files are compared by whole seconds and size."""
    app, part = tmp_path / "agent.py", tmp_path / "words.py"
    part.write_text("WORD = 'one'\n")
    written_ns = part.stat().st_mtime_ns
    app.write_text("import words\n" + agent("-").replace("'-'", "words.WORD"))
    with running_server("--reload", app=app, workers=1) as server:
        server.wait_for_output(WATCHING)
        assert await is_answered(server, "one")
        part.write_text("WORD = 'two'\n")
        os.utime(part, ns=(written_ns, written_ns))
        server.wait_for_output("reload: generation [23] serves")
        assert await is_answered(server, "two")


async def test_a_broken_agent_is_served_once_mended(tmp_path: Path) -> None:
    app = tmp_path / "agent.py"
    app.write_text("import nowhere_to_be_found\n")
    command = [sys.executable, "-m", "se_server.cli.server", str(app), "--host", "127.0.0.1", "--port", "0", "--reload"]
    server = ServerProcess(command, environment(), TEST_API_KEY)
    try:
        server.wait_for_output("ModuleNotFoundError: No module named 'nowhere_to_be_found'", START_TIMEOUT_S)
        server.wait_for_output("nothing serves: waiting for a change")
        server.wait_for_output(WATCHING)
        assert server.is_running()
        app.write_text(agent("here I am"))
        server.url = server.wait_for_output(READY_LINE)[1]
        async with connect(server.url) as websocket:
            await websocket.send(transcript_message("hello"))
            assert spoken(await asyncio.wait_for(read_answer(websocket), 10)) == "here I am"
    finally:
        assert server.stop() == 0


def test_a_server_that_waits_can_be_stopped(tmp_path: Path) -> None:
    """It waits for a change of an agent that cannot be imported."""
    app = tmp_path / "agent.py"
    app.write_text("raise RuntimeError('not yet')\n")
    command = [sys.executable, "-m", "se_server.cli.server", str(app), "--port", "0", "--reload"]
    server = ServerProcess(command, environment(), TEST_API_KEY)
    try:
        server.wait_for_output("nothing serves: waiting for a change", START_TIMEOUT_S)
        server.send_signal(signal.SIGINT)
        assert server.wait() == 0
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("arguments", "prelude", "sentence"),
    [
        (["--reload"], "", "--reload watches the files of an APP: name one, as in se-server agent.py --reload"),
        (
            ["--reload", "agent.py"],
            "import importlib.util as u; f = u.find_spec;"
            " u.find_spec = lambda name, *rest: None if name == 'watchfiles' else f(name, *rest); ",
            "--reload needs the package watchfiles: pip install watchfiles",
        ),
    ],
)
def test_an_impossible_reload_is_one_sentence(arguments: list[str], prelude: str, sentence: str) -> None:
    program = f"{prelude}from se_server.cli.server import main; raise SystemExit(main({arguments!r}))"
    ended = subprocess.run(
        [sys.executable, "-c", program],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
        env=environment(),
    )
    assert (ended.returncode, ended.stderr) == (2, f"se-server: {sentence}\n")
