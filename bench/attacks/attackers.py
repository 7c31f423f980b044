"""The attacks, each a coroutine that runs until it is cancelled. All are bounded in the number of their connections."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress

from bench.attacks.honest import FAULTS
from bench.attacks.wire import Address, Peer, attacker_name, closed_at_once, init, piece, transcript
from bench.load.frames import TEXT, client_frame, upgrade_request
from bench.load.targets import API_KEY
from se_server.auth import AUTHORIZATION_HEADER

Attack = Callable[[Address], Awaitable[None]]
ATTACKS: dict[str, Attack] = {}
MIB = 1 << 20
STEP_S = 0.02


def attack(name: str) -> Callable[[Attack], Attack]:
    """Register an attack under a name."""

    def register(function: Attack) -> Attack:
        ATTACKS[name] = function
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


# --- before the conversation ---


@attack("slow heads")
async def slow_heads(address: Address) -> None:
    async def drip() -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", address.port, ssl=address.context())
        try:
            for byte in upgrade_request("/", API_KEY):
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.05)
        finally:
            closed_at_once(writer)

    await again(300, drip)


@attack("silent connections")
async def silent_connections(address: Address) -> None:
    await again(1000, lambda: hold_open(address))


@attack("descriptors")
async def descriptors(address: Address) -> None:
    """More connections than the server has descriptors: `bench.attacks` starts it with 1,200."""
    await again(2500, lambda: hold_open(address, b"GET / HTTP/1.1\r\n"))


@attack("wrong tokens")
async def wrong_tokens(address: Address) -> None:
    async def refused() -> None:
        size = secrets.choice((1500, 6000))
        token = f"eyJhbGciOiJIUzI1NiJ9.{secrets.token_urlsafe(size)}.{secrets.token_urlsafe(32)}"
        head = upgrade_request("/", API_KEY).partition(AUTHORIZATION_HEADER.encode())[0]
        await Peer.open(address, head + f"{AUTHORIZATION_HEADER}: {token}\r\n\r\n".encode())

    await again(64, refused)


@attack("header floods")
async def header_floods(address: Address) -> None:
    base = upgrade_request("/", API_KEY)[:-2]
    heads = [
        base + b"X-Forwarded-For: " + b"127.0.0.1," * 1500 + b"127.0.0.1\r\n\r\n",
        base.replace(b"Connection: Upgrade", b"Connection: Upgrade" + b"," * 15_000) + b"\r\n",
        base + b"".join(b"X-%d: %d\r\n" % (number, number) for number in range(90)) + b"\r\n",
        base + b"Forwarded: " + b"for=127.0.0.1," * 1000 + b"for=127.0.0.1\r\n\r\n",
        b"\x00" * 20_000,
    ]
    turn = itertools.cycle(heads)

    async def flood() -> None:
        peer = await Peer.open(address, next(turn))
        closed_at_once(peer.writer)

    await again(64, flood)


@attack("resets")
async def resets(address: Address) -> None:
    async def reset() -> None:
        peer = await Peer.open(address)
        peer.writer.write(init(attacker_name("reset")) + transcript("wait 1", 1))
        closed_at_once(peer.writer)

    await again(32, reset)


@attack("client hellos")
async def client_hellos(address: Address) -> None:
    """On a server without TLS these are requests that are no HTTP."""
    hello = bytes.fromhex("16030100c8010000c40303") + secrets.token_bytes(32) + bytes(168)

    async def greet() -> None:
        if not address.tls:
            await hold_open(address, hello)
            return
        _, writer = await asyncio.open_connection("127.0.0.1", address.port, ssl=address.context())
        closed_at_once(writer)

    await again(64, greet)


# --- in conversations, with a valid token ---


@attack("fragment bombs")
async def fragment_bombs(address: Address) -> None:
    bomb = b"".join(piece(TEXT if not place else 0, b"", is_last=False) for place in range(1000))
    await again(20, lambda: send_until_refused(address, bomb + piece(0, b"{}", is_last=True)))


@attack("floods")
async def floods(address: Address) -> None:
    small = client_frame(TEXT, b'{"type":"ping"}') * 50 + client_frame(9, b"") * 5
    await again(20, lambda: send_until_refused(address, small))


@attack("unfinished messages")
async def unfinished_messages(address: Address) -> None:
    async def begin() -> None:
        peer = await Peer.open(address)
        try:
            peer.writer.write(piece(TEXT, b'"' + b"x" * (MIB - 100), is_last=False))
            while await peer.reader.read(65536):
                pass
        finally:
            closed_at_once(peer.writer)

    await again(200, begin)


@attack("unread answers")
async def unread_answers(address: Address) -> None:
    async def ask() -> None:
        peer = await Peer.open(address, limit=4096)
        try:
            peer.writer.transport.pause_reading()
            peer.writer.write(init(attacker_name("unread")) + transcript("much 320", 1))
            await asyncio.sleep(15)
        finally:
            closed_at_once(peer.writer)

    await again(200, ask)


@attack("changing minds")
async def changing_minds(address: Address) -> None:
    async def change() -> None:
        peer = await Peer.open(address)
        try:
            peer.writer.write(init(attacker_name("mind")))
            for event_id in itertools.count(1):
                peer.writer.write(transcript("wait 1", event_id))
                await peer.writer.drain()
                await asyncio.sleep(1 / 50)
        finally:
            closed_at_once(peer.writer)

    await again(20, change)


@attack("slow JSON")
async def slow_json(address: Address) -> None:
    small = [{"role": "user", "content": ""}] * 20_000
    texts = [
        b'{"type":"user_transcript","user_transcript":[%s],"event_id":1}' % (b"1," * 400_000 + b"1"),
        b'{"type":"init","x":' + b"9" * 1_000_000 + b"}",
        json.dumps({"type": "user_transcript", "user_transcript": small, "event_id": 1}).encode(),
        b'{"x":' * 500 + b"1" + b"}" * 500,
    ]
    frames = [client_frame(TEXT, text[: MIB - 16] if len(text) >= MIB else text) for text in texts]
    await again(10, lambda: send_until_refused(address, *frames))


@attack("crowds")
async def crowds(address: Address) -> None:
    """A hundred conversations, each within its budget of work, whose large messages end at the same time."""
    text = b'{"type":"error","message":"%s"}' % ("\U0001f600".encode() * 250_000)
    frame = client_frame(TEXT, text)
    beats = [asyncio.Event() for _ in range(1000)]

    async def beat() -> None:
        for each in beats:
            await asyncio.sleep(0.5)
            each.set()

    async def wait_and_end() -> None:
        peer = await Peer.open(address)
        try:
            peer.writer.write(init(attacker_name("crowd")))
            for each in beats:
                peer.writer.write(frame[:-1])
                await peer.writer.drain()
                await each.wait()
                peer.writer.write(frame[-1:])
        finally:
            peer.writer.transport.abort()

    await asyncio.gather(beat(), again(100, wait_and_end))


@attack("changing histories")
async def changing_histories(address: Address) -> None:
    """Each transcript has a long history that differs from the last one at its first byte."""
    histories = [[{"role": "user", "content": first + "\U0001f600" * 100}] * 1500 for first in "ab"]
    frames = [transcript("wait 1", event_id, histories[event_id % 2]) for event_id in range(1, 5)]
    await again(10, lambda: send_until_refused(address, *frames))


@attack("waiting events")
async def waiting_events(address: Address) -> None:
    body = json.dumps({"type": "user_transcript", "event_id": 2, "user_transcript": [], "x": "\U0001f600" * 80_000})
    frames = [transcript("wait 10", 1), *[client_frame(TEXT, body.encode())] * 40]
    await again(10, lambda: send_until_refused(address, *frames))


@attack("log floods")
async def log_floods(address: Address) -> None:
    async def flood() -> None:
        peer = await Peer.open(address)
        try:
            peer.writer.write(init("\x7f" * (MIB // 8)) + transcript("wait 5", 1))
            error = client_frame(TEXT, b'{"type":"error","message":"%s"}' % (b"\\u007f" * 1000))
            for _ in range(600):
                peer.writer.write(error)
                await peer.writer.drain()
            await asyncio.sleep(1)
        finally:
            closed_at_once(peer.writer)

    await again(10, flood)


# --- as an operator ---


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
