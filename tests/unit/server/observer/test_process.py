"""The observer's loop: an order that fails is answered, and the observer goes on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from se_server.server.observer.process import _serve
from se_server.server.shared.control import ControlChannel
from se_server.server.shared.control_messages import Ask, Reply


class Failing:
    """An observer whose orders fail."""

    async def sample(self) -> None:
        await asyncio.Event().wait()

    watch = sample

    def stop(self) -> None:
        """Nothing is open."""

    async def answer(self, what: str, about: str) -> list[object]:
        if what == "turns":
            return [{"about": about}]
        raise OSError(5, "the disk has failed", about)


async def test_an_order_that_fails_is_answered(caplog: pytest.LogCaptureFixture) -> None:
    ours, theirs = ControlChannel.pair()
    observer: Any = Failing()
    serving = asyncio.create_task(_serve(None, observer, theirs, None))
    replies: list[object] = []

    async def receive(count: int) -> None:
        while len(replies) < count:
            await asyncio.sleep(0)
            replies.extend(ours.receive())

    for ticket, what in enumerate(("forget", "turns"), 1):
        ours.send(Ask(ticket, what, "7"))
        await asyncio.wait_for(receive(ticket), 10)
    assert replies == [
        Reply(1, [{"error": "forget failed with OSError, see the server's log"}]),
        Reply(2, [{"about": "7"}]),
    ]
    assert "the disk has failed" in caplog.text
    ours.close()
    await asyncio.wait_for(serving, 10)
    theirs.close()
