"""The bytes of callers and attackers, over asyncio's streams."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import struct
from dataclasses import dataclass
from typing import Any

from bench.load.frames import HEAD_END, TEXT, client_frame, upgrade_request
from bench.load.targets import API_KEY

__all__ = ["Address", "Peer", "closed_at_once", "init", "piece", "transcript"]


@dataclass(frozen=True)
class Address:
    """The server under attack.

    Attributes:
        tls: whether it speaks TLS; its certificate is not checked.
        control: the path of its control socket.
    """

    port: int
    tls: bool
    control: str

    def context(self) -> ssl.SSLContext | None:
        """Return the context of a client; None without TLS."""
        if not self.tls:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context


def init(name: str) -> bytes:
    """Build the first message of a conversation."""
    return client_frame(TEXT, json.dumps({"type": "init", "conversation_id": name}).encode())


def transcript(said: str, event_id: int, history: Any = ()) -> bytes:
    """Build a transcript whose last entry is the question."""
    entries = [*history, {"role": "user", "content": said}]
    body = {"type": "user_transcript", "user_transcript": entries, "event_id": event_id}
    return client_frame(TEXT, json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass"))


def piece(opcode: int, payload: bytes, *, is_last: bool) -> bytes:
    """Build a fragment; its mask is zero."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + struct.pack("!H", size)
    if size > 65535:
        length = b"\xff" + struct.pack("!Q", size)
    return bytes([is_last << 7 | opcode]) + length + bytes(4) + payload


def closed_at_once(writer: asyncio.StreamWriter) -> None:
    """Reset the connection."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Peer:
    """A WebSocket of a client.

    Attributes:
        reader, writer: the streams below it.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, address: Address, head: bytes | None = None, *, limit: int = 1 << 20) -> Peer:
        """Connect and upgrade.

        Args:
            head: the request; None sends an honest one.

        Raises:
            ConnectionError: the server refuses.
        """
        reader, writer = await asyncio.open_connection("127.0.0.1", address.port, ssl=address.context(), limit=limit)
        writer.write(upgrade_request("/", API_KEY) if head is None else head)
        try:
            answer = await reader.readuntil(HEAD_END)
        except asyncio.IncompleteReadError:
            answer = b""
        if b" 101 " not in answer[:20]:
            writer.close()
            raise ConnectionRefusedError(answer[:40].decode("latin-1"))
        return cls(reader, writer)

    async def receive(self) -> dict[str, Any] | None:
        """Return the next message; None for another frame. It raises ConnectionError or EOFError at the end."""
        opcode, size = await self.reader.readexactly(2)
        if size == 126:
            size = int.from_bytes(await self.reader.readexactly(2), "big")
        elif size == 127:
            size = int.from_bytes(await self.reader.readexactly(8), "big")
        payload = await self.reader.readexactly(size)
        if opcode & 15 == 9:
            self.writer.write(client_frame(10, payload))
        if opcode & 15 == 8:
            raise ConnectionResetError(f"closed with {int.from_bytes(payload[:2], 'big')}")
        return json.loads(payload) if opcode & 15 == TEXT else None

    def close(self) -> None:
        """Close the socket."""
        self.writer.close()


def attacker_name(name: str) -> str:
    """Return an id of a conversation that belongs to this process."""
    return f"{name}-{os.getpid()}"
