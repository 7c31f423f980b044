"""A worker's heartbeat: a timer on its own loop, so that it stops when the loop does."""

from __future__ import annotations

import asyncio
import time

from se_server.server.shared.scoreboard import Slot

BEAT_S = 0.05
_BEAT_NS = int(BEAT_S * 1e9)


class Heartbeat:
    """Writes the time and the lag of the loop to the worker's slot, every `BEAT_S`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, slot: Slot) -> None:
        self._loop = loop
        self._slot = slot
        self._due_ns = 0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Start to beat."""
        self._due_ns = time.monotonic_ns()
        self._beat()

    def stop(self) -> None:
        """Beat a last time and stop."""
        if self._timer is not None:
            self._timer.cancel()
        self._write(time.monotonic_ns())

    def _beat(self) -> None:
        now_ns = time.monotonic_ns()
        self._slot.loop_lag_ns = max(0, now_ns - self._due_ns)
        self._write(now_ns)
        self._due_ns = now_ns + _BEAT_NS
        self._timer = self._loop.call_later(BEAT_S, self._beat)

    def _write(self, now_ns: int) -> None:
        self._slot.heartbeat_ns = now_ns
