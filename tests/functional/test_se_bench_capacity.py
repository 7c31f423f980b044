"""`se-bench capacity` against a real server whose capacity is known."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.functional.processes import write_agent
from tests.helpers import TEST_API_KEY, running_server

COMMAND = (sys.executable, "-m", "se_server.cli.bench", "capacity")
OPTIONS = ("--step-s", "0.4", "--think-s", "0.05", "--api-key", TEST_API_KEY)


def capacity(url: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, url, *OPTIONS, *options], capture_output=True, text=True, timeout=60, check=False)


def test_the_limit_of_a_server_is_found(tmp_path: Path) -> None:
    with running_server("--max-sessions", "12", app=write_agent(tmp_path / "app.py")) as server:
        done = capacity(server.url, "--first", "3", "--first-text", "5", "--json")
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        assert (found["capacity"], found["max_sessions"]) == (12, 10)
        assert {trial["conversations"] for trial in found["trials"]} >= {3, 6, 12}
        shown = capacity(server.url, "--first", "12", "--most", "12", "--first-text", "5")
    assert "--max-sessions 10 " in shown.stdout
    assert "--capacity 10," in shown.stdout
    assert "--set maxSessions=10 " in shown.stdout


def test_an_agent_that_is_too_slow_has_no_capacity(tmp_path: Path) -> None:
    source = """
        import asyncio
        async def on_transcript(transcript, session):
            await asyncio.sleep(0.2)
            await session.send_response("late")
    """
    with running_server(app=write_agent(tmp_path / "app.py", source)) as server:
        done = capacity(server.url, "--first", "2", "--first-text", "0.05")
    assert done.returncode == 1
    assert "Not even one conversation" in done.stdout


def test_a_server_that_is_not_there_is_one_sentence() -> None:
    done = capacity("ws://127.0.0.1:9/ws")
    assert done.returncode == 2
    assert done.stderr.startswith("se-bench capacity: no conversation could begin: ")
