"""Mistakes of an APP in real processes: `--check` and the start refuse them in the same sentence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import connect, environment, running_server, transcript_message

COMMAND = [sys.executable, "-m", "se_server.cli.server"]
ANSWERS = "async def on_transcript(transcript, session): ...\n"


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (
            "async def on_transcript(transcript, session): yield 'hi'",
            "write `async def on_transcript(transcript, session)`",
        ),
        ("async def on_init(conversation_id, session): ...", "nothing that answers: define `async def on_transcript("),
        (ANSWERS + "def on_close(): ...", "on_close() cannot be called as on_close(session)"),
        (
            "async def on_transcript(session, transcript): ...",
            "on_transcript(session, transcript) names the session first, and is called as on_transcript(",
        ),
        (
            ANSWERS + "class Agent:\n    async def on_error(self, session, error): ...\non_error = Agent().on_error",
            "write `async def on_error(error, session)`",
        ),
        (ANSWERS + "async def on_startup(app): yield", "on_startup(app) cannot be called as on_startup()"),
        (
            "import se_server\ndef reply(transcript): ...\nagent = se_server.SpeechEngineServer(on_transcript=reply)",
            "reply(transcript) cannot be called as on_transcript(transcript, session)",
        ),
        # Exceptions of user code that no `except Exception` catches.
        ("class Odd(BaseException): ...\nraise Odd('one reason')", "importing agent.py raised Odd: one reason"),
        ("raise GeneratorExit", "importing agent.py raised GeneratorExit"),
        ("import asyncio\nraise asyncio.CancelledError", "importing agent.py raised CancelledError"),
        (
            "import asyncio, se_server\nasyncio.run(se_server.SpeechEngineServer(api_key='k').serve())",
            'put the call behind `if __name__ == "__main__":`',
        ),
        ("import os\nos._exit(0)", "exit code 0"),
    ],
)
def test_check_and_start_refuse_in_one_sentence(tmp_path: Path, source: str, sentence: str) -> None:
    (tmp_path / "agent.py").write_text(source + "\n")
    for arguments in (["--check"], ["--port", "0", "--host", "127.0.0.1", "--workers", "1"]):
        ended = subprocess.run(
            [*COMMAND, "agent.py", *arguments],
            check=False, capture_output=True, text=True, timeout=30, cwd=tmp_path, env=environment("sk_of_this_test"),
        )  # fmt: skip
        assert ended.returncode == 3, ended.stderr
        assert sentence in ended.stderr


@pytest.mark.parametrize(
    ("source", "doubt"),
    [
        ("async def on_interupt(turn, session): ...", "on_interrupt"),
        ("async def on_connect(session): ...", "on_disconnect"),
        ("def on_start(): ...", "on_startup"),
        ("async def on_closed(session): ...\nBY_NAME = {'close': on_closed}", None),  # somebody calls it
        ("def signal(f): return f\n@signal\ndef on_start(): ...", None),  # its decorator may register it
        ("def on_message(text): ...", None),
        ("on_connect = 5", None),
    ],
)
def test_a_name_near_a_handlers_is_a_warning(tmp_path: Path, source: str, doubt: str | None) -> None:
    """Not an error: it may be a function of the program's own."""
    name = source.partition("def ")[2].partition("(")[0]
    sentence = f"APP 'agent.py' has {name}, which nothing calls; did you mean {doubt}?"
    (tmp_path / "agent.py").write_text(ANSWERS + source + "\n")
    checked = subprocess.run(
        [*COMMAND, "agent.py", "--check"],
        check=False, capture_output=True, text=True, timeout=30, cwd=tmp_path, env=environment("sk_of_this_test"),
    )  # fmt: skip
    assert checked.returncode == 0
    assert (sentence in checked.stderr + checked.stdout) == (doubt is not None)
    if doubt == "on_interrupt":
        with running_server(app=tmp_path / "agent.py", workers=2) as server:
            server.stop()
            assert server.output().count("which nothing calls; did you mean on_interrupt?") == 1


def test_a_function_given_as_a_module_is_recognised(tmp_path: Path) -> None:
    (tmp_path / "agent.py").write_text(ANSWERS)
    checked = subprocess.run(
        [*COMMAND, "agent.on_transcript", "--check"],
        check=False, capture_output=True, text=True, timeout=30, cwd=tmp_path, env=environment("sk_of_this_test"),
    )  # fmt: skip
    assert checked.returncode == 3
    assert "did you mean agent:on_transcript?" in checked.stderr


def test_a_secret_that_is_not_valid_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "agent.py").write_text(ANSWERS)
    checked = subprocess.run(
        [*COMMAND, "agent.py", "--check"],
        check=False, capture_output=True, text=True, timeout=30, cwd=tmp_path, env=environment("sk_of this"),
    )  # fmt: skip
    assert checked.returncode == 2
    assert "ELEVENLABS_API_KEY: the value is not valid: expected a key without blanks" in checked.stderr
    assert "of this" not in checked.stderr


def test_an_on_startup_that_yields_runs_in_every_worker(tmp_path: Path) -> None:
    """The code before its `yield` is the worker's start, the code behind it the worker's stop."""
    app = tmp_path / "agent.py"
    app.write_text(
        "async def on_startup():\n"
        "    print('pool opened', flush=True)\n"
        "    yield\n"
        "    print('pool closed', flush=True)\n" + ANSWERS
    )
    with running_server(app=app, workers=2) as server:
        server.stop()
        output = server.output()
    assert output.count("pool opened") == 2
    assert output.count("pool closed") == 2


@pytest.mark.parametrize(
    "source",
    [
        "class on_startup:\n"
        "    async def __aenter__(self): print('pool opened', flush=True)\n"
        "    async def __aexit__(self, *error): print('pool closed', flush=True)\n",
        "@contextlib.contextmanager\n"
        "def pool():\n    print('pool opened', flush=True)\n    yield\n    print('pool closed', flush=True)\n"
        "def on_startup(): return pool()\n",
        "@contextlib.asynccontextmanager\n"
        "async def pool(size):\n    print('pool opened', flush=True)\n    yield\n    print('pool closed', flush=True)\n"
        "on_startup = functools.partial(pool, 3)\n",
    ],
    ids=["class", "function that returns a manager", "partial"],
)
def test_an_on_startup_that_is_a_manager_is_entered(tmp_path: Path, source: str) -> None:
    app = tmp_path / "agent.py"
    app.write_text("import contextlib, functools\n" + source + ANSWERS)
    with running_server(app=app, workers=1) as server:
        assert "pool opened" in server.output()
        server.stop()
        output = server.output()
    assert output.count("pool closed") == 1


def test_a_pool_that_on_startup_returns_stays_open(tmp_path: Path) -> None:
    app = tmp_path / "agent.py"
    app.write_text(
        "class Pool:\n"
        "    async def __aenter__(self): print('entered', flush=True)\n"
        "    async def __aexit__(self, *error): print('left', flush=True)\n"
        "async def on_startup(): return Pool()\n" + ANSWERS
    )
    with running_server(app=app, workers=1) as server:
        server.stop()
        output = server.output()
    assert "entered" not in output


def test_an_on_startup_raises_an_exception_of_its_own(tmp_path: Path) -> None:
    app = tmp_path / "agent.py"
    app.write_text("class Odd(BaseException): ...\ndef on_startup(): raise Odd('one reason')\n" + ANSWERS)
    ended = subprocess.run(
        [*COMMAND, str(app), "--port", "0", "--host", "127.0.0.1", "--workers", "1"],
        check=False, capture_output=True, text=True, timeout=30, env=environment("sk_of_this_test"),
    )  # fmt: skip
    assert ended.returncode == 3
    assert "on_startup raised Odd: one reason" in ended.stderr
    assert "a bug of se-server" not in ended.stderr


async def test_a_worker_reports_a_blocking_coroutine_by_name(tmp_path: Path) -> None:
    app, reported = tmp_path / "agent.py", tmp_path / "reported"
    app.write_text(
        f"import os, time; REPORTED = {str(reported)!r}\n"
        "async def on_transcript(transcript, session):\n"
        "    while not os.path.exists(REPORTED): time.sleep(0.1)\n"
        "    await session.send_response('late')\n"
    )
    with running_server(app=app, workers=1) as server:
        async with connect(server.url) as ws:
            await ws.send(transcript_message("hello"))
            server.wait_for_output(
                r"coroutine agent\.on_transcript blocks the event loop, for \d+\.\d s.*agent\.py:3 in on_tra"
            )
            reported.touch()
            assert "late" in await ws.recv()


@pytest.mark.parametrize(
    "line",
    [
        "ELEVENLABS_API_KEY=sk_of_a_file",
        "export ELEVENLABS_API_KEY='sk_of_a_file'",
        'ELEVENLABS_API_KEY = "sk_of_a_file" # the key\r',
        "ELEVENLABS_API_KEY=sk_wrong,sk_of_a_file",
    ],
)
async def test_load_dotenv_in_the_app_brings_the_key(tmp_path: Path, line: str) -> None:
    pytest.importorskip("dotenv")
    (tmp_path / ".env").write_bytes(f"{line}\n".encode())
    app = tmp_path / "agent.py"
    app.write_text(
        "from dotenv import load_dotenv\nload_dotenv()\n"
        "async def on_transcript(transcript, session): await session.send_response('hi')\n"
    )
    with running_server(app=app, workers=1, api_key=None) as server:
        async with connect(server.url, "sk_of_a_file") as ws:
            await ws.send(transcript_message("hello"))
            assert "hi" in await ws.recv()
