"""Every stream of every package is spoken as it is, and its request ends with an interruption within a second."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from se_server.conversation.settings import SessionSettings
from tests.functional.conversation.stage import Api, Eventually, Stage, serving
from tests.functional.conversation.test_flow_control import small_receive_buffer, stop_reading
from tests.llm.rows import ROWS, Row
from tests.providers import Provider, Script, running_provider

TEXT = "Good morning! It is 21 °C in Zürich today 🙂. Anything else?"
CHUNK = "word " * 800


def is_installed(module: str) -> bool:
    """Whether a package can be imported; nothing is, but its parents."""
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:
        return False


AVAILABLE = [row for row in ROWS if is_installed(row.module)]
by_row = pytest.mark.parametrize("row", AVAILABLE, ids=[row.name for row in AVAILABLE])
by_stream = pytest.mark.parametrize(
    "row", [row for row in AVAILABLE if not row.is_whole], ids=[row.name for row in AVAILABLE if not row.is_whole]
)
pytestmark = pytest.mark.filterwarnings("ignore")  # the packages' own


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    async with running_provider(Script(text=TEXT)) as provider:
        yield provider


@asynccontextmanager
async def speaking(row: Row, provider: Provider, log: Eventually) -> AsyncIterator[Stage]:
    """Serve a handler that passes the row's object; later turns get a text. No collector hides what stays open."""
    async with AsyncExitStack() as stack:
        passed = []

        async def on_transcript(transcript: Any, session: Any) -> None:
            if passed:
                await session.send_response("next")
                return
            passed.append(row)
            try:
                async with AsyncExitStack() as own:
                    made = await row.make(own if row.is_own else stack, provider.base_url(row.api))
                    log.add("made")
                    await session.send_response(made)
            finally:
                log.add("over")

        errors: list[Any] = []
        handlers = {"on_transcript": on_transcript, "on_error": lambda error, session: errors.append(error)}
        async with serving("own", SessionSettings(handover_s=60.0), **handlers) as stage:
            gc.disable()
            try:
                yield stage
                assert errors == []
            finally:
                gc.enable()


@by_row
async def test_every_object_is_spoken_as_it_is(row: Row, provider: Provider) -> None:
    log = Eventually()
    async with speaking(row, provider, log) as stage, stage.call() as api:
        await api.say("hello", event_id=1)
        answer = await api.answer()
        assert "".join(text for _, text in answer) == TEXT
        await log.until("over")


@by_stream
async def test_an_interruption_ends_the_request_that_waits(row: Row, provider: Provider) -> None:
    provider.default = Script(text=("One", " two", " three") * 100, hold_after=3)
    log = Eventually()
    async with speaking(row, provider, log) as stage, stage.call() as api:
        await api.say("hello", event_id=1)
        request = await provider.received()
        await request.produced(3)
        await log.until("made")
        await api.send(type="ping")
        while (await api.receive())["type"] != "pong":
            pass
        await interrupt(api, provider)
        await log.until("over")


@by_stream
async def test_an_interruption_ends_the_request_of_a_slow_reader(row: Row, provider: Provider) -> None:
    provider.default = Script(text=(CHUNK,) * 20_000)
    log = Eventually()
    async with speaking(row, provider, log) as stage, stage.call(**small_receive_buffer()) as api:
        await api.say("hello", event_id=1)
        stop_reading(api)
        request = await provider.received()
        # Its provider waits since nobody reads: the pump waits for the socket.
        await request.until(lambda: request.blocked > 2 or request.ended_s is not None)
        await interrupt(api, provider)
        await log.until("over")
        api.ws.transport.abort()


async def interrupt(api: Api, provider: Provider) -> None:
    """Interrupt the turn, and see the provider's last request end within a second."""
    request = provider.requests[-1]
    at_s = time.monotonic()
    await api.say("hello", "One", "stop", event_id=2)
    seen_s = await request.disconnected(timeout_s=5.0)
    assert seen_s - at_s < 1.0
    await asyncio.sleep(0)
