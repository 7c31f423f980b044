"""The limits that hold whichever library accepted the WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from se_server.conversation.settings import SessionSettings
from tests.functional.conversation.stage import KINDS, serving


@pytest.mark.parametrize("kind", KINDS)
async def test_a_flood_of_messages_is_closed_with_1008(kind: str) -> None:
    disconnected = asyncio.Event()

    async def on_disconnect(session: Any) -> None:
        disconnected.set()

    # `websockets` reads the peer's CLOSE behind the messages only, which nobody takes any more.
    settings = SessionSettings(max_messages_per_s=1, max_messages_burst=200, close_timeout_s=0.2)
    async with serving(kind, settings, on_disconnect=on_disconnect) as stage, stage.call() as api:
        for _ in range(190):
            await api.ping()
        with contextlib.suppress(ConnectionClosed):
            for _ in range(200):
                await api.send(type="ping")
            async for _ in api.ws:  # unread, the pongs would keep the CLOSE from being read
                pass
        assert await api.closed() == 1008
        await asyncio.wait_for(disconnected.wait(), 5)


@pytest.mark.parametrize("kind", KINDS)
async def test_the_clock_gives_messages_back(kind: str) -> None:
    settings = SessionSettings(max_messages_per_s=100_000, max_messages_burst=128)
    async with serving(kind, settings) as stage, stage.call() as api:
        for _ in range(500):
            await api.ping()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_silent_connection_is_closed_with_1008(kind: str) -> None:
    disconnected = asyncio.Event()

    async def on_disconnect(session: Any) -> None:
        disconnected.set()

    settings = SessionSettings(first_message_timeout_s=0.05)
    async with serving(kind, settings, on_disconnect=on_disconnect) as stage, stage.call() as api:
        assert await api.closed() == 1008
        await asyncio.wait_for(disconnected.wait(), 5)


@pytest.mark.parametrize("kind", KINDS)
async def test_silence_after_a_message_is_allowed(kind: str) -> None:
    settings = SessionSettings(first_message_timeout_s=0.3)
    async with serving(kind, settings) as stage, stage.call() as api:
        await api.ping()
        elapsed = asyncio.Event()
        asyncio.get_running_loop().call_later(0.5, elapsed.set)
        await elapsed.wait()
        await api.ping()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_message_that_waited_ends_the_silence(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It came in time, and is read after code has blocked the event loop."""
    monkeypatch.setattr("se_server.conversation.adapter.LAST_LOOK_S", 5.0)
    settings = SessionSettings(first_message_timeout_s=0.1)
    async with serving(kind, settings) as stage, stage.call() as api:
        await api.send(type="ping")
        time.sleep(0.2)  # noqa: ASYNC251  a handler that blocks the loop
        assert (await api.receive())["type"] == "pong"
