"""`--preload-app`: the zygote imports the agent, and calls its `warm_up()`."""

from __future__ import annotations

import re
import signal
import socket
import sys
from pathlib import Path

import pytest

from tests.functional.preloading import AGENT, LIBRARY, check, kill_worker, start, who, write_library, zygote_of
from tests.functional.processes import needs_proc, write_agent
from tests.helpers import TEST_API_KEY, ServerProcess, environment, running_server, wait_for_end

pytestmark = needs_proc

WARM = """
    import asyncio
    async def warm_up():
        await asyncio.sleep(0)
        print("warm in", os.getpid(), flush=True)
"""


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An agent that warms up, with a library beside it."""
    monkeypatch.chdir(tmp_path)
    write_library(LIBRARY)
    return write_agent(tmp_path / "agent.py", AGENT + WARM)


async def test_workers_have_the_agent_of_the_zygote(app: Path) -> None:
    """A worker that is replaced has it, too; a reload brings the code on disk."""
    with running_server("--preload-app", "--log-level", "debug", app=app) as server:
        zygote = zygote_of(server)
        assert re.findall(r"warm in (\d+)", server.output()) == [str(zygote)]
        workers = set(server.worker_pids()) - {zygote}
        assert (await who(server))[:3] == ["one", "None", str(zygote)]
        write_agent(app, AGENT + WARM, "two")
        await kill_worker(server)
        server.wait_for_output("another one takes its place")
        assert (await who(server))[:3] == ["one", "None", str(zygote)]
        workers |= set(server.worker_pids()) - {zygote}
        server.send_signal(signal.SIGHUP)
        server.wait_for_output("generation 2 serves")
        wait_for_end([zygote, *workers])
        assert (await who(server))[:3] == ["two", "None", str(zygote_of(server, 2))]


async def test_a_broken_agent_refuses_the_reload(app: Path) -> None:
    with running_server("--preload-app", app=app, workers=1) as server:
        zygote = zygote_of(server)
        write_agent(app, "1 / 0\n")
        server.send_signal(signal.SIGHUP)
        server.wait_for_output(
            "the reload has failed, the old workers serve on: APP .*: importing .* ZeroDivisionError"
        )
        await kill_worker(server)
        server.wait_for_output("another one takes its place")
        assert (await who(server))[:3] == ["one", "None", str(zygote)]


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("agent.py:on_transcript", AGENT + WARM),
        ("agent:agent", AGENT + WARM + "\n    agent = {'on_transcript': on_transcript}\n"),
        (
            "agent.py:agent",
            AGENT + "\n    agent = {'on_transcript': on_transcript, 'warm_up': lambda: print('warm in 0')}\n",
        ),
        (
            "agent.py:server",
            AGENT + WARM + "\n    from se_server import SpeechEngineServer\n"
            "    server = SpeechEngineServer(on_transcript=on_transcript)\n",
        ),
    ],
)
def test_warm_up_is_found_beside_the_handlers(app: Path, name: str, source: str) -> None:
    write_agent(app, source)
    code, output = check("--preload-app", app=name)
    assert (code, "warm in" in output) == (0, True), output


FAILING = {
    "raises": ("def warm_up():\n    1 / 0\n", 3, r"APP 'agent.py': warm_up\(\) raised ZeroDivisionError"),
    "no function": ("warm_up = 4\n", 3, "APP 'agent.py': warm_up must be a function, not int"),
    "argument": ("def warm_up(model):\n    pass\n", 3, "APP 'agent.py': warm_up"),
    "socket": (
        "import socket\ndef warm_up():\n    global held\n    held = socket.create_connection(('127.0.0.1', {port}))\n",
        3,
        r"APP 'agent.py': warm_up\(\) leaves a connection to 127.0.0.1:\d+, held by agent.held, which no forked"
        " worker can use: begin it in on_startup",
    ),
    "thread": (
        "import threading, time\nthreading.Thread(target=time.sleep, args=(30,), daemon=True, name='poll').start()\n",
        3,
        r"APP 'agent.py': importing it leaves the thread 'poll' \(started at .*agent.py:\d+\), which .* or leave out"
        " --preload-app",
    ),
    "exit": ("import sys\nsys.exit(5)\n", 3, "APP 'agent.py': importing agent.py raised SystemExit: 5"),
}


@pytest.mark.parametrize("what", FAILING)
def test_agents_that_cannot_be_preloaded_are_refused(app: Path, what: str) -> None:
    more, code, sentence = FAILING[what]
    with socket.create_server(("127.0.0.1", 0)) as peer:
        app.write_text(
            "async def on_transcript(transcript, session):\n    pass\n"
            + more.replace("{port}", str(peer.getsockname()[1]))
        )
        done = check("--preload-app")
    assert (
        done[0],
        re.search(sentence.replace("()", r"\(\)") if "\\" not in sentence else sentence, done[1]) is not None,
    ) == (code, True), done[1]


def test_a_hanging_warm_up_ends_the_start(app: Path) -> None:
    app.write_text(app.read_text() + "def warm_up():\n    import time\n    time.sleep(60)\n")
    code, output = start("--preload-app", "--preload-timeout-s", "2")
    assert code == 3
    assert "preloading takes longer than 2 s, and warm_up() of APP 'agent.py' has not ended" in output
    assert "in warm_up" in output


async def test_all_routes_are_preloaded(app: Path, tmp_path: Path) -> None:
    write_agent(tmp_path / "other.py", AGENT + WARM)
    (tmp_path / "se.toml").write_text(
        'preload_app = true\npreload = ["library"]\n'
        '[[routes]]\npath = "/one"\napp = "agent.py"\n[[routes]]\npath = "/two"\napp = "other.py"\n'
    )
    with running_server("--config", "se.toml", workers=1) as server:
        zygote = zygote_of(server)
        assert len(re.findall(rf"warm in {zygote}", server.output())) == 2
        for path in ("/one", "/two"):
            server.url = f"ws://127.0.0.1:{server.port}{path}"
            assert (await who(server))[1:3] == [str(zygote)] * 2


async def test_preloading_while_an_agent_is_edited(app: Path) -> None:
    """A start that fails waits for a change."""
    write_library("1 / 0\n")
    command = [
        sys.executable,
        "-m",
        "se_server.cli.server",
        "agent.py",
        "--host",
        "127.0.0.1",
        "--port",
        "0",
        "--reload",
    ]
    server = ServerProcess([*command, "--preload", "library"], environment(TEST_API_KEY), TEST_API_KEY)
    try:
        server.wait_for_output("nothing serves: waiting for a change")
        server.wait_for_output("watching .* for changes")
        write_library(LIBRARY)
        found = server.wait_for_output(r"se-server ready: (wss?://\S+:(\d+)/\S*)")
        server.url, server.port = found[1], int(found[2])
        assert (await who(server))[1] != "None"
    finally:
        server.stop()


PROGRAM = """
import asyncio, os
from se_server import SpeechEngineServer
async def on_transcript(transcript, session):
    import sys
    library = sys.modules.get("library")
    if transcript[-1].content == "die":
        os._exit(9)
    await session.send_response(f"{library and library.IMPORTED_BY} {os.getpid()}")
if __name__ == "__main__":
    asyncio.run(SpeechEngineServer(host="127.0.0.1", port=0, on_transcript=on_transcript).serve())
"""


@pytest.fixture
def script(app: Path) -> str:
    Path("script.py").write_text(PROGRAM)
    return "script.py"


async def test_programs_take_libraries_of_the_zygote(script: str) -> None:
    """The first worker, which says where to listen, starts without the zygote."""
    arguments = ("run", script, "--workers", "1", "--preload", "library")
    command = [sys.executable, "-m", "se_server.cli.server", *arguments]
    server = ServerProcess(command, environment(TEST_API_KEY), TEST_API_KEY)
    try:
        found = server.wait_for_output(r"se-server ready: (wss?://\S+:(\d+)/\S*)")
        server.url, server.port = found[1], int(found[2])
        zygote = zygote_of(server)
        assert (await who(server))[0] == "None"
        await kill_worker(server)
        server.wait_for_output("another one takes its place")
        assert (await who(server))[0] == str(zygote)
        server.send_signal(signal.SIGHUP)
        server.wait_for_output("generation 2 serves")
    finally:
        server.stop()


def test_programs_are_not_preloaded(script: str) -> None:
    code, output = start("--preload-app", app=script, run=True)
    assert code == 2
    assert "--preload-app is for an APP, and a program runs in each worker: give --preload MODULE,..." in output
