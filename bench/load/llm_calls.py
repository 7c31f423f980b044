"""Calls of several turns to a server with an LLM behind it: the history grows, and some answers are interrupted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

from bench.kernel import BenchError, Server, settle
from bench.load.frames import HEAD_END, TEXT, client_frame, upgrade_request
from bench.load.llm_provider import WORD
from bench.load.targets import API_KEY

__all__ = ["INTERRUPTED", "TOKENS", "TURNS", "hold_calls"]

TURNS, TOKENS = 8, 40
INTERRUPTED = (2, 5)
"""The turns whose answers the user interrupts, half-way."""
FIRST_NUMBER = 100_000
"""The numbers of questions differ from those of other callers."""
START_S, TIMEOUT_S = 1.0, 60.0


def frames_of(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Yield (opcode, payload, end) of a server's whole frames."""
    at = 0
    while len(data) >= at + 2:
        size, start = data[at + 1], at + 2
        if size >= 126:
            start += 2 if size == 126 else 8
            size = int.from_bytes(data[at + 2 : start], "big")
        if len(data) < start + size:
            return
        yield data[at] & 0x0F, data[start : start + size], start + size
        at = start + size


class Call(asyncio.Protocol):
    """A caller of several turns; `over` is done when the last answer is, or has what went wrong.

    Attributes:
        tokens: the texts that came, those of interrupted answers included.
    """

    def __init__(self, number: int) -> None:
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.tokens = 0
        self._number = number
        self._history: list[dict[str, str]] = []
        self._turn = 0
        self._answer = ""
        self._data = b""
        self._is_up = False
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        transport.write(upgrade_request("/ws", API_KEY))

    def data_received(self, data: bytes) -> None:
        self._data += data
        try:
            if not self._is_up:
                head, end, rest = self._data.partition(HEAD_END)
                if not end:
                    return
                if not head.startswith(b"HTTP/1.1 101"):
                    raise BenchError(f"the server refused a call: {head[:80]!r}")
                self._is_up, self._data = True, rest
                self._say({"type": "init", "conversation_id": f"conv_call_{self._number}"})
                self._ask()
            read = 0
            for opcode, payload, end in frames_of(self._data):
                read = end
                if opcode == TEXT:
                    self._take(json.loads(payload))
            self._data = self._data[read:]
        except BenchError as error:
            self._end(error)

    def connection_lost(self, error: Exception | None) -> None:
        self._end(BenchError("the server ended a call"))

    def _take(self, message: Any) -> None:
        if message.get("type") != "agent_response" or self.over.done():
            return
        self.tokens += bool(message["content"])
        if message["event_id"] != self._turn:
            return  # left over from the answer that was interrupted
        self._answer += message["content"]
        if message["is_final"]:
            # A server may begin with blanks that keep the API waiting.
            if self._answer.strip() != (WORD * TOKENS).strip():
                raise BenchError(f"an answer of {TOKENS} words came as {self._answer[:200]!r}")
            self._next()
        elif self._turn in INTERRUPTED and len(self._answer) >= len(WORD) * TOKENS // 2:
            self._next()

    def _next(self) -> None:
        self._history.append({"role": "agent", "content": self._answer})
        if self._turn == TURNS:
            self._say({"type": "close"})
            self._end(None)
        else:
            self._ask()

    def _ask(self) -> None:
        self._turn += 1
        self._answer = ""
        number = FIRST_NUMBER + self._number * TURNS + self._turn
        self._history.append({"role": "user", "content": f"Well, what should one say-{number}-{TOKENS} of it?"})
        self._say({"type": "user_transcript", "user_transcript": self._history, "event_id": self._turn})

    def _say(self, message: Any) -> None:
        self._transport.write(client_frame(TEXT, json.dumps(message).encode()))

    def _end(self, error: Exception | None) -> None:
        settle(self.over, error)
        self._transport.close()


async def hold_calls(server: Server, calls: int) -> int:
    """Hold calls that begin within a second, and return the number of texts that came.

    Raises:
        BenchError: an answer was wrong or late, or a call was cut.
    """
    loop = asyncio.get_running_loop()
    callers: list[Call] = []
    for number in range(calls):
        _, caller = await loop.create_connection(lambda number=number: Call(number), "127.0.0.1", server.port)
        callers.append(caller)
        await asyncio.sleep(START_S / calls)
    done = asyncio.gather(*(caller.over for caller in callers))
    try:
        await asyncio.wait_for(done, TIMEOUT_S)
    except asyncio.TimeoutError:
        raise BenchError(f"calls were not over after {TIMEOUT_S:.0f} s") from None
    return sum(caller.tokens for caller in callers)
