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

from se_server.errors import CallerError
from se_server.simulator.caller import Caller
from tests.fake_api import running_api
from tests.functional.test_tls import Files
from tests.helpers import (
    START_TIMEOUT_S,
    TEST_API_KEY,
    ServerProcess,
    connect,
    environment,
    free_port,
    init_message,
    read_answer,
    running_server,
    spoken,
    transcript_message,
)

COMMON = """
import asyncio, contextlib, os
import elevenlabs
from elevenlabs.speech_engine import SpeechEngineServer, SpeechEngineSession, USER_TRANSCRIPT

async def on_transcript(transcript, session):
    assert isinstance(session, SpeechEngineSession)
    await session.send_response(f"{os.getpid()} {type(session).__module__.partition('.')[0]} {transcript[-1].content}")
"""
PROGRAMS = {
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
    "runner": """
        with getattr(asyncio, "Runner", contextlib.nullcontext)() as runner:  # none on Python 3.10
            run = runner.run if runner else asyncio.run
            run(SpeechEngineServer(port=0, path="/ws", on_transcript=on_transcript).serve())
    """,
    "own SIGTERM": """
        import signal
        async def main():
            server, stop = SpeechEngineServer(port=0, path="/ws", on_transcript=on_transcript), asyncio.Event()
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
            serving = asyncio.create_task(server.serve())
            await stop.wait()
            await server.stop()
            await serving
        asyncio.run(main())
    """,
    "thread": """
        import threading
        server = SpeechEngineServer(port=0, path="/ws", on_transcript=on_transcript)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve()))
        thread.start()
        thread.join()
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
    with running(write(tmp_path, PROGRAMS[program]), workers=1) as server:
        pid, package, said = (await answers(server))[0].split(maxsplit=2)
        assert int(pid) != server.pid
        assert (package, said) == ("se_server", "Hello?")
        assert server.stop() == 0


async def test_the_current_loop_is_pythons(tmp_path: Path) -> None:
    """A loop is made on demand until Python 3.13, as for a program that Python runs itself."""
    script = write(
        tmp_path,
        """
        loop = asyncio.get_event_loop()
        loop.run_until_complete(SpeechEngineServer(port=0, path="/ws", on_transcript=on_transcript).serve())
        """,
    )
    if sys.version_info >= (3, 14):
        ended = pytest.raises(AssertionError, match="raised RuntimeError: There is no current event loop")
        with ended, running(script, workers=1):
            pass
        return
    with running(script, workers=1) as server:
        assert (await answers(server))[0].endswith("Hello?")
        assert server.stop() == 0


@pytest.mark.parametrize("threads", [0, 1])
async def test_a_fork_is_warned_of_beside_the_programs_threads(threads: int, tmp_path: Path) -> None:
    """The server's own threads, which the program does not know of, are no reason."""
    script = write(
        tmp_path,
        f"""
        import threading
        for _ in range({threads}):
            threading.Thread(target=threading.Event().wait, daemon=True).start()
        def fork():
            pid = os.fork()
            if pid == 0:
                os._exit(0)
            os.waitpid(pid, 0)
        async def fork_and_answer(transcript, session):
            fork()
            await session.send_response("forked")
        fork()
        asyncio.run(SpeechEngineServer(port=0, path="/ws", on_transcript=fork_and_answer).serve())
        """,
    )
    with running(script, workers=1, PYTHONWARNINGS="always") as server:
        assert await answers(server) == ["forked"]
        assert server.stop() == 0
    warned = [line for line in server.output().splitlines() if "Warning: " in line]
    of_forks = [line for line in warned if "multi-threaded" in line]
    assert bool(of_forks) == (threads > 0 and sys.version_info >= (3, 12))
    assert all(str(script) in line for line in of_forks)
    assert not [line for line in warned if "/se_server/" in line]


# As without the published package: its folder is passed over, also in processes of multiprocessing.
NOT_INSTALLED = """
import sys
from importlib.machinery import PathFinder
find = PathFinder.find_spec
def find_spec(name, path=None, target=None):
    if name == "elevenlabs":
        path = [folder for folder in sys.path if not folder.endswith("-packages")]
    return find(name, path, target)
PathFinder.find_spec = find_spec
"""


@pytest.mark.parametrize("package", ["installed", "missing"])
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
async def test_processes_of_multiprocessing_import_the_program(tmp_path: Path, method: str, package: str) -> None:
    if package == "missing":
        (tmp_path / "sitecustomize.py").write_text(NOT_INSTALLED)
    script = write(
        tmp_path,
        f"""
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor
        import elevenlabs.speech_engine.session
        def double(number):
            return 2 * number
        async def count(transcript, session):
            found = await asyncio.get_running_loop().run_in_executor(pool, double, 21)
            await session.send_response(str(found))
        if __name__ == "__main__":
            pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context({method!r}))
            asyncio.run(SpeechEngineServer(port=0, path="/ws", on_transcript=count).serve())
        """,
    )
    with running(script, workers=1, PYTHONPATH=str(tmp_path)) as server:
        assert await answers(server) == ["42"]
        assert server.stop() == 0
        assert ("which is not installed" in server.output()) == (package == "missing")
        assert "outlive" not in server.output()


async def test_every_worker_runs_the_program(tmp_path: Path) -> None:
    with running(write(tmp_path, PROGRAMS["own event loop"]), workers=2) as server:
        async with AsyncExitStack() as stack:
            url = f"ws://127.0.0.1:{server.port}/ws"
            callers = [await stack.enter_async_context(Caller.connect(url, api_key=TEST_API_KEY)) for _ in range(4)]
            pids = {int((await caller.say("Hello?")).text.split()[0]) for caller in callers}
        assert pids == set(server.worker_pids())


def test_code_before_serve_runs_once_a_worker(tmp_path: Path) -> None:
    served = WITHOUT.format(options="port=0, api_key='sk_own'")
    with started(
        write(tmp_path, f"os.write(1, b'begun by %d\\n' % os.getpid())\n{served}"), "--workers", "3"
    ) as process:
        assert process.stdout is not None
        begun = set()
        for line in process.stdout:
            if line.startswith("se-server ready"):
                break
            begun.add(int(line.removeprefix("begun by ")))
        assert len(begun) == 3
        assert process.pid not in begun


def test_a_port_in_use_ends_the_start(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        script = write(tmp_path, WITHOUT.format(options=f"port={port}, host='127.0.0.1'"))
        options = ("--workers", "2", "--pidfile", str(tmp_path / "pid"), "--admin", str(tmp_path / "admin"))
        command = [sys.executable, "-m", "se_server", "run", str(script), *options]
        env = environment(TEST_API_KEY)
        ended = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 2
    assert ended.stderr.endswith(
        f"127.0.0.1, port {port} is already in use: stop the other program, or choose another port\n"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["script.py"]


async def test_the_program_says_where_to_listen(tmp_path: Path) -> None:
    port = free_port()
    script = write(tmp_path, WITHOUT.format(options=f"port={port}, host='127.0.0.1', path='/ws', api_key='sk_own'"))
    with started(script) as process:
        assert f"ws://127.0.0.1:{port}/ws (1 worker)" in first_line(process)
        async with Caller.connect(f"ws://127.0.0.1:{port}/ws", api_key="sk_own") as caller:
            assert (await caller.say("Hello?")).text == "Hello?"


async def test_servers_share_a_path_at_other_ports(tmp_path: Path) -> None:
    first, second = free_port(), free_port()
    script = write(
        tmp_path,
        f"""
        def serve(name, port, path, **options):
            async def answer(transcript, session):
                await session.send_response(name + " " + session.path)
            options |= {{"port": port, "host": "127.0.0.1", "path": path, "api_key": "sk_" + name}}
            return SpeechEngineServer(on_transcript=answer, **options).serve()
        async def main():
            await asyncio.gather(
                serve("one", {first}, "/ws"),
                serve("two", {second}, "/ws"),
                serve("rest", {second}, None),
                serve("secret", {second}, "/secret", require_header="X-Secret=open"),
            )
        asyncio.run(main())
        """,
    )
    with started(script) as process:
        ready = first_line(process)
        for port, path, name in ((first, "/ws", "one"), (second, "/ws", "two"), (second, "/other", "rest")):
            async with Caller.connect(f"ws://127.0.0.1:{port}{path}", api_key=f"sk_{name}") as caller:
                assert (await caller.say("Hello?")).text == f"{name} {path}"
        for port, path, key in (
            (first, "/other", "sk_rest"),
            (first, "/ws", "sk_two"),
            (second, "/secret", "sk_secret"),  # without the header, which is asked for on this path alone
        ):
            with pytest.raises(CallerError):
                await Caller.connect(f"ws://127.0.0.1:{port}{path}", api_key=key).__aenter__()
    places = [f"{first}/ws", f"{second}/ws", f"{second}/", f"{second}/secret"]
    assert " and ".join(f"ws://127.0.0.1:{place}" for place in places) in ready


async def test_tls_of_the_program_is_served(tmp_path: Path) -> None:
    files, port = Files(tmp_path), free_port()
    script = write(
        tmp_path,
        f"""
        import ssl
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain({str(files.both)!r})
        server = SpeechEngineServer(port={port}, ssl=context, api_key="sk_own", on_transcript=on_transcript)
        asyncio.run(server.serve())
        """,
    )
    with started(script) as process:
        assert f"wss://127.0.0.1:{port}/ (1 worker)" in first_line(process)
        async with connect(f"wss://127.0.0.1:{port}/", "sk_own", ssl=files.client_context()) as websocket:
            await websocket.send(init_message())
            await websocket.send(transcript_message("Hello?", event_id=1))
            assert spoken(await read_answer(websocket)).endswith("se_server Hello?")


@contextmanager
def started(script: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Run a program at its own address, with one worker, and stop it in order."""
    command = [sys.executable, "-m", "se_server", "run", str(script), "--workers", "1", *options]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()
        assert process.wait(30) == 0


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


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
        ("raise SystemExit(4)", "script.py has exited before serve() with code 4\n", 3),
        ("raise SystemExit('no config')", "script.py has exited before serve(): no config\n", 3),
        ("import pathlib\npathlib.Path(__file__).open('x')", "each worker runs this code", 3),
        ("input()", "reads stdin, which has ended, and each worker runs this code", 3),
        ("def broken(:", "SyntaxError", 3),
        ("import uvicorn\nuvicorn.run('app:app')", "run it with uvicorn", 3),
        (
            "s = SpeechEngineServer\nasync def main():\n    await asyncio.gather(s(on_transcript=print).serve(),"
            " s(on_transcript=print).serve())\nasyncio.run(main())",
            "has 2 servers at one address, of which several take all paths: give each a path or a port of its own",
            2,
        ),
        ("asyncio.run(SpeechEngineServer().serve())", "nothing that answers", 3),
        (
            "import multiprocessing\ndef serve():\n    asyncio.run(SpeechEngineServer(on_transcript=print).serve())\n"
            "child = multiprocessing.get_context('fork').Process(target=serve)\nchild.start()\nchild.join()",
            "calls serve() in a process that it has forked",
            3,
        ),
    ],
    ids=[
        "returns",
        "raises",
        "exits",
        "exits with words",
        "holds a file",
        "reads stdin",
        "syntax",
        "uvicorn",
        "same path",
        "no handler",
        "forks",
    ],
)
def test_a_program_that_cannot_serve_is_named(body: str, sentence: str, code: int, tmp_path: Path) -> None:
    script = write(tmp_path, body)
    command = [sys.executable, "-m", "se_server", "run", str(script), "--port", "0", "--workers", "1"]
    ended = run_to_end(command)
    assert sentence in ended.stderr
    assert ended.returncode == code


def run_to_end(command: list[str], **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env=environment(TEST_API_KEY, **env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


async def test_the_programs_key_wins_over_the_variable(tmp_path: Path) -> None:
    script = write(tmp_path, WITHOUT.format(options="path='/ws', api_key='sk_own'"))
    with running(script, workers=1) as server:
        url = f"ws://127.0.0.1:{server.port}/ws"
        with pytest.raises(CallerError):
            await Caller.connect(url, api_key=TEST_API_KEY).__aenter__()
        async with Caller.connect(url, api_key="sk_own") as caller:
            assert (await caller.say("Hello?")).text == "Hello?"


async def test_an_option_wins_over_the_programs_key(tmp_path: Path) -> None:
    script = write(tmp_path, WITHOUT.format(options="path='/ws', api_key='sk_own'"))
    with running(script, workers=1, SE_SERVER_API_KEY=TEST_API_KEY) as server:
        assert await answers(server)
        assert "SE_SERVER_API_KEY replaces the API key that" in server.output()


async def test_the_clients_key_wins_over_the_variable(tmp_path: Path) -> None:
    with running_api("sk_own") as api:
        body = f"""
            async def main():
                client = elevenlabs.AsyncElevenLabs(api_key="sk_own", base_url={api.url!r})
                engine = await client.speech_engine.get({api.add_engine()!r})
                await engine.serve(path="/ws", on_transcript=on_transcript)
            asyncio.run(main())
        """
        with running(write(tmp_path, body), workers=1) as server:
            url = f"ws://127.0.0.1:{server.port}/ws"
            with pytest.raises(CallerError):
                await Caller.connect(url, api_key=TEST_API_KEY).__aenter__()
            async with Caller.connect(url, api_key="sk_own") as caller:
                assert (await caller.say("Hello?")).text.endswith("Hello?")


async def test_a_handler_of_sigint_stays_the_programs(tmp_path: Path) -> None:
    body = "import signal\nsignal.signal(signal.SIGINT, lambda *_: print('own SIGINT', flush=True))\n"
    with running(write(tmp_path, body + WITHOUT.format(options="path='/ws'")), workers=1) as server:
        os.kill(server.worker_pids()[0], signal.SIGINT)
        server.wait_for_output("own SIGINT")
        assert await answers(server) == ["Hello?"]
        assert server.stop() == 0


def test_code_after_serve_has_a_limited_time(tmp_path: Path) -> None:
    script = write(tmp_path, WITHOUT.format(options="port=0, path='/ws'") + "import time\ntime.sleep(3600)\n")
    limit = "from se_server.server.worker import serve_calls; serve_calls.AFTER_S = 0.3"
    start = f"import sys; {limit}; from se_server.cli import server; sys.exit(server.main(sys.argv[1:]))"
    command = [sys.executable, "-c", start, "run", str(script), "--workers", "1"]
    server = ServerProcess(command, environment(TEST_API_KEY), TEST_API_KEY)
    server.wait_for_output("se-server ready")
    assert server.stop() == 0
    assert re.search(r"script.py goes on 0.3 s after its serve\(\) has ended.*script.py:\d+", server.output())


async def test_a_later_serve_leaves_the_first_alone(tmp_path: Path) -> None:
    body = """
        def served(path):
            return SpeechEngineServer(port=0, path=path, on_transcript=on_transcript)
        async def main():
            first, late = served("/ws"), served("/late")
            serving = asyncio.create_task(first.serve())
            await first.wait_ready()
            await asyncio.gather(serving, late.serve())
        asyncio.run(main())
    """
    with running(write(tmp_path, body), workers=1) as server:
        server.wait_for_output("again while it serves: the server with port=0, path='/late' is not served")
        assert (await answers(server))[0].endswith("Hello?")
        assert server.stop() == 0
    assert "another one takes its place" not in server.output()


def test_a_program_that_serves_in_a_loop_stops(tmp_path: Path) -> None:
    script = write(
        tmp_path,
        """
        async def main():
            while True:
                try:
                    await SpeechEngineServer(path="/ws", on_transcript=on_transcript).serve()
                except Exception as error:
                    print("again:", error)
                await asyncio.sleep(0.01)
        asyncio.run(main())
        """,
    )
    with running(script, workers=1) as server:
        assert server.stop() == 0
    assert "script.py calls serve() again after its worker has drained: the worker ends" in server.output()
    assert "again:" not in server.output()


def test_a_port_of_the_programs_own_is_explained(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        served = WITHOUT.format(options="path='/ws'")
        script = write(tmp_path, f"import socket\nsocket.create_server(('127.0.0.1', {port}))\n{served}")
        command = [sys.executable, "-m", "se_server", "run", str(script), "--port", "0", "--workers", "1"]
        ended = run_to_end(command)
        assert "script.py, before serve(), opens a port of its own, which is in use, and each worker" in ended.stderr
        assert ended.returncode == 3
        beside = f"""
        async def own():
            await asyncio.sleep(0)
            try:
                await asyncio.start_server(print, "127.0.0.1", {port})
            except OSError:
                raise SystemExit(1)
        async def main():
            await asyncio.gather(own(), SpeechEngineServer(on_transcript=on_transcript).serve())
        asyncio.run(main())
        """
        write(tmp_path, beside)
        ended = run_to_end(command)
    assert "script.py, before its serve() was ready, opens a port of its own, which is in use" in ended.stderr
    assert ended.returncode == 3


def test_a_program_that_exits_well_ends_the_server(tmp_path: Path) -> None:
    script = write(tmp_path, "import argparse\nargparse.ArgumentParser().parse_args()")
    ended = run_to_end([sys.executable, "-m", "se_server", "run", str(script), "--workers", "2", "--", "--help"])
    assert ended.returncode == 0
    assert ended.stdout.startswith("usage: ")
    assert "se-server:" not in ended.stderr


@pytest.mark.parametrize("form", ["directory", "package", "module"])
async def test_directories_and_modules_run_as_for_python(form: str, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.mkdir()
    (program / "words.py").write_text("WORD = 'from beside'")
    name = "words" if form == "directory" else ".words"
    if form != "directory":
        (program / "__init__.py").touch()
    served = WITHOUT.format(options="path='/ws'").replace("transcript[-1].content", "WORD")
    (program / "__main__.py").write_text(f"import asyncio\nfrom {name} import WORD\n{served}")
    words = ["-m", "program"] if form == "module" else [str(program)]
    with running_server("run", *words, workers=1, env={"PYTHONPATH": str(tmp_path)}) as server:
        assert await answers(server) == ["from beside"]


def test_check_runs_the_program_up_to_serve(tmp_path: Path) -> None:
    script = write(tmp_path, WITHOUT.format(options="port=3456, path='/ws'") + "raise OSError('not reached')\n")
    command = [sys.executable, "-m", "se_server", "run", str(script), "--check"]
    env = environment(TEST_API_KEY)
    ended = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "ws://127.0.0.1:3456/ws\n" in ended.stdout
    script.write_text("print('no serve')")
    ended = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 3
    assert "ended without serve()" in ended.stderr


def test_check_ends_a_program_that_waits(tmp_path: Path) -> None:
    script = write(tmp_path, "import time\nprint(os.getpid(), flush=True)\ntime.sleep(60)")
    limits = "from se_server.cli import checking as c, server as s; c.SLOW_S, c.LIMIT_S = 0.1, float(sys.argv[1])"
    command = [sys.executable, "-c", f"import sys; {limits}; sys.exit(s.main(sys.argv[2:]))"]
    ended = run_to_end([*command, "0.3", "run", str(script), "--check"])
    assert "script.py has not come to serve() after 0 s\n" in ended.stderr
    assert ended.stderr.endswith("script.py has not come to serve() within 0.3 s\n")
    assert ended.returncode == 3
    with subprocess.Popen(
        [*command, "60", "run", str(script), "--check"], env=environment(None), stdout=subprocess.PIPE, text=True
    ) as check:
        child = int(first_line(check))
        check.terminate()
        assert check.wait(30) == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


async def test_reloads_and_upgrades_refuse_another_address(tmp_path: Path) -> None:
    port = free_port()
    program = WITHOUT.format(options=f"port={port}, host='127.0.0.1', path='/ws'")
    script = write(tmp_path, program)
    command = [sys.executable, "-m", "se_server", "run", str(script), "--workers", "1"]
    server = ServerProcess(command, environment(TEST_API_KEY), TEST_API_KEY)
    try:
        server.wait_for_output("se-server ready")
        for changed, new, where in ((str(port), str(free_port()), "port"), ("127.0.0.1", "127.0.0.2", "the host")):
            write(tmp_path, program.replace(changed, new))
            refused = f"script.py serves at {where} {new} now, .* keep the addresses"
            os.kill(server.pid, signal.SIGHUP)
            server.wait_for_output(f"the reload has failed, the old workers serve on: .*{refused}")
            os.kill(server.pid, signal.SIGUSR2)
            server.wait_for_output(f"(?s)upgrade: supervisor .*{refused}.*the upgrade has failed", START_TIMEOUT_S)
        async with Caller.connect(f"ws://127.0.0.1:{port}/ws", api_key=TEST_API_KEY) as caller:
            assert (await caller.say("Hello?")).text == "Hello?"
    finally:
        server.stop()


def test_without_aliases_the_published_package_is_left(tmp_path: Path) -> None:
    pytest.importorskip("elevenlabs")
    script = write(tmp_path, "raise SystemExit('from ' + SpeechEngineServer.__module__)")
    command = [sys.executable, "-m", "se_server", "run", str(script), "--port", "0", "--workers", "1"]
    for options, module in (((), "se_server.sdk.server"), (("--no-alias",), "elevenlabs.speech_engine.server")):
        ended = subprocess.run(
            [*command, *options], env=environment(TEST_API_KEY), capture_output=True, text=True, check=False, timeout=60
        )
        assert f"from {module}\n" in ended.stderr
    script = write(tmp_path, WITHOUT.format(options="path='/ws'"))
    ended = run_to_end([*command, "--no-alias"])
    assert "calls serve() of the installed elevenlabs.speech_engine" in ended.stderr
    assert ended.returncode == 3
