"""Build a client's WebSocket frames, whole, in fragments or in small TCP segments."""

from __future__ import annotations

import asyncio
import secrets
import struct
from collections import deque
from collections.abc import Callable

CONTINUATION, TEXT, BINARY, PONG = 0x0, 0x1, 0x2, 0xA
_BETWEEN_SEGMENTS_S = 0.0005  # writes without a gap are sent in one segment, or read as one


def frame(opcode: int, payload: bytes, *, is_last: bool = True) -> bytes:
    """Build a masked frame (RFC 6455, 5.2)."""
    size = len(payload)
    head = bytes([is_last << 7 | opcode])
    if size < 126:
        head += bytes([0x80 | size])
    elif size < 65536:
        head += bytes([0x80 | 126]) + struct.pack("!H", size)
    else:
        head += bytes([0x80 | 127]) + struct.pack("!Q", size)
    mask = secrets.token_bytes(4)
    key = int.from_bytes((mask * (size // 4 + 1))[:size], "big")
    return head + mask + (int.from_bytes(payload, "big") ^ key).to_bytes(size, "big")


def message_frames(opcode: int, payload: bytes, fragment_bytes: int | None) -> list[bytes]:
    """Build the frames of a message: one, or fragments of at most `fragment_bytes`."""
    step = fragment_bytes or max(1, len(payload))
    parts = [payload[start : start + step] for start in range(0, len(payload), step)] or [b""]
    return [
        frame(CONTINUATION if index else opcode, part, is_last=index == len(parts) - 1)
        for index, part in enumerate(parts)
    ]


def pong(payload: bytes) -> bytes:
    """Build the answer to a ping."""
    return frame(PONG, payload)


class Cutter:
    """Write bytes in pieces, each in its own TCP segment, and keep the order of all output.

    Args:
        write: writes a piece.
        segment_bytes: the largest piece; None writes all data at once.
    """

    def __init__(self, write: Callable[[bytes], None], segment_bytes: int | None) -> None:
        self._write = write
        self._segment_bytes = segment_bytes
        self._queue: deque[bytes | Callable[[], None]] = deque()
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None

    def put(self, data: bytes) -> None:
        """Write `data` after all earlier data."""
        step = self._segment_bytes or len(data)
        for start in range(0, len(data), step):
            self._queue.append(data[start : start + step])
        self._go_on()

    def then(self, step: Callable[[], None]) -> None:
        """Call `step` once all earlier data is written."""
        self._queue.append(step)
        self._go_on()

    def change_segments(self, segment_bytes: int | None) -> None:
        """Cut data that is put from now on into pieces of this size."""
        self._segment_bytes = segment_bytes

    def stop(self) -> None:
        """Write no more."""
        self._queue.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _go_on(self) -> None:
        if self._timer is None:
            self._next()

    def _next(self) -> None:
        self._timer = None
        while self._queue:
            item = self._queue.popleft()
            if callable(item):
                item()
                continue
            self._write(item)
            if self._segment_bytes is not None and self._queue:
                self._timer = self._loop.call_later(_BETWEEN_SEGMENTS_S, self._next)
                return
