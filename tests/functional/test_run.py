"""`se-server run script.py`: programs written for the published SDK, unchanged, on several workers."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import pytest

from se_server.simulator.caller import Caller
from tests.fake_api import running_api
from tests.helpers import (
    START_TIMEOUT_S,
    TEST_API_KEY,
    ServerProcess,
    close_message,
    connect,
    environment,
    init_message,
    read_answer,
    running_server,
    transcript_message,
)

COMMON = """
import asyncio, os
import elevenlabs
from elevenlabs.speech_engine import SpeechEngineServer, SpeechEngineSession, USER_TRANSCRIPT

async def on_transcript(transcript, session):
    assert isinstance(session, SpeechEngineSession)
    await session.send_response(f"{os.getpid()} {type(session).__module__.partition('.')[0]} {transcript[-1].content}")
"""
PROGRAMS = {
    "callbacks": """
        from elevenlabs import AsyncElevenLabs
        async def main():
            client = AsyncElevenLabs(base_url=os.environ["API_URL"])
            engine = await client.speech_engine.get(os.environ["ENGINE_ID"])
            await engine.serve(port=0, path="/ws", on_transcript=on_transcript)
        asyncio.run(main())
    """,
    "sync client": """
        if __name__ == "__main__":
            client = elevenlabs.ElevenLabs(base_url=os.environ["API_URL"])
            engine = client.speech_engine.get(os.environ["ENGINE_ID"])
            asyncio.run(engine.serve(port=0, path="/ws", on_transcript=on_transcript))
    """,
    "class": """
        from elevenlabs.speech_engine.server import SpeechEngineServer as Base
        class Agent(Base):
            def handle_connection(self, ws):
                session = super().handle_connection(ws)
                session.on(USER_TRANSCRIPT, self.answer)
                self.session = session
                return session
            async def answer(self, transcript):
                await on_transcript(transcript, self.session)
        asyncio.run(Agent(port=0, path="/ws").serve())
    """,
    "on in on_init": """
        from elevenlabs.speech_engine.types import ConversationMessage
        async def on_init(conversation_id, session):
            async def answer(transcript):
                assert isinstance(transcript[0], ConversationMessage)
                await on_transcript(transcript, session)
            session.once("user_transcript", lambda transcript: None)
            session.on("user_transcript", answer)
        asyncio.run(SpeechEngineServer(port=0, path="/ws", on_init=on_init).serve())
    """,
    "own event loop": """
        import signal
        server = SpeechEngineServer(port=0, path="/ws", on_transcript=on_transcript)
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        loop.add_signal_handler(signal.SIGUSR1, lambda: None)
        try:
            loop.run_until_complete(server.serve())
        finally:
            loop.close()
    """,
    "task and stop": """
        async def main():
            server = SpeechEngineServer(port=0, path="/ws", on_transcript=on_transcript)
            serving = asyncio.create_task(server.serve())
            await server.wait_ready()
            assert server.port
            try:
                await asyncio.Event().wait() if False else await serving
            finally:
                await server.stop()
        asyncio.run(main())
    """,
    "uvloop": """
        import uvloop
        uvloop.run(SpeechEngineServer(port=0, path="/ws", on_transcript=on_transcript).serve())
    """,
    "anyio and gather": """
        import anyio
        async def ticks():
            while True:
                await asyncio.sleep(0.05)
        async def main():
            server = SpeechEngineServer(port=0, path="/ws", on_transcript=on_transcript)
            ticking = asyncio.ensure_future(ticks())
            await asyncio.gather(server.serve())
            ticking.cancel()
        anyio.run(main)
    """,
    "arguments": """
        import argparse
        parser = argparse.ArgumentParser()
        parser.add_argument("--path", required=True)
        given = parser.parse_args()
        asyncio.run(SpeechEngineServer(port=0, path=given.path, on_transcript=on_transcript).serve())
    """,
}


# A program without a client, which imports the published names as they are without its package, too.
WITHOUT = """
from elevenlabs.speech_engine import SpeechEngineServer
async def echo(transcript, session):
    await session.send_response(transcript[-1].content)
asyncio.run(SpeechEngineServer({options}, on_transcript=echo).serve())
"""


def write(folder: Path, body: str) -> Path:
    script = folder / "script.py"
    script.write_text(COMMON + textwrap.dedent(body), encoding="utf-8")
    return script


@contextmanager
def running(script: Path, *options: str, workers: int = 2, **env: str) -> Iterator[ServerProcess]:
    with running_server("run", str(script), *options, "--", "--path", "/ws", workers=workers, env=env) as server:
        yield server


async def answers(server: ServerProcess, conversations: int = 1) -> list[str]:
    said = []
    for _ in range(conversations):
        async with Caller.connect(f"ws://127.0.0.1:{server.port}/ws", api_key=TEST_API_KEY) as caller:
            said.append((await caller.say("Hello?")).text)
    return said


@pytest.mark.parametrize("program", PROGRAMS)
async def test_programs_run_unchanged_in_a_worker(program: str, tmp_path: Path) -> None:
    pytest.importorskip("elevenlabs")
    with running_api(TEST_API_KEY) as api:
        env = {"API_URL": api.url, "ENGINE_ID": api.add_engine()}
        with running(write(tmp_path, PROGRAMS[program]), workers=1, **env) as server:
            pid, package, said = (await answers(server))[0].split(maxsplit=2)
            assert int(pid) != server.pid
            assert (package, said) == ("se_server", "Hello?")
            assert server.stop() == 0


async def test_every_worker_runs_the_program(tmp_path: Path) -> None:
    with running(write(tmp_path, PROGRAMS["own event loop"]), workers=2) as server:
        async with AsyncExitStack() as stack:
            url = f"ws://127.0.0.1:{server.port}/ws"
            callers = [await stack.enter_async_context(Caller.connect(url, api_key=TEST_API_KEY)) for _ in range(4)]
            pids = {int((await caller.say("Hello?")).text.split()[0]) for caller in callers}
        assert pids == set(server.worker_pids())


@pytest.mark.parametrize("program", ["callbacks", "class", "on in on_init", "own event loop"])
async def test_the_published_package_says_the_same(program: str, tmp_path: Path) -> None:
    pytest.importorskip("elevenlabs")
    script = write(tmp_path, PROGRAMS[program].replace("port=0", "port=int(os.environ['PORT'])"))
    with running_api(TEST_API_KEY) as api:
        env = {"API_URL": api.url, "ENGINE_ID": api.add_engine(), "PORT": str(free_port())}
        frames = []
        for words in ([], ["-m", "se_server", "run"]):
            command = [sys.executable, *words, str(script)]
            with subprocess.Popen(command, env=environment(**env)) as process:  # noqa: ASYNC220
                try:
                    await accepts(int(env["PORT"]))
                    frames.append(await frames_of(f"ws://127.0.0.1:{env['PORT']}/ws"))
                finally:
                    process.kill() if not words else process.terminate()
    assert [text.split()[1:] for text, _, is_final in frames[0] if not is_final] == [["elevenlabs", "Hello?"]] * 2
    plain = [[(re.sub(r"\d+ \w+", "", text), *rest) for text, *rest in listed] for listed in frames]
    assert plain[0] == plain[1]


async def frames_of(url: str) -> list[tuple[str, int | None, bool]]:
    """Return the answers' frames of a conversation of two turns: text, event id, whether it is final."""
    async with connect(url) as websocket:
        await websocket.send(init_message())
        found = []
        for event_id in (1, 2):
            await websocket.send(transcript_message("Hello?", event_id=event_id))
            found += await read_answer(websocket)
        await websocket.send(close_message())
    return [(message["content"], message.get("event_id"), message["is_final"]) for message in found]


async def test_the_program_says_where_to_listen(tmp_path: Path) -> None:
    port = free_port()
    script = write(tmp_path, WITHOUT.format(options=f"port={port}, host='127.0.0.1', path='/ws', api_key='sk_own'"))
    command = [sys.executable, "-m", "se_server", "run", str(script), "--workers", "1"]
    with subprocess.Popen(command, env=environment(None)) as process:  # noqa: ASYNC220
        try:
            await accepts(port)
            async with Caller.connect(f"ws://127.0.0.1:{port}/ws", api_key="sk_own") as caller:
                assert (await caller.say("Hello?")).text == "Hello?"
        finally:
            process.terminate()
        assert process.wait(30) == 0


async def test_several_servers_are_routes(tmp_path: Path) -> None:
    ports = [free_port(), free_port()]
    servers = [f"server({port}, '/{name}').serve()" for port, name in zip(ports, ("one", "two"), strict=True)]
    script = write(
        tmp_path,
        f"""
        def server(port, path):
            async def answer(transcript, session):
                await session.send_response(path + " " + session.path)
            return SpeechEngineServer(port=port, host="127.0.0.1", path=path, api_key="sk" + path, on_transcript=answer)
        async def main():
            await asyncio.gather({", ".join(servers)})
        asyncio.run(main())
        """,
    )
    command = [sys.executable, "-m", "se_server", "run", str(script), "--workers", "1"]
    with subprocess.Popen(command, env=environment(None)) as process:  # noqa: ASYNC220
        try:
            for port, name in zip(ports, ("one", "two"), strict=True):
                await accepts(port)
                async with Caller.connect(f"ws://127.0.0.1:{port}/{name}", api_key=f"sk/{name}") as caller:
                    assert (await caller.say("Hello?")).text == f"/{name} /{name}"
        finally:
            process.terminate()
        assert process.wait(30) == 0


async def test_code_after_serve_runs_when_the_server_stops(tmp_path: Path) -> None:
    script = write(tmp_path, WITHOUT.format(options="path='/ws'") + "print('closed the pool', flush=True)\n")
    with running(script) as server:
        async with Caller.connect(f"ws://127.0.0.1:{server.port}/ws", api_key=TEST_API_KEY) as caller:
            os.kill(server.pid, signal.SIGTERM)
            server.wait_for_output("SIGTERM: taking no new conversations")
            assert (await caller.say("Still here?")).text == "Still here?"
        assert server.wait() == 0
    assert server.output().count("closed the pool") == 2


async def test_a_reload_runs_the_program_on_disk(tmp_path: Path) -> None:
    script = write(tmp_path, WITHOUT.format(options="path='/ws'"))
    with running(script, workers=1) as server:
        text = script.read_text().replace("transcript[-1].content)", "'new')")
        script.write_text(text)
        os.kill(server.pid, signal.SIGHUP)
        server.wait_for_output("generation 2 serves")
        deadline = asyncio.get_running_loop().time() + START_TIMEOUT_S
        while await answers(server) != ["new"]:  # the old worker may have taken it before its order to drain
            assert asyncio.get_running_loop().time() < deadline
        assert "has changed" not in server.output()


@pytest.mark.parametrize(
    ("body", "sentence", "code"),
    [
        ("print('done')", "script.py has ended without serve()", 3),
        ("raise OSError('no pool')", "script.py, before serve(), raised OSError: no pool", 3),
        ("raise SystemExit(4)", "script.py, before serve(), raised SystemExit: 4", 3),
        ("def broken(:", "SyntaxError", 3),
        ("import uvicorn\nuvicorn.run('app:app')", "run it with uvicorn", 3),
        (
            "s = SpeechEngineServer\nasync def main():\n    await asyncio.gather(s(on_transcript=print).serve(),"
            " s(on_transcript=print).serve())\nasyncio.run(main())",
            "has 2 servers, of which several take all paths: give each a path of its own",
            2,
        ),
        ("asyncio.run(SpeechEngineServer().serve())", "nothing that answers", 3),
    ],
    ids=["returns", "raises", "exits", "syntax", "uvicorn", "same path", "no handler"],
)
def test_a_program_that_cannot_serve_is_named(body: str, sentence: str, code: int, tmp_path: Path) -> None:
    script = write(tmp_path, body)
    command = [sys.executable, "-m", "se_server", "run", str(script), "--port", "0", "--workers", "1"]
    env = environment(TEST_API_KEY)
    ended = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert sentence in ended.stderr
    assert ended.returncode == code


def test_check_runs_the_program_up_to_serve(tmp_path: Path) -> None:
    script = write(tmp_path, WITHOUT.format(options="path='/ws'") + "raise OSError('not reached')\n")
    command = [sys.executable, "-m", "se_server", "run", str(script), "--check"]
    env = environment(TEST_API_KEY)
    ended = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")
    script.write_text("print('no serve')")
    ended = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 3
    assert "ended without serve()" in ended.stderr


def test_without_aliases_the_published_package_is_left(tmp_path: Path) -> None:
    pytest.importorskip("elevenlabs")
    script = write(tmp_path, "raise SystemExit(SpeechEngineServer.__module__)")
    command = [sys.executable, "-m", "se_server", "run", str(script), "--port", "0", "--workers", "1"]
    for options, module in (((), "se_server.sdk.server"), (("--no-alias",), "elevenlabs.speech_engine.server")):
        ended = subprocess.run(
            [*command, *options], env=environment(TEST_API_KEY), capture_output=True, text=True, check=False, timeout=60
        )
        assert f"SystemExit: {module}" in ended.stderr


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


async def accepts(port: int) -> None:
    for _ in range(1200):
        with socket.socket() as asking:
            if asking.connect_ex(("127.0.0.1", port)) == 0:
                return
        await asyncio.sleep(0.025)
    raise AssertionError(f"nobody listens on port {port}")
