"""A stream ends with its turn although cancellations are lost in it, as `asyncio.wait_for` loses some before 3.12."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from se_server.conversation.settings import SessionSettings
from tests.functional.conversation.stage import Eventually, serving

# Some hundred of them fill the buffers of a caller who does not read; one is not worth a write of its own.
TEXT = "x" * 50_000
# Closing may take 0.5 s, and the second cancellation 0.1 s; the rest is for a busy machine.
ENDS_S = 8.0
# More than the cancellations that a stream gets.
NEVER = 1000


class Cancelled:
    """Counts the cancellations of what waits here, and loses the first of them.

    Attributes:
        lost: The number that got lost.
        over: Set when one was heeded.
        released: Ends the wait.
    """

    def __init__(self, losing: int) -> None:
        self.losing = losing
        self.lost = 0
        self.over = asyncio.Event()
        self.released = asyncio.Event()

    async def forever(self) -> None:
        while not self.released.is_set():
            try:
                await self.released.wait()
            except asyncio.CancelledError:
                if self.lost == self.losing:
                    self.over.set()
                    raise
                self.lost += 1


class Stream:
    """An async iterable of one text, or of texts until the caller's buffers are full.

    Attributes:
        session: The conversation.
        fills: Whether it fills the buffers.
        waits: Set when it waits for ever.
    """

    def __init__(self, cancelled: Cancelled) -> None:
        self.cancelled = cancelled
        self.session: Any = None
        self.fills = False
        self.has_begun = False
        self.waits = asyncio.Event()

    def __aiter__(self) -> Stream:
        return self

    async def __anext__(self) -> str:
        if not self.has_begun:
            self.has_begun = True
            return "one"
        await asyncio.sleep(0)  # what was given is written meanwhile
        if self.fills and self.session._outbox.writable:
            return TEXT
        await self.prepare()
        self.waits.set()
        await self.wait()
        raise StopAsyncIteration

    async def prepare(self) -> None:
        """Do what comes before the wait."""

    async def wait(self) -> None:
        raise NotImplementedError


class ByTask(Stream):
    """Its events come from a task, which closing cancels once and waits for, as in LangGraph."""

    def __init__(self, cancelled: Cancelled) -> None:
        super().__init__(cancelled)
        self.task = asyncio.create_task(cancelled.forever())
        self.queue: asyncio.Queue[str] = asyncio.Queue()

    async def wait(self) -> None:
        await self.queue.get()

    async def aclose(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])


class AwaitsTask(Stream):
    async def wait(self) -> None:
        await asyncio.create_task(self.cancelled.forever())


class Connects(Stream):
    """Awaits a future that cannot be cancelled when it is done, as uvloop's of sockets, before it waits."""

    async def prepare(self) -> None:
        class Connecting(asyncio.Future[None]):
            def cancel(self, msg: Any = None) -> bool:
                raise RuntimeError("the descriptor is in use")

        connecting = Connecting()
        asyncio.get_running_loop().call_soon(connecting.set_result, None)
        await connecting

    async def wait(self) -> None:
        await self.cancelled.forever()


class Gathers(Stream):
    async def wait(self) -> None:
        await asyncio.gather(self.cancelled.forever())


class Itself(Stream):
    async def wait(self) -> None:
        await self.cancelled.forever()


class Swallows(Stream):
    """Takes its cancellation for an event, as `asyncio.wait_for` does before Python 3.12 where one just came."""

    async def __anext__(self) -> str:
        try:
            return await super().__anext__()
        except asyncio.CancelledError:
            return "two"

    async def wait(self) -> None:
        await self.cancelled.forever()


class Fails(Stream):
    """Fails when it is cancelled."""

    async def wait(self) -> None:
        try:
            await self.cancelled.forever()
        except asyncio.CancelledError:
            raise ConnectionError("the response was closed") from None


class Ends(Stream):
    """Takes its cancellation for its end."""

    async def wait(self) -> None:
        with suppress(asyncio.CancelledError):
            await self.cancelled.forever()


class Closes(Stream):
    """Loses cancellations while it is closed."""

    async def wait(self) -> None:
        await asyncio.Event().wait()

    async def aclose(self) -> None:
        await self.cancelled.forever()


async def interrupt(stream: Stream, *, reads: bool = True, around: Callable[[Any], Any] | None = None) -> int:
    """Interrupt the answer of a stream when it waits, and return how many streams were left to themselves."""
    log = Eventually()

    async def on_transcript(transcript: Any, session: Any) -> None:
        if len(transcript) > 1:
            await session.send_response("stopped")
            return
        try:
            stream.session = session
            answer = session.send_response(stream)
            await (answer if around is None else around(answer))
        finally:
            log.add("over")

    settings = SessionSettings()
    async with serving("own", settings, on_transcript=on_transcript) as stage, stage.call(max_size=None) as api:
        if not reads:
            stream.fills = True
            api.ws.transport.pause_reading()
        await api.say("hello", event_id=1)
        await asyncio.wait_for(stream.waits.wait(), 10)
        began_s = time.monotonic()
        await api.say("hello", "one", "stop", event_id=2)
        if stream.cancelled.losing < NEVER:
            await asyncio.wait_for(stream.cancelled.over.wait(), ENDS_S)
        await log.until("over")
        assert time.monotonic() - began_s < ENDS_S
        if not reads:
            api.ws.transport.resume_reading()
        while (message := await api.receive())["event_id"] != 2:
            pass
        assert message["content"] == "stopped"
        return stage.server.stats.streams_left


COUNTED = pytest.mark.skipif(sys.version_info < (3, 11), reason="tasks do not count their cancellations")


@COUNTED
@pytest.mark.parametrize("reads", [True, False], ids=["event", "socket"])
@pytest.mark.parametrize("losing", [0, 1, 2])
async def test_lost_cancellation_of_a_task_is_repeated(
    losing: int, reads: bool, caplog: pytest.LogCaptureFixture
) -> None:
    stream = ByTask(Cancelled(losing))
    assert await interrupt(stream, reads=reads) == 0
    assert stream.cancelled.lost == losing
    assert stream.task.cancelled()
    assert "left to itself" not in caplog.text


@pytest.mark.parametrize("kind", [AwaitsTask, Connects, Gathers, Itself, Closes])
@pytest.mark.parametrize("losing", [0, 1, 2])
async def test_lost_cancellation_of_a_stream_is_repeated(
    kind: type[Stream], losing: int, caplog: pytest.LogCaptureFixture
) -> None:
    stream = kind(Cancelled(losing))
    assert await interrupt(stream) == 0
    assert stream.cancelled.lost == losing
    assert "failed" not in caplog.text


class ByTaskOfABlockedLoop(ByTask):
    """Code of a user blocks the event loop for longer than the stream may take to close."""

    async def aclose(self) -> None:
        asyncio.get_running_loop().call_soon(time.sleep, 0.6)
        await super().aclose()


class ClosesWhileTheLoopIsBlocked(Closes):
    """Code of a user blocks the event loop when the stream has lost the first cancellation of its closing."""

    async def aclose(self) -> None:
        asyncio.get_running_loop().call_later(0.51, time.sleep, 0.2)
        await super().aclose()


@COUNTED
@pytest.mark.parametrize("kind", [ByTaskOfABlockedLoop, ClosesWhileTheLoopIsBlocked])
async def test_a_blocked_loop_takes_no_time_from_repetitions(kind: type[Stream]) -> None:
    stream = kind(Cancelled(2))
    assert await interrupt(stream) == 0
    assert stream.cancelled.lost == 2


@pytest.mark.parametrize("kind", [pytest.param(ByTask, marks=COUNTED), AwaitsTask, Gathers, Itself, Closes])
async def test_stream_that_never_ends_is_left(kind: type[Stream], caplog: pytest.LogCaptureFixture) -> None:
    stream = kind(Cancelled(NEVER))
    try:
        assert await interrupt(stream) == 1
        assert "left to itself" in caplog.text
    finally:
        stream.cancelled.released.set()


@pytest.mark.skipif(sys.version_info < (3, 11), reason="there is no asyncio.timeout")
@pytest.mark.parametrize("kind", [AwaitsTask, Gathers, Itself])
async def test_interruption_ends_a_stream_under_a_timeout(kind: type[Stream]) -> None:
    stream = kind(Cancelled(2))

    async def limited(answer: Any) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(0.01):
                await answer

    assert await interrupt(stream, around=limited) == 0


@pytest.mark.parametrize("reads", [True, False], ids=["event", "socket"])
@pytest.mark.parametrize("kind", [Swallows, Fails, Ends])
async def test_handler_is_cancelled_whatever_its_stream_makes_of_it(kind: type[Stream], reads: bool) -> None:
    returned = []

    async def answered(answer: Any) -> None:
        returned.append(await answer)

    assert await interrupt(kind(Cancelled(0)), reads=reads, around=answered) == 0
    assert returned == [] or (kind is Fails and returned == [False])
