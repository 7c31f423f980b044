"""`print` in a worker: what user code writes to stdout and stderr waits for no reader that stalls."""

from __future__ import annotations

import io
import os
import sys
from typing import Any

from se_server.telemetry.log_writer import LINE_BYTES, MAX_QUEUED_BYTES, LogWriter

PIECE_BYTES = 1 << 16
FULL_BYTES = MAX_QUEUED_BYTES - PIECE_BYTES
PATIENCE_S, ROOM_BYTES = 0.1, 1 << 17
"""Once the queue is full, a print waits so long for so much room, once: a reader that is only slow loses nothing."""


class _Descriptor(io.RawIOBase):
    """A descriptor behind a `LogWriter`: it takes everything, and loses what its reader leaves unread for long."""

    def __init__(self, descriptor: int, name: str) -> None:
        super().__init__()
        self.name, self.mode = f"<{name}>", "wb"
        self._descriptor = descriptor
        self._writer = LogWriter(descriptor)
        self._writer.describe_loss = lambda count: (
            b"%d writes to %s were lost: nobody read them\n"
            % (
                count,
                name.encode(),
            )
        )
        self._is_stalled = False

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        for start in range(0, len(view), PIECE_BYTES):
            waiting_bytes = self._writer.queued_bytes()
            if waiting_bytes > FULL_BYTES and not self._is_stalled:
                self._is_stalled = not self._writer.flush(PATIENCE_S, FULL_BYTES - ROOM_BYTES)
            elif waiting_bytes < FULL_BYTES // 2:
                self._is_stalled = False
            piece = bytes(view[start : start + PIECE_BYTES])
            # A pipe that `poll` calls writable takes so many bytes without waiting.
            self._writer.put(*(piece[place : place + LINE_BYTES] for place in range(0, len(piece), LINE_BYTES)))
        return len(view)


def unstall_prints() -> None:
    """Replace `sys.stdout` and `sys.stderr`, unless something else than Python has made them.

    Streams that user code has kept from before, other processes, and libraries in C still write directly.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if type(stream) is not io.TextIOWrapper:
            continue
        try:
            stream.flush()
            raw = _Descriptor(stream.fileno(), name)
        except (OSError, ValueError):  # it is closed, or full
            continue
        made = io.TextIOWrapper(
            io.BufferedWriter(raw) if isinstance(stream.buffer, io.BufferedWriter) else raw,
            encoding=stream.encoding,
            errors=stream.errors,
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )
        _former.append(stream)  # the end of its life would close the descriptor
        if getattr(sys, f"__{name}__") is stream:
            setattr(sys, f"__{name}__", made)
        setattr(sys, name, made)


_former: list[io.TextIOWrapper] = []
