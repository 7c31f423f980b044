"""`SpeechEngineServer` and `engine.serve`: starting, stopping, refusing, on asyncio's loop and on uvloop."""

from __future__ import annotations

import asyncio
import gc
import itertools
import json
import os
import signal
import socket
import sys
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop
import websockets
from websockets.exceptions import ConnectionClosed, InvalidStatus

from se_server.errors import ConfigError, KeyMissing, UnsupportedWebSocket
from se_server.sdk.resource import SpeechEngineResource
from se_server.sdk.server import SpeechEngineServer
from tests.helpers import (
    ANSWER_TIMEOUT_S,
    TEST_API_KEY,
    ServerProcess,
    connect,
    environment,
    init_message,
    read_answer,
    spoken,
    transcript_message,
)

TIMEOUT_S = 20.0

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Run a coroutine on a new loop of each kind, which may be done again; no task and no signal handler stays."""

    def run_on_new_loop(coroutine: Coroutine[Any, Any, None]) -> None:
        loop: asyncio.AbstractEventLoop = request.param()
        troubles: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _, context: troubles.append(context))
        before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        try:
            loop.run_until_complete(asyncio.wait_for(coroutine, TIMEOUT_S))
            assert troubles == []
            assert asyncio.all_tasks(loop) == set()
            assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
        finally:
            loop.close()

    return run_on_new_loop


async def echo(transcript: list[Any], session: Any) -> None:
    await session.send_response(transcript[-1].content)


def make_server(**options: Any) -> SpeechEngineServer:
    return SpeechEngineServer(
        **{"port": 0, "host": "127.0.0.1", "api_key": TEST_API_KEY, "on_transcript": echo, **options}
    )


def url_of(server: SpeechEngineServer, path: str = "/ws") -> str:
    return f"ws://127.0.0.1:{server.port}{path}"


@asynccontextmanager
async def serving(server: SpeechEngineServer) -> AsyncIterator[asyncio.Task[None]]:
    """Run `serve()` in a task until the end of the block."""
    task = asyncio.create_task(server.serve())
    ready = asyncio.create_task(server.wait_ready())
    await asyncio.wait([task, ready], return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        ready.cancel()
        await task
    try:
        yield task
    finally:
        await server.stop()
        await server.stop()
        await asyncio.wait([task])


async def assert_answers(server: SpeechEngineServer, api_key: str | None = TEST_API_KEY, path: str = "/ws") -> None:
    async with connect(url_of(server, path), api_key) as caller:
        await assert_talks(caller)


event_ids = itertools.count(1)  # an id that comes again is no new turn


async def assert_talks(caller: Any) -> None:
    await caller.send(transcript_message("hello", event_id=next(event_ids)))
    assert spoken(await asyncio.wait_for(read_answer(caller), ANSWER_TIMEOUT_S)) == "hello"


async def refusal(server: SpeechEngineServer, api_key: str | None, path: str = "/ws") -> int:
    """Return the status that an upgrade is refused with."""
    with pytest.raises(InvalidStatus) as refused:
        await connect(url_of(server, path), api_key).__aenter__()
    return refused.value.response.status_code


async def close_code(caller: Any) -> int | None:
    with pytest.raises(ConnectionClosed):
        await asyncio.wait_for(caller.recv(), ANSWER_TIMEOUT_S)
    code: int | None = caller.close_code
    return code


# --- starting and stopping ------------------------------------------------------------------------------------------


def test_port_0_takes_a_readable_free_port(run: Run) -> None:
    async def scenario() -> None:
        server = make_server()
        assert server.port == 0
        async with serving(server):
            assert server.port > 0
            await assert_answers(server)
        assert server.port == 0

    run(scenario())


def test_serve_may_run_again_on_another_loop(run: Run) -> None:
    server = make_server()

    async def scenario() -> None:
        for _ in range(2):
            async with serving(server) as task:
                await assert_answers(server)
                await server.stop()
                await task

    run(scenario())
    run(scenario())


def test_wait_ready_works_on_several_loops(run: Run) -> None:
    server = make_server(path="/healthz")

    async def in_vain() -> None:
        ready = asyncio.create_task(server.wait_ready())
        with pytest.raises(ConfigError, match="healthz"):
            await server.serve()
        ready.cancel()
        await asyncio.wait([ready])

    async def scenario() -> None:
        async with serving(server):
            await assert_answers(server)

    run(in_vain())
    server._path = "/ws"
    run(scenario())


def test_a_loop_that_served_is_not_kept(run: Run) -> None:
    loops: list[weakref.ref[asyncio.AbstractEventLoop]] = []

    async def scenario() -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        server = make_server()
        async with serving(server):
            await assert_answers(server)

    run(scenario())
    gc.collect()
    assert loops[0]() is None


def test_stop_without_serve_does_nothing(run: Run) -> None:
    run(make_server().stop())


def test_serve_refuses_to_run_twice_at_once(run: Run) -> None:
    async def scenario() -> None:
        server = make_server()
        async with serving(server):
            with pytest.raises(RuntimeError, match="serves already"):
                await server.serve()
            await assert_answers(server)

    run(scenario())


def test_stop_lets_running_conversations_end(run: Run) -> None:
    async def scenario() -> None:
        server = make_server()
        async with serving(server) as task, connect(url_of(server)) as caller:
            await assert_talks(caller)
            url = url_of(server)
            await server.stop()
            await assert_talks(caller)  # by then the loop has turned
            with pytest.raises(ConnectionRefusedError):
                await connect(url).__aenter__()
            await assert_talks(caller)
            assert not task.done()
            await caller.close()
            await task

    run(scenario())


def test_a_second_stop_ends_running_conversations_at_once(run: Run) -> None:
    async def scenario() -> None:
        server = make_server()
        async with serving(server) as task, connect(url_of(server)) as caller:
            await assert_talks(caller)
            await server.stop()
            await server.stop()
            assert await close_code(caller) == 1001
            await task

    run(scenario())


def test_conversations_end_after_the_drain_timeout(run: Run) -> None:
    async def scenario() -> None:
        server = make_server(drain_timeout_s=0.01)
        async with serving(server) as task, connect(url_of(server)) as caller:
            await assert_talks(caller)
            await server.stop()
            assert await close_code(caller) == 1001
            await task

    run(scenario())


@pytest.mark.parametrize("stopped_before", [False, True])
def test_cancellation_ends_everything_at_once(run: Run, stopped_before: bool) -> None:
    async def scenario() -> None:
        server = make_server()
        async with serving(server) as task, connect(url_of(server)) as caller:
            await assert_talks(caller)
            port = server.port
            if stopped_before:
                await server.stop()
                await assert_talks(caller)
            task.cancel()
            assert await close_code(caller) == 1001
            await asyncio.wait([task])
            assert task.cancelled()
            with socket.socket() as again:
                again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                again.bind(("127.0.0.1", port))

    run(scenario())


def test_port_in_use_leaves_nothing_behind(run: Run) -> None:
    async def scenario() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            server = make_server(port=taken.getsockname()[1])
            with pytest.raises(ConfigError, match="already in use"):
                await server.serve()
        async with serving(server):
            await assert_answers(server)

    run(scenario())


def test_path_that_never_matches_frees_the_port(run: Run) -> None:
    async def scenario() -> None:
        server = make_server(path="ws")
        with pytest.raises(ConfigError, match="slash"):
            await server.serve()
        assert server.port == 0

    run(scenario())  # An unclosed socket would be a ResourceWarning, which is an error.


# --- signals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_every_server_of_the_process(run: Run, number: signal.Signals) -> None:
    async def scenario() -> None:
        first, second, gone = make_server(), make_server(), make_server()
        async with serving(gone), serving(first) as task_1, serving(second) as task_2:
            await gone.stop()
            os.kill(os.getpid(), number)
            await asyncio.wait([task_1, task_2], return_when=asyncio.ALL_COMPLETED)

    run(scenario())


def test_signals_of_the_program_are_left_alone(run: Run) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        server, terminated = make_server(), asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, terminated.set)
        try:
            async with serving(server) as task:
                os.kill(os.getpid(), signal.SIGTERM)
                await terminated.wait()
                await assert_answers(server)
                os.kill(os.getpid(), signal.SIGINT)
                await task
            terminated.clear()
            os.kill(os.getpid(), signal.SIGTERM)
            await terminated.wait()
        finally:
            loop.remove_signal_handler(signal.SIGTERM)

    run(scenario())


def test_serve_works_in_a_thread_without_signals() -> None:
    failures: list[BaseException] = []

    async def scenario() -> None:
        server = make_server()
        async with serving(server):
            await assert_answers(server)

    def in_thread() -> None:
        try:
            asyncio.run(asyncio.wait_for(scenario(), TIMEOUT_S))
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=in_thread)
    thread.start()
    thread.join(2 * TIMEOUT_S)
    assert not thread.is_alive()
    assert failures == []


SCRIPT = """
import asyncio, signal, sys, uvloop
from se_server.speech_engine import SpeechEngineResource

class Wrapper:
    def get_headers(self):
        return {"xi-api-key": sys.argv[2]}

async def on_transcript(transcript, session):
    await session.send_response(transcript[-1].content)

async def main():
    engine = SpeechEngineResource("seng_1", Wrapper())
    before = signal.getsignal(signal.SIGINT)
    await engine.serve(port=0, host="127.0.0.1", debug=True, on_transcript=on_transcript)
    assert signal.getsignal(signal.SIGINT) is before
    print("served to the end")

(asyncio.run if sys.argv[1] == "asyncio" else uvloop.run)(main())
print("exits by itself")
"""
LISTENING = r"\[SpeechEngine\] speech engine server listening on port (\d+)"


@asynccontextmanager
async def script(loop: str) -> AsyncIterator[tuple[ServerProcess, str]]:
    """Run a program that serves an engine; yield it and its URL."""
    command = [sys.executable, "-c", SCRIPT, loop, TEST_API_KEY]
    process = ServerProcess(command, environment(None), TEST_API_KEY)
    try:
        listening = await asyncio.to_thread(process.wait_for_output, LISTENING, 30.0)
        yield process, f"ws://127.0.0.1:{listening[1]}/ws"
    finally:
        if process.is_running():
            process.send_signal(signal.SIGKILL)
        await asyncio.to_thread(process.wait)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_signal_stops_after_conversations_have_ended(loop: str, number: signal.Signals) -> None:
    async with script(loop) as (process, url), connect(url) as caller:
        await caller.send(init_message())
        await assert_talks(caller)
        process.send_signal(number)
        await asyncio.to_thread(process.wait_for_output, r"stopping: 1 conversation\(s\) may go on for 30 s")
        await assert_talks(caller)
        await caller.close()
        assert await asyncio.to_thread(process.wait) == 0
        assert "served to the end" in process.output()
        assert "exits by itself" in process.output()
        assert "Traceback" not in process.output()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_a_second_sigint_ends_running_conversations_at_once(loop: str) -> None:
    async with script(loop) as (process, url), connect(url) as caller:
        await assert_talks(caller)
        process.send_signal(signal.SIGINT)
        await asyncio.to_thread(process.wait_for_output, "stopping: 1")
        process.send_signal(signal.SIGINT)
        assert await close_code(caller) == 1001
        assert await asyncio.to_thread(process.wait) == 0
        assert "served to the end" in process.output()
        assert "Traceback" not in process.output()


# --- who may connect ------------------------------------------------------------------------------------------------


def test_only_a_valid_token_is_let_in(run: Run) -> None:
    async def scenario() -> None:
        server = make_server()
        async with serving(server):
            assert await refusal(server, None) == 401
            assert await refusal(server, "sk_another") == 401
            await assert_answers(server)

    run(scenario())


def test_several_keys_are_good_while_one_replaces_another(run: Run) -> None:
    async def scenario() -> None:
        server = make_server(api_key=["sk_old", "sk_new"])
        assert server.api_keys == ("sk_old", "sk_new")
        async with serving(server):
            await assert_answers(server, "sk_old")
            await assert_answers(server, "sk_new")
            assert await refusal(server, TEST_API_KEY) == 401

    run(scenario())


def test_the_key_may_come_from_the_environment(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        server = make_server(api_key=None)
        async with serving(server):
            await assert_answers(server, "sk_environment")
            assert await refusal(server, TEST_API_KEY) == 401

    monkeypatch.setenv("ELEVENLABS_API_KEY", "sk_environment")
    run(scenario())


def test_the_environment_may_hold_several_keys(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        server = make_server(api_key=None)
        async with serving(server):
            await assert_answers(server, "sk_new")
            await assert_answers(server, "sk_old")

    monkeypatch.setenv("ELEVENLABS_API_KEY", "sk_new, sk_old")
    run(scenario())


@pytest.mark.parametrize("api_key", [None, "", []])
def test_no_key_anywhere_is_one_clear_error(run: Run, api_key: Any) -> None:
    async def scenario() -> None:
        for expected in (ConfigError, RuntimeError, KeyMissing):
            with pytest.raises(expected, match=r"api_key=.*ELEVENLABS_API_KEY.*disable_auth=True"):
                await make_server(api_key=api_key).serve()
        with pytest.raises(KeyMissing):
            await SpeechEngineResource("seng_1").serve(port=0)

    run(scenario())


def test_disable_auth_warns_and_lets_everybody_in(run: Run) -> None:
    async def scenario() -> None:
        server = make_server(api_key=None, disable_auth=True)
        async with serving(server):
            await assert_answers(server, None)
            await assert_answers(server, "sk_any")

    with pytest.warns(UserWarning, match="authentication is disabled"):
        run(scenario())


@pytest.mark.parametrize("lock", [{"allow_ips": "127.0.0.1"}, {"require_header": "X-Secret=open"}])
def test_other_access_conditions_suppress_the_warning(run: Run, lock: dict[str, str]) -> None:
    async def scenario() -> None:
        server = make_server(api_key=None, disable_auth=True, **lock)
        async with serving(server), connect(url_of(server), None, headers={"X-Secret": "open"}) as caller:
            await caller.send(transcript_message("hello"))
            assert spoken(await read_answer(caller)) == "hello"

    run(scenario())  # a warning would be an error


def test_other_path_is_not_found(run: Run) -> None:
    async def scenario() -> None:
        server = make_server(path="/ws")
        async with serving(server):
            assert await refusal(server, TEST_API_KEY, "/other") == 404
            assert await refusal(server, None, "/other") == 404
            await assert_answers(server, path="/ws?customer=7")

    run(scenario())


def test_every_path_is_good_without_a_path(run: Run) -> None:
    async def scenario() -> None:
        server = make_server()
        async with serving(server):
            await assert_answers(server, path="/")
            await assert_answers(server, path="/any/where")

    run(scenario())


# --- what it shows and what it lends --------------------------------------------------------------------------------


@pytest.mark.parametrize("debug", [False, True])
def test_debug_prints_what_happens(run: Run, debug: bool, capsys: pytest.CaptureFixture[str]) -> None:
    port = 0

    async def scenario() -> None:
        nonlocal port
        server = make_server(debug=debug)
        async with serving(server), connect(url_of(server)) as caller:
            port = server.port
            await caller.send(init_message("conv_debug"))
            await assert_talks(caller)

    run(scenario())
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert all(line.startswith("[SpeechEngine] ") for line in lines)
    assert bool(lines) is debug
    assert ("conv_debug" in printed) is debug
    assert (f"listening on port {port}" in printed) is debug
    assert TEST_API_KEY not in printed


def test_handle_connection_lends_the_handlers_to_another_server(run: Run) -> None:
    async def scenario() -> None:
        conversation_ids: list[str] = []
        server = make_server(on_init=lambda conversation_id, session: conversation_ids.append(conversation_id))

        async def accept(websocket: Any) -> None:
            await server.handle_connection(websocket).run()

        async with websockets.serve(accept, "127.0.0.1", 0) as other:
            port = next(iter(other.sockets)).getsockname()[1]
            async with connect(f"ws://127.0.0.1:{port}/") as caller:
                await caller.send(init_message("conv_lent"))
                await assert_talks(caller)
        assert conversation_ids == ["conv_lent"]

    run(scenario())


def test_an_engine_shows_its_server_while_it_serves(run: Run) -> None:
    class Wrapper:
        def get_headers(self) -> dict[str, str]:
            return {"xi-api-key": TEST_API_KEY}

    async def scenario() -> None:
        engine = SpeechEngineResource("seng_1", Wrapper())
        for _ in range(2):
            assert engine.server is None
            task = asyncio.create_task(engine.serve(port=0, host="127.0.0.1", on_transcript=echo))
            while engine.server is None:
                assert not task.done(), task
                await asyncio.sleep(0)
            await engine.server.wait_ready()
            await assert_answers(engine.server)
            assert await refusal(engine.server, "sk_another") == 401
            await engine.server.stop()
            await task
        assert engine.server is None

    run(scenario())


def test_engine_shows_no_server_after_failed_start(run: Run) -> None:
    async def scenario() -> None:
        engine = SpeechEngineResource("seng_1")
        with pytest.raises(KeyMissing):
            await engine.serve(port=0)
        assert engine.server is None

    run(scenario())


class Lookalike:
    """A WebSocket of a shape that is accepted."""

    async def recv(self) -> str:
        return ""

    async def send(self, message: str) -> None: ...

    async def close(self) -> None: ...


async def test_a_program_that_reads_late_holds_little() -> None:
    """A program that wraps the WebSocket is given the bytes of two messages ahead, and all of them in the end."""
    heard: list[str] = []
    sent = [json.dumps({"type": "error", "message": f"{number}" + "x" * 90_000}) for number in range(50)]
    begun, may_read, all_heard, served = asyncio.Event(), asyncio.Event(), asyncio.Event(), []

    class Late:
        def __init__(self, ws: Any) -> None:
            served.append(ws)
            self.send, self.close, self._recv = ws.send, ws.close, ws.recv

        async def recv(self) -> str:
            begun.set()
            await may_read.wait()
            heard.append(await self._recv())
            if len(heard) == len(sent):
                all_heard.set()
            return heard[-1]

    class Mine(SpeechEngineServer):
        def handle_connection(self, ws: Any) -> Any:
            return super().handle_connection(Late(ws))

    server = Mine(port=0, host="127.0.0.1", api_key=TEST_API_KEY, on_transcript=echo, max_message_bytes=100_000)
    async with serving(server), connect(url_of(server), max_size=None) as caller:
        sending = asyncio.create_task(send_all(caller, sent))
        await begun.wait()
        for _ in range(2000):  # steps of the loop, in which the rest would come
            await asyncio.sleep(0)
        assert len(served[0]._messages) <= 2
        may_read.set()
        await asyncio.wait_for(sending, ANSWER_TIMEOUT_S)
        await asyncio.wait_for(all_heard.wait(), ANSWER_TIMEOUT_S)
    assert heard == sent


async def send_all(caller: Any, messages: list[str]) -> None:
    for message in messages:
        await caller.send(message)


async def test_sessions_are_made_in_any_thread() -> None:
    engine = SpeechEngineResource("seng_1")
    for make in (engine.create_session, make_server().handle_connection):
        session = await asyncio.to_thread(make, Lookalike())
        assert session.on("close", print).is_open
    with pytest.raises(UnsupportedWebSocket):
        engine.create_session(object())


# --- who may come in ------------------------------------------------------------------------------------------------


async def test_addresses_and_headers_are_keywords() -> None:
    server = make_server(allow_ips=["198.51.100.0/24"], require_header="X-Secret=open", trusted_proxies="127.0.0.1")
    async with serving(server):
        for headers, status in (({"X-Secret": "open"}, "403"), ({"X-Forwarded-For": "198.51.100.7"}, "401")):
            with pytest.raises(InvalidStatus, match=status):
                async with connect(url_of(server), headers=headers):
                    raise AssertionError("unreachable: it was let in")
        async with connect(url_of(server), headers={"X-Secret": "open", "X-Forwarded-For": "198.51.100.7"}) as caller:
            await caller.send(transcript_message("hello"))
            assert spoken(await read_answer(caller)) == "hello"


@pytest.mark.parametrize(
    ("keyword", "wrong", "expected"),
    [
        ("port", "abc", "a port from 0 to 65535"),
        ("port", -1, "a port from 0 to 65535"),
        ("port", 65536, "a port from 0 to 65535"),
        ("drain_timeout_s", "soon", "a number of seconds"),
        ("drain_timeout_s", -1, "a number of seconds"),
        ("host", "http://a/", "an address or a host name"),
        ("disable_auth", "perhaps", "true or false"),
        ("allow_ips", "10.0.0.0/33", "addresses or blocks of them"),
        ("trusted_proxies", 7, "addresses or blocks of them"),
    ],
)
def test_wrong_keyword_is_one_sentence(keyword: str, wrong: Any, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_server(**{keyword: wrong})
    assert str(caught.value).startswith(f"{keyword}: {wrong!r} is not valid: expected {expected}")


def test_a_wrong_secret_is_not_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        make_server(require_header="hunter2")
    assert "hunter2" not in str(caught.value)


# --- stopping before it began ---------------------------------------------------------------------------------------


def test_stop_before_serve_has_begun_counts(run: Run) -> None:
    async def scenario() -> None:
        server = make_server()
        task = asyncio.create_task(server.serve())
        await server.stop()
        await task
        async with serving(server):
            await assert_answers(server)
        await server.stop()  # of nothing, and so forgotten
        async with serving(server):
            await assert_answers(server)

    run(scenario())
