"""The least over uvloop's own TLS: a protocol in Python that sends ready-made frames, and verifies nobody.

`python -m bench.load.targets.uvloop_tls_target CHAIN KEY` prints `ready PORT`.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import ssl
import struct
import sys
from typing import Any

import uvloop

from bench.load.frames import CLOSE, HEAD_END, TEXT
from bench.load.targets.handler import WORDS

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def server_frame(text: str, event_id: int, *, is_final: bool) -> bytes:
    """Return the frame of one text."""
    message = {"type": "agent_response", "content": text, "event_id": event_id, "is_final": is_final}
    payload = json.dumps(message, separators=(",", ":")).encode()
    return (
        bytes((0x81, len(payload))) if len(payload) < 126 else struct.pack("!BBH", 0x81, 126, len(payload))
    ) + payload


class Conversation(asyncio.Protocol):
    """A caller's connection."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._is_up = False
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        if not self._is_up:
            head, end, rest = bytes(self._data).partition(HEAD_END)
            if not end:
                return
            fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
            key = next(value for name, value in fields.items() if name.lower() == b"sec-websocket-key")
            accept = base64.b64encode(hashlib.sha1(key + _GUID).digest())
            self._transport.write(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: %b\r\n\r\n" % accept
            )
            self._is_up, self._data = True, bytearray(rest)
        while (frame := self._frame()) is not None:
            self._receive(*frame)

    def _frame(self) -> tuple[int, bytes] | None:
        """Take the next whole frame: opcode and payload."""
        data = self._data
        if len(data) < 6:
            return None
        size, start = data[1] & 0x7F, 2
        if size >= 126:
            start = 4 if size == 126 else 10
            size = int.from_bytes(data[2:start], "big")
        end = start + 4 + size
        if len(data) < end:
            return None
        mask = int.from_bytes((data[start : start + 4] * (size // 4 + 1))[:size], "big")
        payload = (int.from_bytes(data[start + 4 : end], "big") ^ mask).to_bytes(size, "big")
        opcode = data[0] & 0x0F
        del data[:end]
        return opcode, payload

    def _receive(self, opcode: int, payload: bytes) -> None:
        if opcode == CLOSE:
            self._transport.write(bytes((0x80 | CLOSE, len(payload))) + payload)
            self._transport.close()
            return
        message = json.loads(payload) if opcode == TEXT else {}
        if message.get("type") == "user_transcript":
            chunks, tag, _ = message["user_transcript"][-1]["content"].split(" ", 2)
            texts = (tag, *WORDS[1 : int(chunks)])
            frames = [server_frame(text, message["event_id"], is_final=False) for text in texts]
            self._transport.write(b"".join([*frames, server_frame("", message["event_id"], is_final=True)]))


async def main(chain: str, key: str) -> None:
    """Serve until the process is stopped."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, key)
    server = await asyncio.get_running_loop().create_server(Conversation, "127.0.0.1", 0, ssl=context, backlog=4096)
    print(f"ready {server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
