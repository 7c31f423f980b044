"""`se-server` seen by users and operators: real processes, real signals, real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from se_server.demo import DEMO_API_KEY
from tests.helpers import (
    ANSWER_TIMEOUT_S,
    START_TIMEOUT_S,
    ServerProcess,
    connect,
    environment,
    init_message,
    read_answer,
    running_server,
    spoken,
    transcript_message,
    wait_for_end,
)

ECHO = """
    async def on_transcript(transcript, session):
        await session.send_response("you said " + transcript[-1].content)
"""


def write(path: Path, source: str) -> Path:
    path.write_text(textwrap.dedent(source))
    return path


def refusal(*args: str | Path, env: dict[str, str] | None = None, key: str | None = "sk_test") -> tuple[int, str]:
    """Run a server that cannot start; return its exit code and stderr. Nothing may be on stdout."""
    command = [sys.executable, "-m", "se_server.cli.server", "--host", "127.0.0.1", "--port", "0", "--workers", "2"]
    done = subprocess.run(
        [*command, *map(str, args)],
        env=environment(key, **(env or {})),
        capture_output=True,
        text=True,
        timeout=START_TIMEOUT_S,
        check=False,
    )
    assert done.stdout == ""
    return done.returncode, done.stderr


def sentence(*args: str | Path, code: int, env: dict[str, str] | None = None, key: str | None = "sk_test") -> str:
    """Run a server that refuses to start with one sentence and no traceback; return the sentence."""
    got, stderr = refusal(*args, env=env, key=key)
    assert got == code, stderr
    assert re.fullmatch(r"se-server: .+\n", stderr), stderr
    return stderr


def health(port: int) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status
    finally:
        connection.close()


def exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_for_new_worker(server: ServerProcess, old: list[int]) -> int:
    """Wait until a worker that is not in `old` is ready; needs --log-level debug."""
    known = "".join(f"(?!{pid}\\))" for pid in old)
    return int(server.wait_for_output(rf"\(pid {known}(\d+)\) is ready")[1])


# --- the start ------------------------------------------------------------------------------------------------------


def test_the_ready_line_is_printed_once() -> None:
    """The port answers health checks from then on."""
    with running_server("--path", "/ws") as server:
        assert len(server.worker_pids()) == 2
        assert health(server.port) == 200
        assert server.stop() == 0
        output = server.output()
    assert output.count("se-server ready: ") == 1
    assert f"se-server ready: ws://127.0.0.1:{server.port}/ws (2 workers)\n" in output


async def test_the_demo_agent_answers_with_the_demo_key() -> None:
    """The next steps are printed."""
    with running_server(api_key=None, workers=1) as server:
        server.wait_for_output(f"se-chat ws://127.0.0.1:{server.port}/\n")
        async with connect(server.url, DEMO_API_KEY) as websocket:
            await websocket.send(init_message())
            await websocket.send(transcript_message("What do you do?"))
            answer = await read_answer(websocket)
    assert "What do you do" in spoken(answer)
    assert len(answer) > 10


async def test_an_app_runs_on_startup_and_on_shutdown(tmp_path: Path) -> None:
    log = tmp_path / "log"
    app = write(
        tmp_path / "agent.py",
        f"""
        import asyncio, os
        def note(what):
            with open({str(log)!r}, "a") as file:
                file.write(f"{{what}} {{os.getpid()}}\\n")
        async def on_startup():
            await asyncio.sleep(0)
            note("startup")
        def on_shutdown():
            note("shutdown")
        def on_disconnect(session):
            note("disconnect")
        {textwrap.indent(textwrap.dedent(ECHO), "        ")}
        """,
    )
    with running_server(app=app) as server:
        pids = server.worker_pids()
        async with connect(server.url) as websocket:
            await websocket.send(transcript_message("hi"))
            assert spoken(await read_answer(websocket)) == "you said hi"
            server.send_signal(signal.SIGTERM)
            server.wait_for_output("SIGTERM: taking no new conversations")
        assert server.wait() == 0
    noted = [line.split() for line in log.read_text().splitlines()]
    assert sorted(int(pid) for what, pid in noted if what == "startup") == pids
    assert sorted(int(pid) for what, pid in noted if what == "shutdown") == pids
    talker = next(pid for what, pid in noted if what == "disconnect")
    assert [what for what, pid in noted if pid == talker] == ["startup", "disconnect", "shutdown"]


def test_a_wrong_app_is_one_sentence(tmp_path: Path) -> None:
    """The exit code is 3."""
    write(tmp_path / "agent.py", "def on_transcrpt(transcript, session): ...")
    assert "did you mean agent.py?" in sentence(tmp_path / "agnet.py", code=3)
    assert "did you mean on_transcript?" in sentence(tmp_path / "agent.py", code=3)
    assert "no module 'there_is_no_such_module'" in sentence("there_is_no_such_module", code=3)


def test_app_without_a_key_refuses_to_start(tmp_path: Path) -> None:
    app = write(tmp_path / "agent.py", ECHO)
    assert "has no API key" in sentence(app, code=2, key=None)
    assert "has no API key" in sentence(app, code=2, key=" ")
    assert "has no API key" in sentence(app, "--check", code=2, key=None)
    serving = write(
        tmp_path / "serving.py",
        """
        import asyncio
        from se_server import SpeechEngineServer
        asyncio.run(SpeechEngineServer(on_transcript=print, port=0).serve())
        """,
    )
    assert refusal(serving, key=None)[0] == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [("ELEVENLABS_API_KEY", '"sk_late"'), ("SE_SERVER_API_KEY", "sk_late"), ("SE_SERVER_API_KEY_FILE", "key.txt")],
)
async def test_a_key_that_the_import_sets_is_used(tmp_path: Path, name: str, value: str) -> None:
    (tmp_path / "key.txt").write_text("sk_late\r\n")
    value = value.replace("key.txt", str(tmp_path / "key.txt"))
    app = write(tmp_path / "agent.py", f"import os\nos.environ[{name!r}] = {value!r}\n" + textwrap.dedent(ECHO))
    with running_server(app=app, workers=1, api_key=None) as server:
        async with connect(server.url, api_key="sk_late") as websocket:
            await websocket.send(transcript_message("hello"))
            assert spoken(await read_answer(websocket)) == "you said hello"
        with pytest.raises(InvalidStatus, match="401"):
            async with connect(server.url, api_key="sk_other"):
                pass


def test_key_set_by_the_import_must_be_one(tmp_path: Path) -> None:
    setting = """import os; os.environ['ELEVENLABS_API_KEY'] = '"sk_x'\n"""
    app = write(tmp_path / "agent.py", setting + textwrap.dedent(ECHO))
    assert sentence(app, code=2, key=None).startswith("se-server: ELEVENLABS_API_KEY: the value is not valid")


@pytest.mark.parametrize(
    ("source", "frame"),
    [
        ("raise RuntimeError('it broke')", "in <module>"),
        (ECHO + "\n    async def on_startup(): raise RuntimeError('it broke')", "in on_startup"),
        (ECHO + "\n    def on_startup(): raise RuntimeError('it broke')", "in on_startup"),
    ],
)
def test_a_failing_app_shows_its_error_once(tmp_path: Path, source: str, frame: str) -> None:
    """The exit code is 3."""
    app = write(tmp_path / "agent.py", source)
    code, stderr = refusal(app)
    assert code == 3
    assert stderr.count("Traceback") == 1
    assert stderr.count("\nRuntimeError: it broke\n") == 1
    assert frame in stderr
    assert "se_server/" not in stderr
    assert re.search(r"\nse-server: APP .* raised RuntimeError: it broke\n\Z", stderr)


@pytest.mark.parametrize("how", ["SystemExit(1)", "asyncio.CancelledError()", "KeyboardInterrupt()"])
def test_an_exiting_or_cancelled_start_fails(tmp_path: Path, how: str) -> None:
    app = write(tmp_path / "agent.py", f"import asyncio\nasync def on_startup(): raise {how}\n{textwrap.dedent(ECHO)}")
    code, stderr = refusal(app)
    assert code == 3
    assert stderr.count("on_startup raised ") == 1


def test_an_interrupt_raised_at_import_is_an_error(tmp_path: Path) -> None:
    code, stderr = refusal(write(tmp_path / "agent.py", "raise KeyboardInterrupt"))
    assert code == 3
    assert stderr.count("raised KeyboardInterrupt") == 1
    assert "bug" not in stderr


@pytest.mark.parametrize("message", ["no file \\udcff", "x" * 3_000_000])
def test_a_long_or_invalid_error_text_is_shown(tmp_path: Path, message: str) -> None:
    app = write(tmp_path / "agent.py", f"raise RuntimeError('{message}')")
    code, stderr = refusal(app)
    assert code == 3
    assert "in <module>" in stderr
    assert re.search(rf"\nse-server: APP .* raised RuntimeError: {re.escape(message[:1000])}.*\n\Z", stderr)


def test_closed_output_is_no_reason_to_stop() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "se_server.cli.server", "--port", "0", "--host", "127.0.0.1", "--workers", "1"]
    command += ["--log-level", "debug"]
    with subprocess.Popen(command, env=environment(), stdout=writer, stderr=subprocess.PIPE, text=True) as process:
        os.close(writer)
        assert process.stderr is not None
        assert any("is ready" in line for line in process.stderr)
        process.send_signal(signal.SIGTERM)
        assert process.wait(START_TIMEOUT_S) == 0


def test_a_worker_killed_at_start_ends_the_server(tmp_path: Path) -> None:
    app = write(tmp_path / "agent.py", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    assert "a worker was killed by SIGKILL before it was ready" in sentence(app, code=3)


def test_a_stop_during_a_slow_start_is_prompt(tmp_path: Path) -> None:
    app = write(tmp_path / "agent.py", "import threading; print('importing', flush=True); threading.Event().wait()")
    command = [sys.executable, "-m", "se_server.cli.server", str(app), "--port", "0", "--host", "127.0.0.1"]
    command += ["--workers", "1"]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "importing\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(START_TIMEOUT_S) == 0


def test_wrong_options_are_one_sentence(tmp_path: Path) -> None:
    """The exit code is 2."""
    assert "SE_SERVER_DRAIN_TIMEOUT_S: 'soon'" in sentence(code=2, env={"SE_SERVER_DRAIN_TIMEOUT_S": "soon"})
    assert "did you mean SE_SERVER_PORT?" in sentence(code=2, env={"SE_SERVER_PROT": "1"})
    assert "there is no option --wrokers; did you mean --workers?" in sentence("--wrokers", "2", code=2)
    assert "--port needs a value" in sentence("--port", code=2)
    assert "cannot read" in sentence("--api-key-file", tmp_path / "none", code=2)
    assert "loopback only" in sentence("--host", "0.0.0.0", code=2, key=None)


def test_a_port_in_use_is_one_sentence() -> None:
    """The exit code is 2."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert port in sentence("--port", port, code=2)


def test_an_unknown_variable_is_logged_and_passed_over() -> None:
    env = {"SE_SERVER_VERSION": "1.2"} | dict.fromkeys(
        ("SE_SERVER_CANARY_PORT", "SE_SERVER_PORT"), "tcp://10.0.0.7:3001"
    )
    with running_server(workers=1, env=env) as server:
        server.wait_for_output(r"INFO .*SE_SERVER_PORT in the environment is the address of a service")
        server.wait_for_output(r"SE_SERVER_VERSION in the environment is not an option of se-server")
        assert "CANARY" not in server.output()
    assert "did you mean SE_SERVER_ALLOW_IPS?" in sentence(code=2, env={"SE_SERVER_ALLOW_IP": "10.0.0.1"})


def test_a_wait_beyond_the_api_is_logged(tmp_path: Path) -> None:
    """It is named as it was given, by a start and by `--check`, which both go on."""
    with running_server("--hold-after-s", "6", workers=1, env={"SE_SERVER_SETTLE_S": "4"}) as server:
        server.wait_for_output(r"WARNING .* --hold-after-s is 6 s, too late to hold the API: the API asks again")
        server.wait_for_output(r"WARNING .* SE_SERVER_SETTLE_S is 4 s, so that every answer is late")
    app = write(tmp_path / "agent.py", "async def on_transcript(transcript, session): pass")
    command = [sys.executable, "-m", "se_server.cli.server", "--check", "--hold-after-s", "6", "--port", "0", str(app)]
    checked = subprocess.run(
        command, env=environment("sk_test"), capture_output=True, text=True, timeout=START_TIMEOUT_S, check=False
    )
    assert checked.returncode == 0, checked.stderr
    assert re.search(r"warn +options +--hold-after-s is 6 s", checked.stdout)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_workers_run_the_chosen_event_loop(tmp_path: Path, loop: str) -> None:
    source = """
        import asyncio, sys
        async def on_transcript(transcript, session):
            child = await asyncio.create_subprocess_exec(sys.executable, "-c", "")
            running = type(asyncio.get_running_loop()).__module__.partition(".")[0]
            await session.send_response(f"{running} {await child.wait()}")
        """
    with running_server("--loop", loop, app=write(tmp_path / "agent.py", source), workers=1) as server:
        async with connect(server.url) as websocket:
            await websocket.send(transcript_message("which?"))
            assert spoken(await read_answer(websocket)) == f"{loop} 0"
            server.send_signal(signal.SIGTERM)
            await websocket.send(transcript_message("which?", event_id=2))
            assert spoken(await read_answer(websocket)) == f"{loop} 0"
        assert await asyncio.to_thread(server.wait) == 0


def test_the_package_itself_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "se_server", "--prot", "1"], capture_output=True, text=True, check=False, timeout=30
    )
    assert (done.returncode, done.stderr) == (
        2,
        "se-server: there is no option --prot; did you mean --port?\n",
    )


def test_authentication_off_is_said_loudly() -> None:
    with running_server("--disable-auth", workers=1) as server:
        assert re.search("WARNING: authentication is disabled: .*--require-header.*--allow-ips", server.output())


async def test_a_secret_header_and_addresses_replace_tokens(tmp_path: Path) -> None:
    app = write(
        tmp_path / "agent.py", "async def on_transcript(t, session): await session.send_response(session.remote)"
    )
    secret = {"SE_SERVER_REQUIRE_HEADER": "X-Secret=opensesame"}
    args = ("--disable-auth", "--allow-ips", "198.51.100.0/24", "--trusted-proxies", "127.0.0.1")
    client, key = {"X-Forwarded-For": "192.0.2.1, 198.51.100.7"}, {"X-Secret": "opensesame"}
    with running_server(*args, app=app, env=secret, workers=1) as server:
        for headers, status in ((client, 401), (client | {"X-Secret": "opensesam"}, 401), (key, 403)):
            with pytest.raises(InvalidStatus) as refused:
                await connect(server.url, None, headers=headers).__aenter__()
            assert refused.value.response.status_code == status
        async with connect(server.url, None, headers=client | key) as caller:
            await caller.send(transcript_message("where am I?"))
            assert spoken(await read_answer(caller)) == "198.51.100.7"
        assert health(server.port) == 200
        assert "WARNING: authentication" not in server.output()
        server.wait_for_output("required header missing or wrong: 198.51.100.7 was answered 401")
        server.wait_for_output("address not allowed: 127.0.0.1:.* was answered 403")
        assert "opensesam" not in server.output()


def test_a_wrong_secret_header_is_not_shown() -> None:
    text = sentence("--require-header", "opensesame", code=2)
    assert "NAME=VALUE" in text
    assert "opensesame" not in text


def test_help_and_version() -> None:
    for option, expected in (("--help", "--drain-timeout-s SECONDS"), ("--version", "se-server ")):
        done = subprocess.run(
            [sys.executable, "-m", "se_server.cli.server", option], capture_output=True, text=True, check=True
        )
        assert expected in done.stdout


# --- serving -------------------------------------------------------------------------------------------------------


WHO = """
    import os
    async def on_transcript(transcript, session):
        await session.send_response(str(os.getpid()))
"""


async def test_fifty_conversations_and_a_worker_is_killed(tmp_path: Path) -> None:
    async def ask(websocket: ClientConnection, event_id: int) -> int:
        await websocket.send(transcript_message("who are you?", event_id=event_id))
        return int(spoken(await read_answer(websocket)))

    with running_server(app=write(tmp_path / "agent.py", WHO)) as server:
        async with contextlib.AsyncExitStack() as stack:
            sockets = [await stack.enter_async_context(connect(server.url)) for _ in range(50)]
            hosts = [await ask(websocket, 1) for websocket in sockets]
            assert len(set(hosts)) == 2, "all conversations are on one worker"
            victim = hosts[0]
            os.kill(victim, signal.SIGKILL)

            async def talk_anew() -> int:
                async with connect(server.url) as websocket:
                    return await ask(websocket, 1)

            assert await asyncio.wait_for(talk_anew(), ANSWER_TIMEOUT_S) != victim
            for websocket, host in zip(sockets, hosts, strict=True):
                if host == victim:
                    with pytest.raises(ConnectionClosed):
                        await ask(websocket, 2)
                else:
                    assert await ask(websocket, 2) == host


async def test_a_killed_worker_is_replaced(tmp_path: Path) -> None:
    """Conversations of the other worker go on."""
    with running_server("--log-level", "debug", app=write(tmp_path / "agent.py", WHO)) as server:
        before = server.worker_pids()
        async with connect(server.url) as websocket:
            await websocket.send(transcript_message("who are you?"))
            host = int(spoken(await read_answer(websocket)))
            (other,) = set(before) - {host}
            os.kill(other, signal.SIGKILL)
            fresh = wait_for_new_worker(server, before)
            assert server.worker_pids() == sorted([host, fresh])
            await websocket.send(transcript_message("who are you?", event_id=2))
            assert int(spoken(await read_answer(websocket))) == host
        assert health(server.port) == 200
        assert f"(pid {other}) was killed by SIGKILL" in server.output()
        assert server.stop() == 0


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts descriptors in /proc")
def test_replacing_workers_leaks_no_descriptor() -> None:
    def descriptors(pid: int) -> int:
        return len(os.listdir(f"/proc/{pid}/fd"))

    def settled(pid: int, most: int) -> int:
        """Count until there are no more than expected: a reader of /proc has files open for a moment."""
        deadline = time.monotonic() + 5
        while (count := descriptors(pid)) > most and time.monotonic() < deadline:
            time.sleep(0.02)
        return count

    with running_server("--log-level", "debug") as server:
        seen = list(server.worker_pids())

        def replace() -> int:
            os.kill(server.worker_pids()[0], signal.SIGKILL)
            seen.append(wait_for_new_worker(server, seen))
            return seen[-1]

        first = descriptors(replace())
        at_start = descriptors(server.pid)
        for _ in range(3):
            last = replace()
        assert settled(server.pid, at_start) <= at_start
        assert settled(last, first) <= first


def test_a_replacement_that_cannot_start_is_tried_again(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    app = write(
        tmp_path / "agent.py",
        f"""
        import os
        {textwrap.indent(textwrap.dedent(ECHO), "        ")}
        if os.path.exists({str(broken)!r}):
            os.unlink({str(broken)!r})
            raise RuntimeError("half a deploy")
        """,
    )
    with running_server("--log-level", "debug", app=app) as server:
        pids = server.worker_pids()
        broken.touch()
        os.kill(pids[0], signal.SIGKILL)
        server.wait_for_output("cannot start, next try in .*half a deploy")
        wait_for_new_worker(server, pids)
        assert pids[1] in server.worker_pids()
        assert server.stop() == 0


async def test_sigterm_to_a_worker_drains_and_replaces_it(tmp_path: Path) -> None:
    app = write(tmp_path / "agent.py", ECHO)
    with running_server("--log-level", "debug", app=app, workers=1) as server:
        (old,) = server.worker_pids()
        async with connect(server.url) as websocket:
            await websocket.send(transcript_message("one"))
            await read_answer(websocket)
            os.kill(old, signal.SIGTERM)
            fresh = wait_for_new_worker(server, [old])
            async with connect(server.url) as other:
                await other.send(transcript_message("two"))
                assert spoken(await read_answer(other)) == "you said two"
            await websocket.send(transcript_message("three", event_id=2))
            assert spoken(await read_answer(websocket)) == "you said three"
        assert exists(fresh)
        assert server.stop() == 0
        assert "in time" not in server.output()


# --- the end --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_leaves_nothing_behind(number: signal.Signals) -> None:
    with running_server() as server:
        pids = server.worker_pids()
        for pid in (*pids, server.pid) if number == signal.SIGINT else (server.pid,):
            os.kill(pid, number)  # Ctrl-C reaches all processes
        assert server.wait() == 0
        assert not any(map(exists, pids))
        with pytest.raises(OSError, match="refused"):
            health(server.port)
        assert "ERROR" not in server.output()


async def test_a_stop_lets_running_conversations_end(tmp_path: Path) -> None:
    app = write(tmp_path / "agent.py", ECHO)
    with running_server(app=app) as server:
        async with connect(server.url) as websocket:
            await websocket.send(transcript_message("one"))
            await read_answer(websocket)
            server.send_signal(signal.SIGTERM)
            server.wait_for_output("SIGTERM: taking no new conversations")
            await websocket.send(transcript_message("two", event_id=2))
            assert spoken(await read_answer(websocket)) == "you said two"
            assert server.is_running()
        assert server.wait() == 0


@pytest.mark.parametrize("drain_timeout_s", ["3e6", "1e300"])
async def test_a_drain_time_of_months_lets_conversations_end(drain_timeout_s: str) -> None:
    with running_server("--drain-timeout-s", drain_timeout_s, workers=1) as server:
        async with connect(server.url) as websocket:
            await websocket.send(transcript_message("one"))
            await read_answer(websocket)
            server.send_signal(signal.SIGTERM)
            server.wait_for_output("SIGTERM: taking no new conversations")
            await websocket.send(transcript_message("bye", event_id=2))
            assert "pleasure" in spoken(await read_answer(websocket))
        assert server.wait() == 0
        assert "Traceback" not in server.output()


async def test_the_drain_timeout_closes_conversations_with_1001() -> None:
    with running_server("--drain-timeout-s", "0.3") as server:
        async with connect(server.url) as websocket:
            await websocket.send(init_message())
            server.send_signal(signal.SIGTERM)
            with pytest.raises(ConnectionClosed) as closed:
                await websocket.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1001
        assert server.wait() == 0


async def test_a_second_stop_ends_at_once() -> None:
    with running_server() as server:
        pids = server.worker_pids()
        async with connect(server.url) as websocket:
            await websocket.send(init_message())
            server.send_signal(signal.SIGTERM)
            server.wait_for_output("SIGTERM: taking no new conversations")
            while server.is_running() and "stopping immediately" not in server.output():
                # Signals that arrive together are one order to stop; later ones count.
                server.send_signal(signal.SIGTERM)
            assert server.wait() == 0
        assert not any(map(exists, pids))
        assert "ERROR" not in server.output()


async def test_tasks_that_ignore_cancellation_do_not_delay_stops(tmp_path: Path) -> None:
    app = write(
        tmp_path / "agent.py",
        """
        import asyncio, threading
        async def forever():
            while True:
                try:
                    await asyncio.sleep(3600)
                except asyncio.CancelledError:
                    pass
        async def on_startup():
            global task
            task = asyncio.create_task(forever(), name="the deaf one")
            threading.Thread(target=threading.Event().wait).start()
        async def on_transcript(transcript, session): ...
        """,
    )
    with running_server(app=app, workers=1) as server:
        assert server.stop() == 0
        assert "ignore their cancellation and end with the process: the deaf one" in server.output()


def test_a_failing_on_shutdown_is_logged(tmp_path: Path) -> None:
    """The stop goes on."""
    app = write(tmp_path / "agent.py", ECHO + "\n    def on_shutdown(): raise RuntimeError('flush failed')")
    with running_server(app=app, workers=1) as server:
        assert server.stop() == 0
        assert "RuntimeError: flush failed" in server.output()


def test_workers_end_when_the_supervisor_is_killed() -> None:
    with running_server() as server:
        pids = server.worker_pids()
        server.send_signal(signal.SIGKILL)
        assert server.wait() == -signal.SIGKILL  # it also waits until the workers' output has ended
        assert "the supervisor is gone: draining" in server.output()
        wait_for_end(pids)  # their output may be closed before they end
