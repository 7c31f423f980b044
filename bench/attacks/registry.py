"""The attacks by name, and the acts that they share. All are bounded in the number of their connections."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from bench.attacks.honest import FAULTS
from bench.attacks.wire import Address, Peer, attacker_name, closed_at_once, init

Attack = Callable[[Address], Awaitable[None]]
REGISTERED: dict[str, Attack] = {}
"""Coroutines that run until they are cancelled."""
ALWAYS_TLS: set[str] = set()
"""The attacks that need a server with TLS."""
MIB = 1 << 20
STEP_S = 0.02


def attack(name: str, *, needs_tls: bool = False) -> Callable[[Attack], Attack]:
    """Register an attack under a name."""

    def register(function: Attack) -> Attack:
        REGISTERED[name] = function
        if needs_tls:
            ALWAYS_TLS.add(name)
        return function

    return register


async def again(count: int, act: Callable[[], Awaitable[None]]) -> None:
    """Run so many loops of one act at the same time; what the server refuses is tried again."""

    async def loop() -> None:
        while True:
            with suppress(*FAULTS):
                await asyncio.wait_for(act(), 20)
            await asyncio.sleep(STEP_S)

    await asyncio.gather(*(loop() for _ in range(count)))


async def send_until_refused(address: Address, *chunks: bytes, name: str = "attack") -> None:
    """Open a conversation and send the same again and again, reading nothing."""
    peer = await Peer.open(address)
    try:
        peer.writer.write(init(attacker_name(name)))
        while True:
            for chunk in chunks:
                peer.writer.write(chunk)
            await peer.writer.drain()
            await asyncio.sleep(0)
    finally:
        peer.writer.transport.abort()


async def hold_open(address: Address, data: bytes = b"") -> None:
    """Connect without TLS, send, and wait for the server to close."""
    reader, writer = await asyncio.open_connection("127.0.0.1", address.port)
    try:
        writer.write(data)
        while await reader.read(65536):
            pass
    finally:
        closed_at_once(writer)
