"""The callers of `bench.chaos`: one conversation after the other, and a tally of their outcomes."""

from __future__ import annotations

import asyncio
import json
import random
import time
from contextlib import suppress
from dataclasses import dataclass, field

from bench.load.frames import CLOSE, HEAD_END, TEXT, client_frame, upgrade_request
from bench.load.targets import API_KEY

HANDSHAKE_S = 2.0
CALL_S = (4.0, 16.0)
THINK_S = (0.5, 1.5)
GIVE_UP_S = 20.0
"""For a turn or a handshake; above all times of the server's own."""
IN_FLIGHT_S = 0.1
"""A handshake that begins within this time after a harm may still reach the victim."""


@dataclass
class Tally:
    """The callers' observations.

    Attributes:
        harms: time of each harm that ends conversations, by the victim's process id.
        leaks: victims that leak; their conversations continue.
        zygotes: how many zygotes were harmed, which ends no conversation.
        faults: violations, one sentence each.
        opened, answered: when handshakes succeeded and answers ended, by the worker's process id; 0 for unknown.
        asked: transcripts sent.
        dials_lost: handshakes that a harm cut.
        cut_names: answers heard in each conversation that was cut, by its id.
        slowest_s: the longest handshake that began after the harms.
    """

    harms: dict[int, float] = field(default_factory=dict)
    leaks: set[int] = field(default_factory=set)
    zygotes: int = 0
    faults: list[str] = field(default_factory=list)
    opened: dict[int, list[float]] = field(default_factory=dict)
    answered: dict[int, list[float]] = field(default_factory=dict)
    asked: int = 0
    dials_lost: int = 0
    cut: int = 0
    cut_names: dict[str, int] = field(default_factory=dict)
    slowest_s: float = 0.0

    def was_harmed(self, since: float) -> bool:
        """Whether a worker was harmed after `since`, or just before."""
        return any(at > since - IN_FLIGHT_S for at in self.harms.values())

    def range_of(self, seen: dict[int, list[float]]) -> tuple[int, int]:
        """Return the number of events that the scoreboard must have, and the number of all events."""
        sure = sum(len(times) for pid, times in seen.items() if pid)
        return sure, sum(map(len, seen.values()))


class Lost(Exception):
    """The connection has ended or is silent."""


class Call:
    """One conversation after the other."""

    def __init__(self, port: int, tally: Tally, number: int) -> None:
        self._port = port
        self._tally = tally
        self._number = number
        self._errand = ""
        self._conversations = 0
        self.pid = 0

    def do(self, errand: str) -> None:
        """Send this text in the next turn, instead of small talk."""
        self._errand = errand

    async def run(self, until: float) -> None:
        """Hold conversations until a deadline; the last one ends soon after it."""
        while time.monotonic() < until:
            streams = await self._dial()
            if streams is not None:
                await self._converse(*streams, min(until, time.monotonic() + random.uniform(*CALL_S)))

    async def _dial(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        tally, began = self._tally, time.monotonic()
        writer = None
        why = ""
        try:
            reader, writer = await asyncio.wait_for(asyncio.open_connection("127.0.0.1", self._port), GIVE_UP_S)
            writer.write(upgrade_request("/", API_KEY))
            head = await asyncio.wait_for(reader.readuntil(HEAD_END), GIVE_UP_S)
            if b" 101 " not in head:
                why = f"was answered {head.splitlines()[0]!r}"
        except (OSError, EOFError, TimeoutError, asyncio.TimeoutError) as error:
            why = f"failed: {type(error).__name__}"
        took_s = time.monotonic() - began
        excused = tally.was_harmed(began)
        if why or took_s > HANDSHAKE_S:
            if excused:
                tally.dials_lost += bool(why)
            else:
                tally.faults.append(f"a handshake {why or 'was slow'} after {took_s:.2f} s")
        elif not excused:
            tally.slowest_s = max(tally.slowest_s, took_s)
        if why and writer is not None:
            writer.close()
            return None
        return None if writer is None else (reader, writer)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, until: float) -> None:
        tally = self._tally
        opened_at = time.monotonic()
        self.pid, self._errand = 0, ""
        event_id = answers = 0
        self._conversations += 1
        name = f"conv_{self._number}_{self._conversations}"
        try:
            writer.write(_text(type="init", conversation_id=name))
            while time.monotonic() < until or not self.pid or self._errand:
                event_id += 1
                said, self._errand = self._errand or "hello", ""
                if said == "hang":
                    tally.harms[self.pid] = time.monotonic()
                writer.write(_text(type="user_transcript", user_transcript=_said(said), event_id=event_id))
                tally.asked += 1
                await self._hear(reader, event_id)
                answers += 1
                tally.answered.setdefault(self.pid, []).append(time.monotonic())
                await asyncio.sleep(random.uniform(*THINK_S))
            writer.write(_text(type="close"))
            while (await self._frame(reader))[0] != CLOSE:
                pass
            writer.write(client_frame(CLOSE, b"\x03\xe8"))
        except Lost as lost:
            tally.cut += 1
            tally.cut_names[name] = answers
            if self.pid not in tally.harms and (self.pid or not tally.was_harmed(opened_at)):
                tally.faults.append(
                    f"a conversation of worker process {self.pid}, which was not harmed, was cut: {lost}"
                )
        finally:
            tally.opened.setdefault(self.pid, []).append(opened_at)
            self.pid = 0
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _hear(self, reader: asyncio.StreamReader, event_id: int) -> None:
        """Read an answer, which names its worker's process id."""
        while True:
            kind, payload = await self._frame(reader)
            if kind == CLOSE:
                raise Lost(f"closed, {payload!r}")
            message = json.loads(payload)
            if message.get("content"):
                self._take_text(message["content"])
            if message.get("is_final") and message.get("event_id") == event_id:
                return

    def _take_text(self, text: str) -> None:
        self.pid = int(text)

    @staticmethod
    async def _frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
        try:
            head = await asyncio.wait_for(reader.readexactly(2), GIVE_UP_S)
            size = head[1]
            if size == 126:
                size = int.from_bytes(await asyncio.wait_for(reader.readexactly(2), GIVE_UP_S), "big")
            return head[0] & 15, await asyncio.wait_for(reader.readexactly(size), GIVE_UP_S)
        except (OSError, EOFError) as error:
            raise Lost(type(error).__name__) from None
        except (TimeoutError, asyncio.TimeoutError):
            raise Lost(f"nothing came for {GIVE_UP_S:g} s") from None


def _text(**message: object) -> bytes:
    return client_frame(TEXT, json.dumps(message).encode())


def _said(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]
