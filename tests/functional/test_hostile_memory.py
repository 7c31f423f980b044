"""The most memory that one hostile conversation costs a worker, everything kept for it included."""

from __future__ import annotations

import json
import os
import sys

import pytest

from tests.frames import TEXT, frame
from tests.functional.test_memory import PATIENT, PING, PONG, Callers, read
from tests.helpers import init_message, running_server

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="only /proc tells"),
    pytest.mark.skipif("PYTHONMALLOC" in os.environ, reason="another allocator has other figures"),
]

MIB = 2**20
CEILING_BYTES = 4 * MIB
COUNT = 30
APP = """
import asyncio

async def on_transcript(transcript, session):
    del transcript  # what handlers keep is theirs
    await asyncio.sleep(60)
"""


def message(text: str) -> bytes:
    """Return a text frame whose mask is zero."""
    payload = text.encode()
    if len(payload) < 65536:
        return frame(TEXT, payload)
    return bytes((0x80 | TEXT, 0xFF)) + len(payload).to_bytes(8, "big") + bytes(4) + payload


def transcript(event_id: int) -> str:
    """Return as much text as one transcript may have in memory, in entries that are kept with it."""
    entry = json.dumps({"role": "user", "content": f"{event_id}" + "x" * 60 + "😀"}, ensure_ascii=False)
    entries = ",".join([entry] * 3900)
    return f'{{"type":"user_transcript","user_transcript":[{entries}],"event_id":{event_id}}}'


def numbers(event_id: int) -> str:
    return f'{{"type":"user_transcript","user_transcript":[{"1," * 40_000}1],"event_id":{event_id}}}'


def plain(event_id: int) -> str:
    entries = ",".join([json.dumps({"role": "user", "content": f"{event_id}" + "x" * 900})] * 1000)
    return f'{{"type":"user_transcript","user_transcript":[{entries}],"event_id":{event_id}}}'


@pytest.mark.parametrize("make", [transcript, plain, numbers])
def test_one_hostile_conversation_has_a_ceiling(tmp_path: object, make: object) -> None:
    """A long id, two transcripts, events that wait, and a message that never ends."""
    app = f"{tmp_path}/app.py"
    with open(app, "w", encoding="utf-8") as file:
        file.write(APP)
    event = '{"type":"error","message":"' + "x" * 60_000 + '😀"}'
    unfinished = message(" " * (MIB - 100))[:-1]
    said = [message(init_message("é" * 30_000)), *(message(make(number)) for number in (1, 2))]  # type: ignore[operator]
    said += [message(event)] * 70 + [message(PING.decode())]
    with running_server(*PATIENT, app=app, workers=1) as server:
        calling = Callers(server)
        try:
            for sock in calling.connect(2):  # what the worker needs once
                sock.sendall(b"".join(said))
                read(sock, PONG)
            before = calling.rss_bytes()
            for sock in calling.connect(COUNT):
                sock.sendall(b"".join(said))
                read(sock, PONG)
                sock.sendall(unfinished)
            last = calling.connect(1)[0]
            last.sendall(message(PING.decode()))
            read(last, PONG)
            each = (calling.rss_bytes() - before) / COUNT
        finally:
            for sock in calling.sockets:
                sock.close()
    assert each < CEILING_BYTES, f"{each / MIB:.1f} MiB"
