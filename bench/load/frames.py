"""A caller's bytes on the wire, ready-made: the upgrade request, and frames."""

from __future__ import annotations

import struct

from se_server.auth import AUTHORIZATION_HEADER, sign_token

__all__ = ["CLOSE", "HEAD_END", "TEXT", "client_frame", "upgrade_request"]

TEXT, CLOSE = 1, 8
HEAD_END = b"\r\n\r\n"

_MASK = 0x5A
_MASKED = bytes(byte ^ _MASK for byte in range(256))


def client_frame(opcode: int, payload: bytes) -> bytes:
    """Build a whole frame of a client (RFC 6455, 5.2); the four bytes of its mask are equal, which is fast to apply."""
    size = len(payload)
    if size < 126:
        length = bytes([0x80 | size])
    elif size < 65536:
        length = b"\xfe" + struct.pack("!H", size)
    else:
        length = b"\xff" + struct.pack("!Q", size)
    return bytes([0x80 | opcode]) + length + bytes([_MASK] * 4) + payload.translate(_MASKED)


def upgrade_request(path: str, api_key: str) -> bytes:
    """Build the head of an upgrade, with a token that is valid for some minutes."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
        f"{AUTHORIZATION_HEADER}: {sign_token(api_key)}\r\n\r\n"
    ).encode()
