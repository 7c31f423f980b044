"""Writes the steps of a plan to a connection at their times: one timer a stream, and no task step in between."""

from __future__ import annotations

import asyncio
import socket
import struct
import time

from tests.providers.record import Request
from tests.providers.wire import Plan, http_chunk

# A client that does not read stops its provider: nothing is produced while so much waits in our process.
FULL_BYTES = 64 * 1024
RETRY_S = 0.005


class Sender:
    """Sends one response's body. `done` is set at its end; the handler that awaits it is cancelled at a disconnect.

    The steps go to aiohttp's transport as chunks of the transfer coding that are already framed. A write through
    `StreamResponse.write()` would cost a task step a token.
    """

    def __init__(self, plan: Plan, request: Request, transport: asyncio.Transport) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._plan = plan
        self._request = request
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._next = 0
        self._start_s = self._loop.time()
        self._paced = request.script.tokens_per_s is not None
        self._hold_after = request.script.hold_after
        self._timer: asyncio.Handle | None = None
        self._schedule()

    def stop(self) -> None:
        """Send nothing more."""
        if self._timer is not None:
            self._timer.cancel()
        self._request.on_go_on(lambda: None)

    def _schedule(self) -> None:
        plan, request = self._plan, self._request
        if self._next == len(plan.steps):
            self._end()
            return
        step = plan.steps[self._next]
        if self._hold_after is not None and step.tokens and request.tokens >= self._hold_after:
            self._timer = None
            self._ping()
            request.on_go_on(self._resume)
            return
        due_s = self._start_s + step.at_s
        if self._paced or step.at_s:
            self._timer = self._loop.call_at(due_s, self._tick)
        else:
            self._timer = self._loop.call_soon(self._tick)

    def _tick(self) -> None:
        transport, step, request = self._transport, self._plan.steps[self._next], self._request
        if transport.is_closing():
            return  # the handler is cancelled next, and notes it
        if transport.get_write_buffer_size() > FULL_BYTES:
            request.blocked += 1
            request.changed()
            self._timer = self._loop.call_later(RETRY_S, self._tick)
            return
        transport.write(step.data)
        if step.tokens:
            request.wrote(step.tokens, time.monotonic())
            if self._paced:
                request.lag_s = max(request.lag_s, self._loop.time() - self._start_s - step.at_s)
        self._next += 1
        self._schedule()

    def _ping(self) -> None:
        """Send pings for as long as nothing else goes out."""
        every_s, ping = self._request.script.ping_every_s, self._plan.ping
        if every_s and ping and not self._transport.is_closing():
            self._timer = self._loop.call_later(every_s, self._send_ping)

    def _send_ping(self) -> None:
        self._transport.write(http_chunk(self._plan.ping))
        self._ping()

    def _resume(self) -> None:
        """End the hold; the pace starts again with the next token."""
        self.stop()
        self._hold_after = None
        self._start_s = self._loop.time() - self._plan.steps[self._next].at_s
        self._schedule()

    def _end(self) -> None:
        ending = self._plan.ending
        if ending == "stall":
            self._ping()
            return
        if ending == "drop":
            self._transport.close()
        elif ending == "reset":
            reset(self._transport)
        if not self.done.done():
            self.done.set_result(None)


def reset(transport: asyncio.Transport) -> None:
    """Close a connection with a TCP reset instead of the orderly end."""
    connection = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
