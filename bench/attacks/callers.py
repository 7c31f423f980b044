"""Attacks in conversations, with a valid token."""

from __future__ import annotations

import asyncio
import itertools
import json

from bench.attacks.registry import MIB, again, attack, send_until_refused
from bench.attacks.wire import Address, Peer, attacker_name, closed_at_once, init, piece, transcript
from bench.load.frames import TEXT, client_frame


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


@attack("escapes")
async def escapes(address: Address) -> None:
    """A hundred conversations, each within its budget of work, with texts of nothing but escapes."""
    kinds = (b"\\n" * 400_000, b"\\u00e9" * 130_000, b"\\ud83d\\ude00" * 65_000)
    body = b'{"type":"user_transcript","event_id":%d,"user_transcript":[{"role":"user","content":"%s%d"}]}'
    frames = [client_frame(TEXT, body % (number, kinds[number % 3], number)) for number in range(1, 7)]

    async def escape() -> None:
        peer = await Peer.open(address)
        try:
            peer.writer.write(init(attacker_name("escapes")))
            for frame in itertools.cycle(frames):
                peer.writer.write(frame)
                await peer.writer.drain()
                await asyncio.sleep(1 / 3)
        finally:
            peer.writer.transport.abort()

    await again(100, escape)


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
