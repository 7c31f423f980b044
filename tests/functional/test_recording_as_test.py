"""A bad turn of a running server becomes a test: by `se-ctl record --as-test`, and by the page."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.functional.observing import BEARER, TOKEN, Admin
from tests.functional.observing import PAGE_LINE as PAGE
from tests.functional.processes import needs_proc, write_agent
from tests.functional.recording import Flight, recording_server
from tests.helpers import START_TIMEOUT_S, connect, init_message, read_answer, transcript_message

pytestmark = needs_proc

AGENT = """
    import asyncio
    ROOMS = {"single": 80}
    async def on_transcript(transcript, session):
        said = transcript[-1].content
        if said == "think":
            await asyncio.sleep(5)
        if said.startswith("a "):
            said = f"that is {ROOMS[said[2:]]} euros"
        await session.send_response(f"{session.path}: {said}")
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    return write_agent(tmp_path / "agent.py", AGENT)


async def _talk(flight: Flight, name: str) -> None:
    async with connect(flight.server.url + "?room=%22%5C") as websocket:
        await websocket.send(init_message(name))
        for number, words in enumerate(("hello", "a single", 'a \u202edouble\n"""', "think"), 1):
            await websocket.send(transcript_message(words, event_id=number))
            await asyncio.wait_for(read_answer(websocket), START_TIMEOUT_S)


def run_pytest(folder: Path, *tests: Path) -> str:
    """Run test files, and return what pytest printed."""
    options = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-p", "no:xdist", "-p", "no:asyncio")
    command = [sys.executable, "-m", "pytest", "-q", *options, *map(str, tests)]
    return subprocess.run(command, check=False, capture_output=True, text=True, cwd=folder, timeout=50).stdout


@pytest.mark.parametrize(("level", "name"), [("redacted", "conv_bad"), ("full", '7"""; import os # \\')])
def test_a_bad_turn_becomes_a_failing_test(tmp_path: Path, app: Path, level: str, name: str) -> None:
    options = ("--turn-timeout-s", "1", "--failure-text", "Sorry!")
    with recording_server(tmp_path, level, *options, app=app, workers=1) as flight:
        asyncio.run(_talk(flight, name))
        flight.wait_for(name, ended=True)
        printed = flight.ctl("record", name, "--as-test")
        assert printed.returncode == 0, printed.stderr
        placed = flight.ctl("record", name, "--as-test", "--to", str(tmp_path / "tests"))
    tests = (tmp_path / "test_printed.py", Path(placed.stdout.strip()))
    tests[0].write_text(printed.stdout)
    assert "2 passed" in run_pytest(tmp_path, *tests)
    bad = "assert replay.turns[2].outcome == 'failed'"
    for test in tests:
        assert bad in test.read_text()
        test.write_text(test.read_text().replace(bad, bad.replace("failed", "answered")))
    shown = run_pytest(tmp_path, *tests)
    assert "2 failed" in shown
    assert "KeyError" in shown
    app.write_text(app.read_text().replace("ROOMS[said[2:]]", "ROOMS.get(said[2:], 120)"))
    assert "2 passed" in run_pytest(tmp_path, *tests)


def test_the_test_passes_in_the_project_and_in_tests(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    (folder / "agents").mkdir(parents=True)
    (folder / "pyproject.toml").write_text("")
    (folder / "prices.py").write_text("ROOMS = {'single': 80}\n")
    app = write_agent(
        folder / "agents" / "agent.py", AGENT.replace('ROOMS = {"single": 80}', "from prices import ROOMS")
    )
    with recording_server(tmp_path, "full", app=app, workers=1, env={"PYTHONPATH": str(folder)}) as flight:
        asyncio.run(_talk(flight, "conv_where"))
        flight.wait_for("conv_where", ended=True)
        placed = flight.ctl("record", "conv_where", "--as-test", "--to", "tests/unit", cwd=folder)
        assert placed.returncode == 0, placed.stderr
        test = folder / placed.stdout.strip()
    assert "se_app('agents/agent.py')" in test.read_text()
    for start in (folder, test.parent):
        assert "1 passed" in run_pytest(start, test), start


def test_a_turn_before_a_reconnect_becomes_a_test(tmp_path: Path, app: Path) -> None:
    async def say(*words: str) -> None:
        async with connect(flight.server.url) as websocket:
            await websocket.send(init_message("conv_twice"))
            for number, said in enumerate(words, 1):
                await websocket.send(transcript_message(said, event_id=number))
                await asyncio.wait_for(read_answer(websocket), START_TIMEOUT_S)

    with recording_server(tmp_path, "redacted", "--failure-text", "Sorry!", app=app, workers=1) as flight:
        asyncio.run(say("a double"))
        asyncio.run(say("hello", "again"))
        newest = flight.ctl("record", "conv_twice", "--as-test")
        first = flight.ctl("record", "conv_twice", "--as-test", "--nth", "1", "--to", str(tmp_path / "tests"))
        neither = flight.ctl("record", "conv_twice", "--nth", "3")
        assert "outcome == 'failed'" not in newest.stdout
        assert "1: turns failed: " in newest.stderr
        assert "2 (taken): turns answered, answered: " in newest.stderr
        assert "1 (taken): turns failed: " in first.stderr
        assert neither.returncode == 1
        assert "--nth 3: the conversation has 2 recordings" in neither.stderr
        test = Path(first.stdout.strip())
        assert "outcome == 'failed'" in test.read_text()
        test.write_text(test.read_text() + "# edited\n")
        again = ("record", "conv_twice", "--as-test", "--nth", "1", "--to", str(tmp_path / "tests"))
        refused = flight.ctl(*again)
        assert refused.returncode == 1
        assert "exists and differs" in refused.stderr
        assert test.read_text().endswith("# edited\n")
        assert flight.ctl(*again, "--force").returncode == 0
        assert "# edited" not in test.read_text()


async def test_the_page_offers_downloads_and_tests(tmp_path: Path, app: Path) -> None:
    (tmp_path / "tokens").write_text(TOKEN)
    given = ("--admin", "127.0.0.1:0", "--admin-token-file", str(tmp_path / "tokens"))
    with recording_server(tmp_path, "redacted", *given, app=app, workers=1) as flight:
        admin = Admin(flight.server, int(flight.server.wait_for_output(PAGE, START_TIMEOUT_S)[1]))
        await _talk(flight, "conv_page")
        flight.wait_for("conv_page", ended=True)
        (row,) = json.loads(admin.get("/api/recordings", BEARER)[1])["rows"]
        (known,) = json.loads(admin.get("/api/conversations", BEARER)[1])["rows"]
        for place, path in enumerate((f"/api/recordings/{row['name']}", f"/api/conversations/{known['key']}")):
            address = path + ("/recording" if place else "")
            assert admin.get(address)[0] == admin.get(f"{path}/test")[0] == 401
            status, recording = admin.get(address, BEARER)
            assert status == 200
            folder = tmp_path / f"page{place}"
            folder.mkdir()
            write_agent(folder / "agent.py", AGENT)
            name = row["name"] if not place else f"conversation-{known['key']}.jsonl"
            (folder / name).write_text(recording)
            status, test = admin.get(f"{path}/test", BEARER)
            assert status == 200
            assert "pytest.mark.se_app('agent.py')" in test
            (folder / "test_page.py").write_text(test)
            assert "1 passed" in run_pytest(folder, folder / "test_page.py")
        assert admin.get("/api/recordings/nosuch.jsonl/test", BEARER)[0] == 404
        assert admin.get("/api/recordings/..%2Ftokens/test", BEARER)[0] == 404
