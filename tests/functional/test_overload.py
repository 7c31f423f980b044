"""Beyond its limits a server refuses new conversations, early and with 503, and leaves those that are up alone."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import InvalidMessage, InvalidStatus

from tests.functional.processes import get, write_agent
from tests.helpers import (
    ANSWER_TIMEOUT_S,
    START_TIMEOUT_S,
    ServerProcess,
    connect,
    read_answer,
    read_message,
    running_server,
    spoken,
    stopped_at_the_end,
    transcript_message,
)

AGENT = """
    import asyncio, os, time
    async def on_transcript(transcript, session):
        said = transcript[-1].content
        if said == "wait":
            await session.send_response("waiting", final=False)
            await asyncio.sleep(3600)
        if said == "block":
            await session.send_response("blocking", final=False)
            while not os.path.exists(os.path.join(os.path.dirname(__file__), "go")):
                time.sleep(0.01)
        await session.send_response("done")
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    return write_agent(tmp_path / "agent.py", AGENT)


async def refused(server: ServerProcess) -> InvalidStatus:
    """Ask for a conversation that must be refused."""
    with pytest.raises(InvalidStatus) as status:
        async with connect(server.url):
            pass
    return status.value


async def heard(websocket: ClientConnection, text: str, event_id: int) -> str:
    await websocket.send(transcript_message(text, event_id=event_id))
    messages = await asyncio.wait_for(read_answer(websocket), ANSWER_TIMEOUT_S)
    return spoken([message for message in messages if message.get("event_id") == event_id])


@asynccontextmanager
async def let_in(server: ServerProcess) -> AsyncIterator[ClientConnection]:
    """Hold a conversation, as soon as the server takes one."""
    deadline = time.monotonic() + ANSWER_TIMEOUT_S
    while True:
        try:
            async with connect(server.url) as websocket:
                yield websocket
                return
        except InvalidStatus as status:
            if status.response.status_code != 503 or time.monotonic() > deadline:
                raise


async def test_beyond_max_sessions_a_server_answers_503(app: Path) -> None:
    with running_server("--max-sessions", "2", app=app) as server:
        async with connect(server.url) as first, connect(server.url):
            status = await refused(server)
            assert status.response.status_code == 503
            assert status.response.headers["Retry-After"] == "1"
            assert await heard(first, "hello", 1) == "done"
        async with let_in(server) as websocket:
            assert await heard(websocket, "hello", 1) == "done"


async def test_a_refused_token_takes_no_seat(app: Path) -> None:
    with running_server("--max-sessions", "1", app=app) as server:
        for _ in range(3):
            with pytest.raises(InvalidStatus, match="401"):
                async with connect(server.url, "sk_a_wrong_key"):
                    pass
        async with connect(server.url) as websocket:
            assert await heard(websocket, "hello", 1) == "done"


async def test_too_many_turns_refuse_new_conversations(app: Path) -> None:
    with running_server("--max-turns", "1", app=app, workers=1) as server:
        async with connect(server.url) as busy, connect(server.url) as other:
            await busy.send(transcript_message("wait", event_id=1))
            await read_message(busy)
            assert (await refused(server)).response.status_code == 503
            assert (await get(server, "/available"))[
                1
            ] == '{"available":false,"reason":"saturated","limit":"max_turns"}\n'
            assert await get(server) == (200, '{"ready":true}\n')
            assert await heard(other, "hello", 1) == "done"
            assert await heard(busy, "hello", 2) == "done"
            async with let_in(server):
                assert (await get(server, "/available"))[0] == 200


async def test_worker_beyond_max_turns_leaves_the_queue(app: Path) -> None:
    with running_server("--max-turns", "1", app=app, workers=2) as server:
        async with connect(server.url) as busy:
            await busy.send(transcript_message("wait", event_id=1))
            await read_message(busy)
            for _ in range(20):
                async with connect(server.url) as websocket:
                    assert await heard(websocket, "hello", 1) == "done"


async def test_a_late_loop_refuses_who_came_meanwhile(app: Path) -> None:
    with running_server("--shed-loop-lag-s", "0.2", app=app, workers=1) as server:
        async with connect(server.url) as websocket:
            await websocket.send(transcript_message("block", event_id=1))
            await read_message(websocket)

            async def come() -> int:
                try:
                    async with connect(server.url):
                        return 101
                except InvalidStatus as status:
                    return status.response.status_code

            came = [asyncio.ensure_future(come()) for _ in range(3)]
            await asyncio.sleep(0.5)  # the lag of the loop, which they find
            (app.parent / "go").touch()
            assert 503 in await asyncio.gather(*came)
            assert spoken(await asyncio.wait_for(read_answer(websocket), ANSWER_TIMEOUT_S)) == "done"
            async with let_in(server) as other:
                assert await heard(other, "hello", 1) == "done"


async def test_worker_beyond_pending_handshakes_answers_checks_only(app: Path) -> None:
    with running_server("--max-pending-handshakes", "2", app=app, workers=1) as server:
        silent = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(2)]
        try:
            assert (await refused(server)).response.status_code == 503
            assert await get(server, "/healthz") == (200, "ok\n")
            assert (await get(server, "/available"))[0] == 503
            assert (await get(server, "/readyz"))[0] == 200
        finally:
            for _, writer in silent:
                writer.close()
                await writer.wait_closed()
        async with let_in(server) as websocket:
            assert await heard(websocket, "hello", 1) == "done"


async def test_upgrade_shares_seats_with_the_old_supervisor(app: Path) -> None:
    """The old workers' conversations count until they end, and those of killed ones come back, supervisor included."""
    with running_server("--max-sessions", "3", "--log-level", "debug", app=app) as server:
        async with AsyncExitStack() as old:
            held = [await old.enter_async_context(connect(server.url)) for _ in range(3)]
            old_workers = server.worker_pids()
            server.send_signal(signal.SIGUSR2)
            new = int(server.wait_for_output(r"upgrade: supervisor (\d+) serves", START_TIMEOUT_S)[1])
            with stopped_at_the_end(new):
                for pid in old_workers:
                    server.wait_for_output(rf"\(pid {pid}\) drains")
                for _ in range(10):
                    assert (await refused(server)).response.status_code == 503
                body = (await get(server, "/available"))[1]
                assert body == '{"available":false,"reason":"saturated","limit":"max_sessions"}\n'
                await held.pop().close()
                async with let_in(server) as after:
                    assert await heard(after, "hello", 1) == "done"
                    assert await heard(held[0], "hello", 1) == "done"
                    assert (await refused(server)).response.status_code == 503
                    for pid in (server.pid, *old_workers):
                        with suppress(ProcessLookupError):  # the one without conversations has ended
                            os.kill(pid, signal.SIGKILL)
                    async with let_in(server), let_in(server):
                        assert (await refused(server)).response.status_code == 503
        assert server.wait() == -signal.SIGKILL


def is_up(websocket: ClientConnection) -> bool:
    """Whether the server's end is still there: the kernel knows of a killed one before the event loop does."""
    descriptor = websocket.transport.get_extra_info("socket").fileno()
    if descriptor < 0:
        return False
    with socket.socket(fileno=os.dup(descriptor)) as sock:
        try:
            return sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
        except BlockingIOError:
            return True
        except OSError:
            return False


@pytest.mark.timeout(120)
async def test_race_for_seats_never_gives_too_many(app: Path) -> None:
    seats, callers = 100, 1000
    live: set[ClientConnection] = set()
    most = asked = 0
    statuses = set()
    settled = asyncio.Event()
    with running_server("--max-sessions", str(seats), app=app, workers=4) as server:
        victim = random.Random(7).choice(server.worker_pids())
        stop = asyncio.ensure_future(settled.wait())

        def look() -> None:
            if asked > callers and len(live) == seats and all(map(is_up, live)):
                settled.set()

        async def hold(websocket: ClientConnection) -> None:
            nonlocal most
            live.add(websocket)
            try:
                if len(live) > seats:  # or so it seems: some may be gone
                    live.intersection_update([one for one in live if is_up(one)])
                most = max(most, len(live))
                look()
                closed = asyncio.ensure_future(websocket.wait_closed())
                await asyncio.wait([closed, stop], return_when=asyncio.FIRST_COMPLETED)
                closed.cancel()
            finally:
                live.discard(websocket)

        async def call() -> None:
            nonlocal asked
            while not settled.is_set():
                asked += 1
                if asked == callers // 2:
                    os.kill(victim, signal.SIGKILL)
                try:
                    async with connect(server.url, open_timeout=30) as websocket:
                        await hold(websocket)
                except InvalidStatus as status:
                    statuses.add(status.response.status_code)
                    look()
                except (OSError, EOFError, InvalidMessage):
                    continue  # it was with the worker that was killed

        await asyncio.wait_for(asyncio.gather(*(call() for _ in range(150))), 100)
        await stop
        assert most == seats
        assert statuses == {503}
