"""Honest callers: what they wait for, and what they lose."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from bench.attacks.wire import Address, Peer, init, transcript

TURN_S = 0.5
HANDSHAKE_S = 0.1
GIVE_UP_S = 10.0
FAULTS = (ConnectionError, OSError, EOFError, asyncio.TimeoutError, asyncio.IncompleteReadError)


@dataclass
class Seen:
    """The times that honest callers have seen, in seconds, each with the moment at which its wait began.

    Attributes:
        losses: the moments and reasons of conversations and handshakes that failed.
    """

    first_texts: list[tuple[float, float]] = field(default_factory=list)
    handshakes: list[tuple[float, float]] = field(default_factory=list)
    losses: list[tuple[float, str]] = field(default_factory=list)


async def converse(address: Address, name: str, seen: Seen, began: asyncio.Event) -> None:
    """Hold one conversation until cancelled: a turn every `TURN_S`, from fixed moments on."""
    event_id = 0
    while True:
        peer = None
        try:
            peer = await asyncio.wait_for(Peer.open(address), GIVE_UP_S)
            peer.writer.write(init(name))
            due = time.monotonic()
            while True:
                event_id += 1
                began.set()
                asked_at = time.monotonic()
                peer.writer.write(transcript(f"hello {event_id}", event_id))
                await asyncio.wait_for(_answer(peer, event_id, asked_at, seen), GIVE_UP_S)
                due = max(due + TURN_S, time.monotonic())
                await asyncio.sleep(due - time.monotonic())
        except FAULTS as fault:
            seen.losses.append((time.monotonic(), f"{name}: {type(fault).__name__} {fault}"))
            await asyncio.sleep(TURN_S)
        finally:
            if peer is not None:
                peer.close()


async def _answer(peer: Peer, event_id: int, asked_at: float, seen: Seen) -> None:
    is_first = True
    while True:
        message = await peer.receive()
        if message is None or message.get("type") != "agent_response" or message.get("event_id") != event_id:
            continue
        if is_first:
            seen.first_texts.append((asked_at, time.monotonic() - asked_at))
            is_first = False
        if message.get("is_final"):
            return


async def greet(address: Address, seen: Seen) -> None:
    """Measure a handshake every `HANDSHAKE_S` until cancelled."""
    while True:
        began = time.monotonic()
        try:
            peer = await asyncio.wait_for(Peer.open(address), GIVE_UP_S)
            seen.handshakes.append((began, time.monotonic() - began))
            peer.close()
            with suppress(*FAULTS):
                await asyncio.wait_for(peer.writer.wait_closed(), 1)
        except FAULTS as fault:
            seen.losses.append((time.monotonic(), f"handshake: {type(fault).__name__} {fault}"))
        await asyncio.sleep(max(0.0, HANDSHAKE_S - (time.monotonic() - began)))


async def end(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel tasks until they have ended: `wait_for` of Python 3.11 loses a cancellation that comes with its result."""
    while left := [task for task in tasks if not task.done()]:
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=TURN_S)


def p99_ms(samples: list[tuple[float, float]], since: float, until: float) -> float:
    """Return the 99th percentile of the waits that began in a span of time, in ms; 0 without any."""
    waits = sorted(wait for at, wait in samples if since <= at < until)
    return waits[min(len(waits) - 1, int(len(waits) * 0.99))] * 1000 if waits else 0.0
