"""Virtual time: the waits it skips, the waits it respects, and its limits."""

from __future__ import annotations

import asyncio
import queue
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import anyio.to_thread
import pytest
import uvloop

from se_server.errors import VirtualTimeError
from se_server.protocol.turn import Turn
from se_server.streams._hedge import Collector
from se_server.streams._stream import open_stream
from se_server.telemetry._clock import clock_of
from se_server.testing import outside, run, virtual_time

DAY_S = 24 * 3600.0


def now() -> float:
    return asyncio.get_running_loop().time()


def test_timers_fire_in_their_order_and_cost_nothing() -> None:
    fired = []

    async def sleep(seconds: float) -> None:
        await asyncio.sleep(seconds)
        fired.append((seconds, now()))

    async def main() -> None:
        began = now()
        await asyncio.gather(*(sleep(seconds) for seconds in (30.0, 0.5, 1000.0, 30.0, 2.25)))
        assert fired == [(seconds, began + seconds) for seconds in (0.5, 2.25, 30.0, 30.0, 1000.0)]

    began = time.monotonic()
    run(main())
    assert time.monotonic() - began < 30


def test_time_stands_still_during_work() -> None:
    async def main() -> None:
        began = now()
        for _ in range(1000):
            await asyncio.sleep(0)
        assert now() == began

    run(main())


def test_timeouts_are_virtual() -> None:
    async def main() -> None:
        began = now()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.sleep(50), 20)
        assert now() == began + 20

    run(main())


@pytest.mark.parametrize("to_thread", [asyncio.to_thread, anyio.to_thread.run_sync])
def test_a_thread_is_waited_for(to_thread: Callable[..., Awaitable[str]]) -> None:
    started, go_on = threading.Event(), threading.Event()

    def work() -> str:
        started.set()
        assert go_on.wait(10)
        return "done"

    async def main() -> None:
        began = now()
        # A timer of one hour must not fire before the thread is done.
        job = asyncio.ensure_future(to_thread(work))
        while not started.is_set():  # noqa: ASYNC110
            await asyncio.sleep(0)
        threading.Timer(0.05, go_on.set).start()
        assert await asyncio.wait_for(job, 1800) == "done"
        assert now() - began < 60
        await asyncio.sleep(1800)
        assert now() - began >= 1800

    run(main())


def test_a_peer_outside_the_loop_is_waited_for() -> None:
    server, slowness = socket.create_server(("127.0.0.1", 0)), threading.Event()

    def answer() -> None:
        connection, _ = server.accept()
        with connection:
            received = connection.recv(100)
            slowness.wait(0.1)
            connection.sendall(received.upper())

    thread = threading.Thread(target=answer)

    async def main() -> None:
        began = now()
        reader, writer = await asyncio.open_connection(*server.getsockname())
        thread.start()
        writer.write(b"hello")
        assert await asyncio.wait_for(reader.read(), 1800) == b"HELLO"
        assert now() - began < 60
        writer.close()
        await writer.wait_closed()

    with server:
        run(main())
        thread.join()


def test_a_slow_peer_in_the_loop_costs_nothing() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = await reader.readline()
        await asyncio.sleep(1000)
        writer.write(data.upper())
        writer.close()
        await writer.wait_closed()

    async def main() -> None:
        began = now()
        async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"hello\n")
            assert await reader.read() == b"HELLO\n"
            writer.close()
            await writer.wait_closed()
        assert 1000 <= now() - began < 1030

    run(main())


def test_an_endless_wait_raises_in_the_task() -> None:
    cleaned_up = []

    async def main() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.sleep(5)
            cleaned_up.append(True)

    with pytest.raises(VirtualTimeError, match="nothing can happen any more") as caught:
        run(main())
    assert cleaned_up == [True]
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)


def test_a_task_that_swallows_cancellation_ends() -> None:
    async def main() -> None:
        while True:
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                if stubborn.pop(0):
                    raise

    stubborn = [False, True]
    with pytest.raises(VirtualTimeError):
        run(main())


def test_an_unknown_thread_may_wake_the_loop() -> None:
    async def main() -> None:
        loop, woken = asyncio.get_running_loop(), asyncio.Event()
        timer = threading.Timer(0.02, loop.call_soon_threadsafe, [woken.set])
        timer.start()
        await woken.wait()
        timer.join()

    run(main())


def test_the_budget_is_a_bound() -> None:
    async def forever() -> None:
        while True:  # noqa: ASYNC110
            await asyncio.sleep(10)

    with pytest.raises(VirtualTimeError, match="more than 3600 virtual seconds would pass"):
        run(forever())
    run(asyncio.sleep(DAY_S), time_budget_s=DAY_S)


def test_a_loop_continues_at_the_real_pace() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        began, began_really = loop.time(), time.monotonic()
        due: list[float] = []
        loop.call_later(1000, lambda: due.append(loop.time() - began))
        with virtual_time():
            await asyncio.sleep(500)
            with virtual_time():  # nested uses share one clock
                await asyncio.sleep(499)
        assert not due
        after = loop.time()
        assert 999 <= after - began < 1000 + time.monotonic() - began_really + 1
        await asyncio.sleep(0.01)
        assert loop.time() - after >= 0.01 - 0.001
        assert loop.time() - after < 60

    asyncio.run(main())


def test_uvloop_is_refused_by_name() -> None:
    async def main() -> None:
        with virtual_time():
            pass

    loop = uvloop.new_event_loop()
    try:
        with pytest.raises(VirtualTimeError, match=r"this one is uvloop\.Loop"):
            loop.run_until_complete(main())
    finally:
        loop.close()


def test_user_code_keeps_the_real_clocks() -> None:
    async def main() -> None:
        really, wall = time.monotonic(), time.time()
        await asyncio.sleep(3000)
        assert time.monotonic() - really < 1000
        assert time.time() - wall < 1000

    run(main())


def in_thread(work: Callable[[], None]) -> None:
    threading.Thread(target=work, daemon=True).start()


def slow_words() -> Iterator[str]:
    for word in ("One ", "two ", "three."):
        time.sleep(0.03)
        yield word


async def read_stream() -> str:
    stream = open_stream(slow_words(), 0.5)
    sink = Collector()
    await stream.pump(sink, Turn(None), clock_of(time.monotonic))
    return "".join(sink.take())


async def ask_pool() -> str:
    with ThreadPoolExecutor(1) as pool:
        return "".join(await asyncio.wrap_future(pool.submit(lambda: list(slow_words()))))


async def ask_thread() -> str:
    loop = asyncio.get_running_loop()
    words_queue: asyncio.Queue[str | None] = asyncio.Queue()

    def work() -> None:
        for word in (*slow_words(), None):
            loop.call_soon_threadsafe(words_queue.put_nowait, word)

    in_thread(work)
    words = []
    while (word := await words_queue.get()) is not None:
        words.append(word)
    return "".join(words)


async def ask_waiting_thread() -> str:
    """Hand work to a thread that has waited for it."""
    loop = asyncio.get_running_loop()
    orders: queue.Queue[asyncio.Future[str]] = queue.Queue()

    def work() -> None:
        answer = orders.get()
        loop.call_soon_threadsafe(answer.set_result, "".join(slow_words()))

    in_thread(work)
    await asyncio.sleep(1)
    answer: asyncio.Future[str] = loop.create_future()
    orders.put(answer)
    return await answer


@pytest.mark.parametrize("ask", [read_stream, ask_pool, ask_thread, ask_waiting_thread])
def test_time_does_not_jump_past_a_thread(ask: Callable[[], Awaitable[str]]) -> None:
    async def main() -> None:
        for _ in range(3):
            began = now()
            assert await asyncio.wait_for(ask(), 30) == "One two three."
            assert now() - began < 20

    run(main())


def test_a_thread_that_never_ends_holds_no_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outside, "PATIENCE_S", 0.05)
    ends = threading.Event()

    def spin() -> None:
        while not ends.is_set():
            time.sleep(0.01)

    async def main() -> None:
        in_thread(spin)
        for _ in range(100):
            await asyncio.sleep(1000)

    began = time.monotonic()
    run(main(), time_budget_s=1e6)
    ends.set()
    assert time.monotonic() - began < 30


def test_threads_of_the_server_are_not_waited_for() -> None:
    ends, threads = threading.Event(), outside.Threads()
    before = threads.may_work()
    threading.Thread(target=ends.wait, name="se-server-block-watch", daemon=True).start()
    assert threads.may_work() == before
    threading.Thread(target=ends.wait, daemon=True).start()
    assert threads.may_work()
    while threads.are_busy():  # until it waits
        time.sleep(0.001)
    ends.set()
