"""Orders of `se-ctl` with big answers, and bad clients of the control socket: no worker ends for them."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from tests.functional.test_se_ctl import command, ctl, ctl_when, run, workers
from tests.helpers import (
    ServerProcess,
    connect,
    init_message,
    read_answer,
    running_server,
    spoken,
    transcript_message,
    wait_for_end,
)

# A turn "deep N" waits below N frames.
AGENT = """
import asyncio, os, sys
sys.setrecursionlimit(20_000)
async def descend(depth):
    if depth:
        await descend(depth - 1)
    else:
        await asyncio.sleep(3600)
async def on_transcript(transcript, session):
    said = transcript[-1].content
    if said.startswith("deep "):
        asyncio.current_task().set_name("n" * 100_000)
        await descend(int(said.split()[1]))
    elif said.startswith("leave "):
        for number in range(int(said.split()[1])):
            asyncio.ensure_future(descend(40)).set_name("\\udc80\\x1b[2J")
    await session.send_response(str(os.getpid()))
"""


_event_ids = itertools.count(100)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "ctl.sock")


@pytest.fixture
def server(tmp_path: Path, path: str) -> Iterator[ServerProcess]:
    app = tmp_path / ("a_long_name_of_a_file_" + "x" * 150 + ".py")
    app.write_text(AGENT)
    options = ("--control-socket", path, "--drain-timeout-s", "0", "--reload-drain-timeout-s", "0")
    with running_server(*options, app=app, workers=1) as running:
        yield running


@contextlib.asynccontextmanager
async def crowd(server: ServerProcess, *names: str, said: str = "") -> AsyncIterator[list[ClientConnection]]:
    """Hold a conversation for each id; with `said`, each has a turn that does not end."""
    async with contextlib.AsyncExitStack() as stack:
        handshakes = asyncio.Semaphore(50)  # each has to end within the server's handshake timeout

        async def join(name: str) -> ClientConnection:
            async with handshakes:
                websocket = await stack.enter_async_context(connect(server.url, open_timeout=60))
            await websocket.send(init_message(name))
            if said:
                await websocket.send(transcript_message(said))
            return websocket

        yield list(await asyncio.gather(*(join(name) for name in names)))


async def ctl_count(path: str, state: str, count: int) -> str:
    """Repeat `conversations --json` until so many conversations are in a state; return the output."""
    deadline = time.monotonic() + 40
    while (output := await ctl(path, "conversations", "--json")).count(f'"{state}"') < count:
        assert time.monotonic() < deadline, output[-2000:]
    return output


async def is_closed(websocket: ClientConnection) -> bool:
    with pytest.raises(ConnectionClosed) as closed:
        await asyncio.wait_for(websocket.recv(), 10)
    return closed.value.rcvd is not None and closed.value.rcvd.reason == "closed by the operator"


async def answers(websocket: ClientConnection) -> int:
    await websocket.send(transcript_message("hello", event_id=next(_event_ids)))
    return int(spoken(await read_answer(websocket)))


async def test_300_long_ids_are_closed(server: ServerProcess, path: str) -> None:
    name = "conv_" + "x" * 3995
    (pid,) = server.worker_pids()
    async with crowd(server, *[name] * 300) as closing, connect(server.url) as other:
        await ctl_when(path, "conversations", "301 conversations")
        assert re.fullmatch(r"closed conv_x{123}, 300 of them\n", await ctl(path, "close", name))
        assert all(await asyncio.gather(*map(is_closed, closing)))
        assert await answers(other) == pid
    assert server.worker_pids() == [pid]


async def test_deep_stacks_of_many_handlers_are_shown(server: ServerProcess, path: str) -> None:
    (pid,) = server.worker_pids()
    names = [f"conv_{number}" for number in range(220)]
    async with crowd(server, *names, said="deep 40"), connect(server.url) as other:
        await ctl_count(path, "thinking", 220)
        shown = await ctl(path, "stacks", str(pid))
        assert shown.count("in on_transcript") >= 150
        assert "more tasks" in shown
        assert await answers(other) == pid
    assert server.worker_pids() == [pid]


async def test_a_recursion_is_shown_by_its_ends(server: ServerProcess, path: str) -> None:
    (pid,) = server.worker_pids()
    async with crowd(server, "conv_deep", said="deep 800"), connect(server.url) as other:
        shown = await ctl_when(path, f"stacks {pid}", "in descend")
        assert "in on_transcript" in shown
        assert re.search(r"\d{3} more frames", shown)
        assert len(shown) < 40_000
        assert await answers(other) == pid


async def test_names_that_are_not_unicode_are_escaped(server: ServerProcess, path: str) -> None:
    """Task names and ids may hold halves of surrogate pairs."""
    (pid,) = server.worker_pids()
    async with crowd(server, "conv_1") as (websocket,):
        await websocket.send(transcript_message("leave 3"))
        await read_answer(websocket)
        assert "task \\udc80\\x1b[2J (waiting)" in await ctl(path, "stacks", str(pid))
        assert await answers(websocket) == pid


async def test_10_000_rows_are_listed_in_pages(server: ServerProcess, path: str) -> None:
    """More conversations than one message could list, each with an id of 4-byte characters."""
    (pid,) = server.worker_pids()
    names = ["\U0001f600" * 130 + str(number) for number in range(1500)]
    async with crowd(server, *names), connect(server.url) as other:
        listed = json.loads(await ctl_count(path, "listening", len(names)))
        assert (len(listed["conversations"]), listed["left_out"]) == (len(names) + 1, 0)
        assert await answers(other) == pid


async def test_a_prefix_closes_one_conversation(server: ServerProcess, path: str) -> None:
    async with crowd(server, "conv_" + "a" * 60_000, "conv_b1", "conv_b2", "conv_\x1b[2J") as (
        long,
        one,
        two,
        escaped,
    ):
        await ctl_when(path, "conversations", "4 conversations")
        ambiguous = await asyncio.to_thread(run, path, "close", "conv_b")
        assert (ambiguous.returncode, ambiguous.stderr) == (
            1,
            "se-ctl: 2 conversations have ids that start with conv_b: give more of the id\n",
        )
        assert re.fullmatch(r"closed conv_a{123}\n", await ctl(path, "close", "conv_aaaa"))
        assert await is_closed(long)
        # As `conversations` shows it.
        assert await ctl(path, "close", r"conv_\x1b[2J") == "closed conv_\\x1b[2J\n"
        assert await is_closed(escaped)
        assert await ctl(path, "close", "conv_b1") == "closed conv_b1\n"
        assert await is_closed(one)
        await answers(two)


async def test_the_shown_form_of_a_long_id_closes_it(server: ServerProcess, path: str) -> None:
    async with crowd(server, "é" * 5_000) as (long,):
        (row,) = json.loads(await ctl_when(path, "conversations --json", r"u00e9"))["conversations"]
        await ctl(path, "close", row["conversation_id"])
        assert await is_closed(long)


async def test_an_exact_id_is_no_prefix(server: ServerProcess, path: str) -> None:
    async with crowd(server, "conv_1", "conv_12") as (one, other):
        await ctl_when(path, "conversations", "2 conversations")
        assert await ctl(path, "close", "conv_1") == "closed conv_1\n"
        assert await is_closed(one)
        await answers(other)


async def test_a_prefix_is_counted_over_all_workers(tmp_path: Path, path: str) -> None:
    app = tmp_path / "agent.py"
    app.write_text(AGENT)
    with running_server("--control-socket", path, "--drain-timeout-s", "0", app=app, workers=2) as server:
        async with crowd(server, *(f"conv_{number}" for number in range(8))) as held:
            await ctl_when(path, "conversations", "8 conversations")
            assert {row["sessions"] > 0 for row in await workers(path)} == {True}
            refused = await asyncio.to_thread(run, path, "close", "conv")
            assert refused.stderr == "se-ctl: 8 conversations have ids that start with conv: give more of the id\n"
            assert await ctl(path, "close", "conv_7") == "closed conv_7\n"
            assert await is_closed(held[7])


@pytest.mark.parametrize("name", ["x" * 5_000, "\x7f" * 4_000, "x" * (1 << 21), "\udcff" * 900])
def test_an_argument_that_is_too_long_is_refused(path: str, server: ServerProcess, name: str, capsys: object) -> None:
    from se_server.cli.ctl import main

    assert main(["--socket", path, "close", name]) == 1
    assert main(["--socket", path, "status"]) == 0


def patient(path: str) -> socket.socket:
    """Connect, waiting while the queue of the socket is full."""
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(10)
    while True:
        try:
            client.connect(path)
        except BlockingIOError:
            time.sleep(0.01)
        else:
            return client


def raw(path: str, *pieces: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(path)
        answer = b""
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                connection.sendall(piece)
        with contextlib.suppress(ConnectionError):
            while data := connection.recv(1 << 16):
                answer += data
        return answer


DEEP = b"[" * 900 + b"]" * 900


@pytest.mark.parametrize(
    "line",
    [
        b'{"command":"drain","argument":%s}' % DEEP,
        b'{"command":"stacks","argument":%s}' % DEEP,
        b'{"command":"close","argument":%s}' % DEEP,
        b'{"command":%s}' % DEEP,
        b'{"command":"scale","argument":1%s}' % (b"0" * 4000),
        b'{"command":"scale","argument":-1e400}',
        b'{"command":"drain","argument":%s}' % (b"9" * 4000),
        b'{"command":"stacks","argument":"%s"}' % (b"\\u007f" * 600),
        b'{"command":"close","argument":"%s"}' % (b"\\u0000" * 600),
        b"\x00" * 4095,
        b"\xff" * 5000,
        b"{" * 100_000,
        b"",
    ],
)
def test_an_odd_request_gets_an_answer(server: ServerProcess, path: str, line: bytes) -> None:
    before = server.worker_pids()
    answer = json.loads(raw(path, line + b"\n"))
    assert "error" in answer or answer["rows"] == []
    assert len(json.dumps(answer)) < 2_000
    assert json.loads(raw(path, b'{"command":"status"}\n'))["state"] == "ready"
    assert server.worker_pids() == before
    assert max(map(len, server.output().splitlines())) < 1_000


@pytest.mark.parametrize("kind", ["silent", "half a request", "never reads", "garbage"])
def test_1000_bad_clients_keep_no_operator_out(server: ServerProcess, path: str, kind: str) -> None:
    said = {"silent": b"", "half a request": b'{"comm', "never reads": b'{"command":"stacks","argument":0}\n'}
    held = []
    done_at = time.monotonic() + 20
    while len(held) < 1000 and time.monotonic() < done_at:
        client = patient(path)
        with contextlib.suppress(ConnectionError):
            client.sendall(said.get(kind, os.urandom(10_000)))
        held.append(client)
    assert len(held) == 1000
    began = time.monotonic()
    for _ in range(5):
        shown = run(path, "status")
        assert (shown.returncode, shown.stderr) == (0, "")
    assert time.monotonic() - began < 40
    for client in held:
        client.close()
    assert run(path, "conversations").returncode == 0


async def test_a_stopped_worker_takes_its_orders_later(server: ServerProcess, path: str) -> None:
    """Orders that pile up are refused or kept whole: none arrives in pieces, and the order to drain is kept."""
    (pid,) = server.worker_pids()
    async with crowd(server, "conv_1") as (websocket,):
        await answers(websocket)
        os.kill(pid, signal.SIGSTOP)
        asked = b'{"command":"close","argument":"%s"}\n' % (b"y" * 4_000)

        def pile_up() -> None:
            clients = []
            for _ in range(600):
                client = patient(path)
                with contextlib.suppress(ConnectionError):  # it was refused
                    client.sendall(asked)
                clients.append(client)
            for client in clients:
                client.close()

        await asyncio.to_thread(pile_up)
        await asyncio.to_thread(run, path, "drain", str(pid))
        os.kill(pid, signal.SIGCONT)
        with pytest.raises(ConnectionClosed):
            await asyncio.wait_for(websocket.recv(), 15)
    wait_for_end([pid])
    assert "invalid control message" not in server.output()
    assert "did not end in time" not in server.output()


async def test_a_supervisor_that_was_stopped_kills_no_worker(server: ServerProcess, path: str) -> None:
    """A worker's long answer waits, whole, for a supervisor that does not read for a while."""
    (pid,) = server.worker_pids()
    names = [f"conv_{number}" for number in range(220)]
    async with crowd(server, *names, said="deep 40"), connect(server.url) as other:
        await ctl_count(path, "thinking", 220)
        os.kill(pid, signal.SIGSTOP)
        asking = [
            await asyncio.create_subprocess_exec(
                *command(path, "stacks", str(pid)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            for _ in range(4)
        ]
        await asyncio.sleep(0.5)  # the questions are sent
        os.kill(server.pid, signal.SIGSTOP)
        os.kill(pid, signal.SIGCONT)
        await asyncio.sleep(3)  # longer than the worker waits for room
        await answers(other)
        os.kill(server.pid, signal.SIGCONT)
        for process in asking:
            await process.wait()
        assert await answers(other) == pid
        assert "in on_transcript" in await ctl(path, "stacks", str(pid))
    assert server.worker_pids() == [pid]
    assert "invalid control message" not in server.output()
