"""Paces the work before conversations: handshakes and request heads that are ready together are done over many steps.

The kernel reports all sockets that are ready in one step of the event loop. Thousands of TLS handshakes, heads or wrong
tokens at once would hold running conversations for as long as all of them take. So each step has a budget of time for
this work, and the rest waits in a queue, in order of arrival. Conversations are read between two steps.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

BUDGET_S = 0.002  # a step; a handshake with TLS takes 1 ms, one without 0.15 ms
GAP_S = 0.001  # without such work for so long, the budget is whole again
ESTABLISHING_S = 0.0002  # what it takes to make a transport, which happens in a task and is not measured
MAX_WAITING_BYTES = 64 << 20  # of one worker


class Pacer:
    """Does work at once while the budget of this step lasts, and in later steps otherwise.

    Args:
        loop: the running loop.
        clock: monotonic seconds.

    Attributes:
        waiting_bytes: the bytes that the waiting work holds.
    """

    __slots__ = ("_clock", "_ended_s", "_loop", "_used_s", "_waiting", "_working", "waiting_bytes")

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float] = time.perf_counter) -> None:
        self._loop = loop
        self._clock = clock
        self._waiting: deque[tuple[Callable[[bytes], None], bytes]] = deque()
        self._working = False
        self._used_s = 0.0
        self._ended_s = 0.0
        self.waiting_bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def do(self, work: Callable[[bytes], None], data: bytes) -> bool:
        """Call `work(data)` and return True if there is time; return False if it has to wait, which is for `defer`.

        Work that is part of other work is done at once.
        """
        if self._working:
            work(data)
            return True
        began_s = self._clock()
        if began_s - self._ended_s > GAP_S and not self._waiting:
            self._used_s = 0.0
        elif self._waiting or self._used_s >= BUDGET_S:
            return False
        self._working = True
        try:
            work(data)
        finally:
            self._working = False
            self._ended_s = ended_s = self._clock()
            self._used_s += ended_s - began_s
        return True

    def defer(self, work: Callable[[bytes], None], data: bytes) -> None:
        """Call `work(data)` in a later step, after the work that waits already."""
        if not self._waiting:
            self._loop.call_soon(self._step)
        self._waiting.append((work, data))
        self.waiting_bytes += len(data)

    async def turn(self) -> None:
        """Wait until a transport may be made."""
        if not self.do(self._charge, b""):
            turn: asyncio.Future[None] = self._loop.create_future()

            def take(_: bytes) -> None:
                if not turn.done():
                    turn.set_result(None)
                    self._charge(b"")

            self.defer(take, b"")
            await turn

    def _charge(self, _: bytes) -> None:
        self._used_s += ESTABLISHING_S

    def _step(self) -> None:
        self._used_s = 0.0
        waiting = self._waiting
        try:
            while waiting and self._used_s < BUDGET_S:
                work, data = waiting[0]
                self.waiting_bytes -= len(data)
                self._working = True
                began_s = self._clock()
                try:
                    work(data)
                finally:
                    waiting.popleft()  # not before: an empty queue has no step to come
                    self._working = False
                    self._ended_s = ended_s = self._clock()
                    self._used_s += ended_s - began_s
        finally:
            if waiting:
                self._loop.call_soon(self._step)
