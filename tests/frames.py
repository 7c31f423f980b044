"""WebSocket frames by hand (RFC 6455, 5.2), for frames that no library sends."""

from __future__ import annotations

import struct
from dataclasses import dataclass

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10

MASK = b"\x37\xfa\x21\x3d"


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, rsv: int = 0, masked: bool = True) -> bytes:
    """Build a client frame; `rsv` is the three reserved bits as a number."""
    head = bytes([fin << 7 | rsv << 4 | opcode])
    mask_bit = 0x80 if masked else 0
    if len(payload) < 126:
        head += bytes([mask_bit | len(payload)])
    elif len(payload) < 65536:
        head += bytes([mask_bit | 126]) + struct.pack("!H", len(payload))
    else:
        head += bytes([mask_bit | 127]) + struct.pack("!Q", len(payload))
    if not masked:
        return head + payload
    return head + MASK + bytes(byte ^ MASK[i % 4] for i, byte in enumerate(payload))


@dataclass(frozen=True)
class Frame:
    """A server frame."""

    opcode: int
    payload: bytes

    @property
    def close_code(self) -> int:
        """The code of a CLOSE frame; 0 for an empty one."""
        return int.from_bytes(self.payload[:2], "big")


def split_frames(data: bytes) -> tuple[list[Frame], bytes]:
    """Read whole unfragmented, unmasked frames; return them and the remaining bytes."""
    frames = []
    while len(data) >= 2:
        assert data[0] & 0xF0 == 0x80, "a server frame with FIN and no reserved bit"
        length, start = data[1], 2
        assert length < 128, "a server frame is not masked"
        if length == 126:
            length, start = int.from_bytes(data[2:4], "big"), 4
        elif length == 127:
            length, start = int.from_bytes(data[2:10], "big"), 10
        if len(data) < start + length:
            break
        frames.append(Frame(data[0] & 0x0F, data[start : start + length]))
        data = data[start + length :]
    return frames, data
