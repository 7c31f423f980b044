"""Attacks of an operator's programs."""

from __future__ import annotations

import asyncio
import itertools
import json
import os

from bench.attacks.registry import MIB, again, attack
from bench.attacks.wire import Address, Peer, attacker_name, closed_at_once, init, transcript


@attack("big orders")
async def big_orders(address: Address) -> None:
    """Lists, stacks and closes over 200 conversations with long ids and deep handlers."""
    name = "conv_" + "x" * 3900

    async def hold() -> None:
        peer = await Peer.open(address)
        try:
            peer.writer.write(init(name) + transcript("deep 40", 1))
            while await peer.reader.read(65536):
                pass
        finally:
            closed_at_once(peer.writer)

    turn = itertools.cycle([("calls", None), ("stacks", 0), ("stacks", 1), ("calls", None), ("close", name)])

    async def order() -> None:
        command, argument = next(turn)
        reader, writer = await asyncio.open_unix_connection(address.control, limit=32 * MIB)
        try:
            writer.write(json.dumps({"command": command, "argument": argument}).encode() + b"\n")
            await reader.readline()
            await asyncio.sleep(0.2)
        finally:
            writer.close()

    await asyncio.gather(again(200, hold), again(1, order))


@attack("bad operators")
async def bad_operators(address: Address) -> None:
    """Clients of the control socket that send garbage, nothing, or orders whose answers they never read."""
    sent = itertools.cycle([b"", os.urandom(8000), b'{"comm', b'{"command":"calls"}\n', b"[" * 4000])

    async def bother() -> None:
        _, writer = await asyncio.open_unix_connection(address.control)
        try:
            writer.write(next(sent))
            await asyncio.sleep(2)
        finally:
            writer.close()

    await again(100, bother)


@attack("stalled log")
async def stalled_log(address: Address) -> None:
    """Turns that log 200 KB each; `bench.attacks` stops reading the server's stderr meanwhile."""

    async def talk() -> None:
        peer = await Peer.open(address)
        try:
            peer.writer.write(init(attacker_name("log")))
            for event_id in range(1, 50):
                peer.writer.write(transcript("log 200", event_id))
                while not ((message := await peer.receive()) and message.get("is_final")):
                    pass
                await asyncio.sleep(0.1)
        finally:
            closed_at_once(peer.writer)

    await again(4, talk)
