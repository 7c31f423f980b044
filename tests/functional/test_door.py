"""The door over real sockets, on asyncio's loop and on uvloop."""

from __future__ import annotations

import asyncio
import http.client
import os
import resource
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from typing import Any

import pytest
import uvloop
from websockets.exceptions import ConnectionClosed, InvalidStatus

from se_server.auth import AUTHORIZATION_HEADER, TokenVerifier, sign_token
from se_server.conversation.session import SpeechEngineSession
from se_server.conversation.settings import DEFAULT_SETTINGS, SessionSettings
from se_server.errors import ConfigError
from se_server.server.door import acceptor, leaving
from se_server.server.door.acceptor import Acceptor
from se_server.server.door.door import Door
from se_server.server.door.limits import Limits
from se_server.server.door.placement import Placement
from se_server.server.door.refusals import RefusalLog
from se_server.server.listen.sockets import bind
from tests.doors import make_door, make_routes
from tests.helpers import TEST_API_KEY, connect, init_message, read_answer, spoken, transcript_message

TIMEOUT_S = 20.0
HEALTH_CHECK = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
ACCEPTED = b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

Run = Callable[[Coroutine[Any, Any, None]], None]
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Run a coroutine on a loop of each kind; nothing may go wrong behind its back and no task may stay."""
    loop: asyncio.AbstractEventLoop = request.param()
    troubles: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: troubles.append(context))
    try:
        yield lambda coroutine: loop.run_until_complete(asyncio.wait_for(coroutine, TIMEOUT_S))
        assert troubles == []
        assert asyncio.all_tasks(loop) == set()
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())  # the thread of http.client
        loop.close()


class Served:
    """An open door."""

    def __init__(self, door: Door, host: str, port: int, listen_sockets: list[socket.socket]) -> None:
        self.door = door
        self.listen_sockets = listen_sockets
        self.host = host
        self.port = port
        self.url = f"ws://{host}:{port}/ws"

    async def open_streams(self) -> Streams:
        return await asyncio.open_connection(self.host, self.port)

    async def ask(self, request: bytes) -> bytes:
        """Send bytes and return everything that comes until the server closes."""
        reader, writer = await self.open_streams()
        writer.write(request)
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until something that has no event of its own has come about; `run` bounds it."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0)


async def echo(transcript: list[Any], session: SpeechEngineSession) -> None:
    await session.send_response(transcript[-1].content)


@asynccontextmanager
async def opened(
    *,
    verifier: TokenVerifier | None = None,
    path: str | None = "/ws",
    limits: Limits | None = None,
    host: str = "127.0.0.1",
    settings: SessionSettings = DEFAULT_SETTINGS,
    **handlers: Any,
) -> AsyncIterator[Served]:
    sockets = bind(host, 0)
    port = sockets[0].getsockname()[1]
    door = make_door(
        sockets,
        path,
        verifier=verifier,
        settings=settings,
        handlers=handlers or {"on_transcript": echo},
        limits=limits,
    )
    door.open()
    try:
        yield Served(door, host, port, sockets)
    finally:
        await door.close()
        assert door.sessions == set()
        assert door.connections == set()


async def closed(streams: Streams) -> None:
    streams[1].close()
    try:
        await streams[1].wait_closed()
    except ConnectionError:
        return  # reset by the door, which is what the test was about


# --- plain requests -------------------------------------------------------------------------------------------------


def test_http_client_keeps_its_connection_for_health_checks(run: Run) -> None:
    def check(port: int) -> list[tuple[int, bytes]]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
        answers = []
        for method, path in (("GET", "/livez"), ("HEAD", "/healthz"), ("OPTIONS", "/healthz"), ("GET", "/nowhere")):
            connection.request(method, path)
            response = connection.getresponse()
            answers.append((response.status, response.read()))
            assert connection.sock is not None  # http.client drops it when the server will
        connection.close()
        return answers

    async def main() -> None:
        async with opened() as served:
            answers = await asyncio.to_thread(check, served.port)
            assert answers == [(200, b"ok\n"), (200, b""), (200, b""), (404, b"not found\n")]

    run(main())


@pytest.mark.parametrize(
    ("request_bytes", "start"),
    [
        (b"OPTIONS / HTTP/1.0\r\n\r\n", b"HTTP/1.1 200 OK\r\n"),
        (b"GET /healthz HTTP/1.0\r\n\r\n", b"HTTP/1.1 200 OK\r\n"),
        (b"GET /healthz HTTP/1.1\r\nconnection: close\r\n\r\n", b"HTTP/1.1 200 OK\r\n"),
        (b"POST /ws HTTP/1.1\r\nHost: a\r\n\r\n", b"HTTP/1.1 405 Method Not Allowed\r\n"),
        (b"\x16\x03\x01\x00\xc8\x01\x00", b"HTTP/1.1 400 Bad Request\r\n"),
        (UPGRADE.replace(b"/ws", b"/elsewhere"), b"HTTP/1.1 404 Not Found\r\n"),
        (b"GET /ws HTTP/1.1\r\n" + b"x: " + b"y" * 20_000, b"HTTP/1.1 431 "),
    ],
)
def test_last_answer_arrives_and_then_the_end(run: Run, request_bytes: bytes, start: bytes) -> None:
    async def main() -> None:
        async with opened() as served:
            assert (await served.ask(request_bytes)).startswith(start)

    run(main())


def test_response_to_a_large_body_arrives(run: Run) -> None:
    async def main() -> None:
        async with opened() as served:
            body = bytes(512 * 1024)
            request = b"POST /ws HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body)
            assert (await served.ask(request + body)).startswith(b"HTTP/1.1 413 ")

    run(main())


def test_pipelined_requests_are_answered_in_order(run: Run) -> None:
    async def main() -> None:
        async with opened() as served:
            reader, writer = await served.open_streams()
            writer.write(HEALTH_CHECK + b"GET /nowhere HTTP/1.1\r\n\r\n" + UPGRADE)
            received = await reader.readuntil(b"\r\n\r\n" + b"ok\n")
            assert received.startswith(b"HTTP/1.1 200 ")
            received = await reader.readuntil(b"not found\n")
            assert received.startswith(b"HTTP/1.1 404 ")
            received = await reader.readuntil(b"\r\n\r\n")
            assert received.startswith(b"HTTP/1.1 101 ")
            assert ACCEPTED in received
            await closed((reader, writer))

    run(main())


def test_head_split_at_every_byte_is_upgraded(run: Run) -> None:
    async def main() -> None:
        async with opened() as served:
            reader, writer = await served.open_streams()
            sock = writer.get_extra_info("socket")
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for n in range(len(UPGRADE)):
                writer.write(UPGRADE[n : n + 1])
                await asyncio.sleep(0)  # lets the door, on the same loop, read what came
            assert ACCEPTED in await reader.readuntil(b"\r\n\r\n")
            await closed((reader, writer))

    run(main())


# --- time and floods ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [b"", b"GET /ws HTTP/1.1\r\nHost"])
def test_late_head_is_answered_408(run: Run, start: bytes) -> None:
    async def main() -> None:
        async with opened(limits=Limits(head_timeout_s=0.05)) as served:
            assert (await served.ask(start)).startswith(b"HTTP/1.1 408 Request Timeout\r\n")

    run(main())


@pytest.mark.parametrize("request_bytes", [HEALTH_CHECK, UPGRADE], ids=["check", "upgrade"])
def test_a_head_that_waited_for_blocked_code_is_answered(run: Run, request_bytes: bytes) -> None:
    async def main() -> None:
        async with opened(limits=Limits(head_timeout_s=0.6)) as served:
            with socket.create_connection((served.host, served.port)) as peer:
                await until(lambda: len(served.door.connections) == 1)
                peer.setblocking(False)
                loop = asyncio.get_running_loop()
                ours, theirs = socket.socketpair()
                blocked = asyncio.Event()

                def block() -> None:  # as a handler that starts when its transcript is read
                    loop.remove_reader(ours)
                    peer.send(request_bytes)
                    time.sleep(0.7)
                    blocked.set()

                with ours, theirs:
                    loop.add_reader(ours, block)
                    theirs.send(b"x")
                    await blocked.wait()
                answer = await loop.sock_recv(peer, 12)
            assert answer in (b"HTTP/1.1 200", b"HTTP/1.1 101")

    run(main())


def test_head_timeout_covers_the_whole_head(run: Run) -> None:
    async def main() -> None:
        async with opened(limits=Limits(head_timeout_s=0.1)) as served:
            reader, writer = await served.open_streams()
            writer.write(b"GET /ws HTTP/1.1\r\n")
            answer = asyncio.ensure_future(reader.readline())
            while not answer.done():
                writer.write(b"a: b\r\n")
                await asyncio.wait([answer], timeout=0.01)
            assert answer.result() == b"HTTP/1.1 408 Request Timeout\r\n"
            await closed((reader, writer))

    run(main())


def test_an_idle_connection_is_closed_without_a_word(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with opened(limits=Limits(keep_alive_s=0.05)) as served:
            answer = await served.ask(HEALTH_CHECK)
            assert answer.endswith(b"\r\n\r\nok\n")
        assert caplog.messages == []

    run(main())


def test_the_connection_that_rests_longest_makes_room(run: Run) -> None:
    async def main() -> None:
        async with opened(limits=Limits(max_resting=2)) as served:
            streams = [await served.open_streams() for _ in range(3)]

            async def check(number: int) -> None:
                reader, writer = streams[number]
                writer.write(HEALTH_CHECK)
                await reader.readuntil(b"ok\n")

            for number in (0, 1, 0, 2):  # before the third one comes, the second one rests longest
                await check(number)
            assert await streams[1][0].read() == b""
            await check(0)
            await check(2)
            for each in streams:
                await closed(each)

    run(main())


def test_a_later_head_has_its_time_as_well(run: Run) -> None:
    async def main() -> None:
        async with opened(limits=Limits(head_timeout_s=0.05)) as served:
            answer = await served.ask(HEALTH_CHECK + b"GET /healthz")
            assert b"ok\nHTTP/1.1 408 " in answer

    run(main())


def test_head_timeout_covers_later_heads(run: Run) -> None:
    async def main() -> None:
        async with opened(limits=Limits(head_timeout_s=0.05)) as served:
            reader, writer = await served.open_streams()
            writer.write(HEALTH_CHECK)
            await reader.readuntil(b"ok\n")
            writer.write(b"GET /healthz")
            assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
            await closed((reader, writer))

    run(main())


def test_refused_peer_that_stays_is_dropped(run: Run) -> None:
    async def main() -> None:
        async with opened(limits=Limits(linger_s=0.05)) as served:
            reader, writer = await served.open_streams()
            writer.write(b"nonsense\r\n\r\n")
            assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
            await until(lambda: not served.door.connections)  # our side stays open; the door's does not
            await closed((reader, writer))

    run(main())


def test_who_asks_without_reading_is_dropped(run: Run) -> None:
    async def main() -> None:
        async with opened(limits=Limits(max_pipelined=1_000_000)) as served:
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(sock, (served.host, served.port))
            dropped = False
            while not dropped:
                try:
                    await loop.sock_sendall(sock, HEALTH_CHECK * 8)
                except ConnectionError:
                    dropped = True
            sock.close()

    run(main())


def test_connections_reset_at_once_do_no_harm(run: Run) -> None:
    async def main() -> None:
        async with opened() as served:
            for payload in (b"", HEALTH_CHECK, UPGRADE, b"nonsense\r\n\r\n") * 25:
                with socket.create_connection((served.host, served.port)) as sock:
                    sock.sendall(payload)
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                await asyncio.sleep(0)
            assert b"200 OK" in await served.ask(HEALTH_CHECK.replace(b"Host: a", b"Connection: close"))
            await until(lambda: not served.door.sessions)

    run(main())


def test_refusals_are_logged_once_a_second(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        began = time.monotonic()
        async with opened() as served:
            for _ in range(20):
                await served.ask(b"GET /nowhere?secret=1 HTTP/1.0\r\n\r\n")
        assert len(caplog.records) <= 3 + (time.monotonic() - began)
        assert caplog.records[0].name == "se_server.door"
        assert caplog.messages[0].startswith("no such path: 127.0.0.1:")
        assert "404 (path '/nowhere')" in caplog.messages[0]
        assert "more of these" in caplog.messages[-1]
        assert "secret" not in caplog.text

    run(main())


# --- accepting ------------------------------------------------------------------------------------------------------


def test_two_doors_share_a_listen_socket(run: Run) -> None:
    async def main() -> None:
        async with opened() as served:
            other = make_door([sock.dup() for sock in served.listen_sockets])
            other.open()  # Both wake up for each connection; one of them finds nothing.
            answers = await asyncio.gather(*(served.ask(b"GET /healthz HTTP/1.0\r\n\r\n") for _ in range(50)))
            assert all(answer.endswith(b"ok\n") for answer in answers)
            await other.close()
            assert (await served.ask(b"GET /healthz HTTP/1.0\r\n\r\n")).endswith(b"ok\n")

    run(main())


def test_stopped_door_leaves_connections_in_the_queue(run: Run) -> None:
    async def main() -> None:
        async with opened() as served:
            served.door.stop_accepting()
            reader, writer = await served.open_streams()
            writer.write(HEALTH_CHECK)
            pending = asyncio.ensure_future(reader.readline())
            done, _ = await asyncio.wait([pending], timeout=0.05)
            assert not done
            other = make_door([sock.dup() for sock in served.listen_sockets])
            other.open()
            assert await pending == b"HTTP/1.1 200 OK\r\n"
            await closed((reader, writer))
            await other.close()

    run(main())


@contextmanager
def no_descriptors_left() -> Iterator[list[int]]:
    """Use up all descriptors; yield some whose closing frees them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    filled: list[int] = []
    try:
        highest = max(int(name) for name in os.listdir("/dev/fd"))  # there may be few free numbers below it
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 32, hard))
        with suppress(OSError):
            while True:
                filled.append(os.dup(0))
        yield filled
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in filled:
            os.close(fd)


@contextmanager
def several_sockets(count: int) -> Iterator[list[socket.socket]]:
    """Make sockets, and close them at the end."""
    with ExitStack() as stack:
        yield [stack.enter_context(socket.socket()) for _ in range(count)]


class CountingPlacement(Placement):
    """Lets an acceptor accept at once, and counts how often it was woken."""

    def __init__(self) -> None:
        self.wake_ups = 0

    def pause_s(self, listen_socket: socket.socket) -> float:
        self.wake_ups += 1
        return 0.0


async def connect_waiting(address: tuple[str, int], waiting: list[socket.socket], request: bytes) -> None:
    loop = asyncio.get_running_loop()
    for sock in waiting:
        sock.setblocking(False)
        await loop.sock_connect(sock, address)
        await loop.sock_sendall(sock, request)


def test_door_recovers_when_descriptors_run_out(
    run: Run, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acceptor, "PAUSES_S", (0.02, 0.04))

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with opened() as served:
            with several_sockets(5) as waiting, no_descriptors_left() as filled:
                await connect_waiting((served.host, served.port), waiting, UPGRADE)
                for sock in waiting:  # all before the first is closed: the door would have its descriptor
                    answer = await loop.sock_recv(sock, 4096)
                    assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
                    assert b"Retry-After: " in answer
                for _ in range(4):
                    os.close(filled.pop())
                while (answer := await served.ask(b"GET /healthz HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.1 503 "):
                    pass
                assert answer.endswith(b"ok\n")
        lines = [message for message in caplog.messages if message.startswith("cannot accept connections")]
        assert 1 <= len(lines) <= 2
        assert "Too many open files" in lines[0]

    run(main())


def test_without_any_descriptor_the_acceptor_pauses(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """No descriptor could be held back either: connections wait, and the loop does not spin."""
    monkeypatch.setattr(acceptor, "PAUSES_S", (0.02, 0.04))

    async def main() -> None:
        loop = asyncio.get_running_loop()
        placement, accepted = CountingPlacement(), []
        sockets = bind("127.0.0.1", 0)
        tested = Acceptor(
            loop, sockets, lambda sock, *_: accepted.append(sock), RefusalLog(loop.time), placement=placement
        )
        with several_sockets(3) as waiting, no_descriptors_left() as filled:
            tested.open()
            started_s = loop.time()
            await connect_waiting(sockets[0].getsockname(), waiting, HEALTH_CHECK)
            await until(lambda: placement.wake_ups >= 4)
            assert loop.time() - started_s > 0.08  # pauses of 0.02, 0.04, 0.04
            for _ in range(8):
                os.close(filled.pop())
            await until(lambda: len(accepted) == 3)
        tested.close()
        for sock in (*sockets, *accepted):
            sock.close()

    run(main())


def test_path_that_never_matches_is_one_sentence() -> None:
    for path, sentence in (
        ("ws", "begin it with a slash, as in '/ws'"),
        ("/healthz", "belongs to health checks"),
        ("/available", "belongs to health checks"),
        ("/ws?x=1", "leave the query out"),
        ("/größe", "percent-encode"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            make_routes(path)


# --- conversations --------------------------------------------------------------------------------------------------


def test_a_websockets_client_holds_a_conversation(run: Run) -> None:
    sessions: list[SpeechEngineSession] = []

    async def on_init(conversation_id: str, session: SpeechEngineSession) -> None:
        sessions.append(session)

    async def main() -> None:
        verifier = TokenVerifier(TEST_API_KEY)
        async with opened(verifier=verifier, on_init=on_init, on_transcript=echo) as served:
            async with connect(served.url + "?tenant=7", headers={"X-Caller": "me"}) as websocket:
                await websocket.send(init_message("conv_9"))
                await websocket.send(transcript_message("hello"))
                assert spoken(await read_answer(websocket)) == "hello"
                [session] = served.door.sessions
                assert [session] == sessions
                assert (session.path, session.query) == ("/ws", "tenant=7")
                assert session.headers["x-caller"] == "me"
                host, port = websocket.local_address
                assert session.remote == f"{host}:{port}"
                assert served.door.connections == set()
            await until(lambda: not served.door.sessions)

    run(main())


def test_frames_right_behind_the_head_are_read(run: Run) -> None:
    ping = bytes((0x89, 0x82, 1, 2, 3, 4, ord("h") ^ 1, ord("i") ^ 2))

    async def main() -> None:
        async with opened() as served:
            reader, writer = await served.open_streams()
            writer.write(UPGRADE + ping)
            assert ACCEPTED in await reader.readuntil(b"\r\n\r\n")
            assert await reader.readexactly(4) == b"\x8a\x02hi"
            await closed((reader, writer))

    run(main())


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, "TokenMissing"),
        ({AUTHORIZATION_HEADER: "Bearer " + sign_token("another key")}, "SignatureMismatch"),
        ({AUTHORIZATION_HEADER: sign_token(TEST_API_KEY, now=1_000_000_000)}, "TokenExpired"),
        ({AUTHORIZATION_HEADER: "nonsense"}, "TokenMalformed"),
    ],
)
def test_bad_tokens_get_401_and_a_logged_reason(
    run: Run, caplog: pytest.LogCaptureFixture, headers: dict[str, str], reason: str
) -> None:
    answers: set[bytes] = set()

    async def main() -> None:
        async with opened(verifier=TokenVerifier(TEST_API_KEY)) as served:
            with pytest.raises(InvalidStatus) as refused:
                async with connect(served.url, api_key=None, headers=headers):
                    raise AssertionError
            response = refused.value.response
            assert response.status_code == 401
            answers.add(bytes(response.body or b""))
            assert served.door.sessions == set()
        assert reason in caplog.text
        for value in headers.values():
            assert value.removeprefix("Bearer ") not in caplog.text

    run(main())
    assert answers == {b"unauthorized\n"}


def test_path_is_checked_before_the_token(run: Run) -> None:
    async def main() -> None:
        async with opened(verifier=TokenVerifier(TEST_API_KEY)) as served:
            with pytest.raises(InvalidStatus) as refused:
                async with connect(f"ws://127.0.0.1:{served.port}/other?x=/ws", api_key=None):
                    raise AssertionError
            assert refused.value.response.status_code == 404

    run(main())


# --- drain ----------------------------------------------------------------------------------------------------------


def test_drain_waits_for_the_running_conversation(run: Run) -> None:
    async def main() -> None:
        async with opened() as served:
            idle = await served.open_streams()
            idle[1].write(HEALTH_CHECK)
            await idle[0].readuntil(b"ok\n")
            async with connect(served.url, api_key=None) as websocket:
                drain = asyncio.ensure_future(served.door.drain(TIMEOUT_S))
                with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                    await idle[0].readexactly(1)
                with pytest.raises(ConnectionRefusedError):
                    await served.open_streams()
                await websocket.send(transcript_message("still here"))
                assert spoken(await read_answer(websocket)) == "still here"
                assert not drain.done()
            await drain
            assert served.door.sessions == set()
            await closed(idle)

    run(main())


def test_earlier_connection_still_becomes_a_conversation(run: Run) -> None:
    async def main() -> None:
        async with opened() as served:
            (reader, writer), late = await served.open_streams(), await served.open_streams()
            writer.write(UPGRADE[:50])
            await until(lambda: len(served.door.connections) == 2)
            drain = asyncio.ensure_future(served.door.drain(TIMEOUT_S))
            await until(lambda: served.door.draining)
            writer.write(UPGRADE[50:])
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
            late[1].write(HEALTH_CHECK)
            assert b"200" in await late[0].readline()
            await closed(late)
            writer.close()
            await drain
            await closed((reader, writer))

    run(main())


def test_deadline_drops_silent_connections(run: Run) -> None:
    async def main() -> None:
        async with opened() as served:
            silent = await served.open_streams()
            await until(lambda: len(served.door.connections) == 1)
            await served.door.drain(0.05)
            await closed(silent)

    run(main())


def test_deadline_closes_conversations_with_1001(run: Run) -> None:
    async def main() -> None:
        async with opened() as served, connect(served.url, api_key=None) as websocket:
            await served.door.drain(0.05)
            assert served.door.sessions == set()
            with pytest.raises(ConnectionClosed):
                await websocket.recv()
            assert (websocket.close_code, websocket.close_reason) == (1001, "going away")

    run(main())


def test_a_peer_that_ignores_the_close_is_dropped(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaving, "CLOSE_GRACE_S", 0.05)

    async def main() -> None:
        async with opened() as served:
            reader, writer = await served.open_streams()
            writer.write(UPGRADE)
            await reader.readuntil(b"\r\n\r\n")
            await served.door.drain(0.0)
            assert served.door.sessions == set()
            await closed((reader, writer))

    run(main())


def test_endless_user_code_does_not_hold_drain(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaving, "CLOSE_GRACE_S", 0.05)
    monkeypatch.setattr(leaving, "ABORT_GRACE_S", 0.05)

    async def main() -> None:
        release = asyncio.Event()

        async def on_close(session: SpeechEngineSession) -> None:
            await release.wait()

        async with opened(on_close=on_close) as served, connect(served.url, api_key=None):
            await served.door.drain(0.0)
            assert len(served.door.sessions) == 1
            await served.door.close()
            release.set()
            await until(lambda: not served.door.sessions)

    run(main())


def test_an_empty_door_drains_at_once(run: Run) -> None:
    async def main() -> None:
        async with opened() as served:
            await served.door.drain(1e6)

    run(main())


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_ipv6_peer_is_named_in_brackets(run: Run) -> None:
    async def main() -> None:
        async with opened(host="::1") as served, connect(f"ws://[::1]:{served.port}/ws", api_key=None) as websocket:
            await until(lambda: len(served.door.sessions) == 1)
            [session] = served.door.sessions
            assert session.remote == f"[::1]:{websocket.local_address[1]}"

    run(main())
