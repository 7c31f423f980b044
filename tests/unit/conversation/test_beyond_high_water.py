"""Ends of turns, failure texts and the like are written to a peer that reads too slowly, up to a bound."""

from __future__ import annotations

import asyncio
import gc

import pytest

from se_server.conversation._listener import Connection, FrameGate, Shared
from se_server.conversation.adapter import BEYOND_MARKS, Adapter
from se_server.conversation.deadlines import Deadlines
from se_server.conversation.settings import SessionSettings
from tests.fuzz.listener import Loop, Session, Transport

SETTINGS = SessionSettings(write_high_water_bytes=1000)
FEW = 10
MANY = BEYOND_MARKS * 1000 // 60  # finals of more than 60 bytes


class Counting(Session):
    timeouts = 0

    def write_timed_out(self) -> None:
        self.timeouts += 1


def opened(session: Session) -> tuple[Connection, Transport, Loop]:
    loop = Loop()
    transport = Transport(loop)
    silent = Deadlines(loop, 30.0, Connection.miss_message)
    unanswered = Deadlines(loop, 20.0, Connection.miss_pong)
    shared = Shared(loop, SETTINGS, silent, unanswered, lambda *_: None)
    transport.gate = FrameGate(shared, asyncio.Protocol())
    connection = Connection(shared, transport.gate, transport, -1)  # type: ignore[arg-type]
    connection.start(session, b"MDEyMzQ1Njc4OWFiY2RlZg==", b"")  # type: ignore[arg-type]
    return connection, transport, loop


@pytest.mark.parametrize(("finals", "is_dropped"), [(FEW, False), (MANY, True)])
async def test_deaf_peer_is_dropped_for_what_it_is_sent(finals: int, is_dropped: bool) -> None:
    session = Counting()
    connection, transport, loop = opened(session)
    connection.pause_writing()
    for number in range(finals):
        connection.outbox.send("", b"%d" % number, True)
    assert not transport.closing  # a turn that ends may be writing
    loop.step()
    assert (transport.closing, session.timeouts) == (is_dropped, is_dropped)
    connection.abort()
    transport.gate.connection_lost(None)
    loop.step()


async def test_peer_that_reads_again_has_room_again() -> None:
    session = Counting()
    connection, transport, loop = opened(session)
    for _ in range(10):
        connection.pause_writing()
        for number in range(FEW):
            connection.outbox.send("", b"%d" % number, True)
        connection.resume_writing()
    loop.step()
    assert (transport.closing, session.timeouts) == (False, 0)


class Deaf(Adapter):
    """A WebSocket of another library whose peer reads nothing."""

    async def _send(self, message: str) -> None:
        await asyncio.Event().wait()

    async def _close(self, code: int, reason: str) -> None:
        pass


@pytest.mark.parametrize(("finals", "is_dropped"), [(FEW, False), (MANY, True)])
async def test_deaf_peer_of_another_library_is_dropped(finals: int, is_dropped: bool) -> None:
    session = Counting()
    adapter = Deaf(None, SETTINGS)
    adapter.bind(asyncio.get_running_loop())
    adapter.attach(session)  # type: ignore[arg-type]
    adapter.outbox.send("x" * 1000, b"1", False)
    assert not adapter.outbox.writable
    for number in range(finals):
        adapter.outbox.send("", b"%d" % number, True)
    await asyncio.sleep(0)
    assert (adapter.outbox.closed, session.timeouts) == (is_dropped, is_dropped)
    adapter.abort()
    await asyncio.sleep(0)


async def test_waiters_for_room_that_were_cancelled_are_forgotten() -> None:
    adapter = Deaf(None, SETTINGS)
    adapter.bind(asyncio.get_running_loop())
    adapter.outbox.send("x" * 1001, b"1", False)
    waits = [adapter.outbox.room()]
    for _ in range(1000):
        waits.append(adapter.outbox.room())
        waits[-1].cancel()
    del waits[1:]
    alive = sum(isinstance(each, asyncio.Future) and each.cancelled() for each in _referents(adapter.outbox))
    assert alive < 100
    adapter.abort()
    await waits[0]


def _referents(outbox: object) -> list[object]:

    return [each for held in gc.get_referents(outbox) if isinstance(held, list) for each in held]
