"""The load generator: conversations in a closed loop, each asking again as soon as it has its answer.

A process of its own, driven over its standard streams by `bench.kernel.Load`: a line `run SECONDS TURNS` runs the
conversations until either is used up and lets every open turn end, so that between two runs the server is idle;
the answer is one JSON object a line. Every turn is checked for its count of chunks and the `event_id` of its final,
every `SAMPLE_EVERY`th one for each message in full. One wrong turn fails the run: a fast wrong answer is no figure.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import orjson
import uvloop
from picows import WSError, WSListener, WSMsgType, WSTransport, ws_connect

from bench.load.conversations import Scenario, Script, expected_chunks
from se_server.auth import AUTHORIZATION_HEADER, sign_token

SAMPLE_EVERY = 16
CONNECT_TIMEOUT_S = 10.0
CONNECTS_AT_ONCE = 20
ANSWER_TIMEOUT_S = 10.0
MAX_FAILURES_KEPT = 5

TEXT, PING = 0x81, 0x89  # FIN set, no RSV bit


@dataclasses.dataclass(slots=True)
class Report:
    """What one run did; times in seconds, `cpu_s` being the generator's own."""

    turns: int
    wall_s: float
    cpu_s: float
    verified_in_full: int
    failures: list[str]


class Conversation(asyncio.Protocol):
    """One conversation: sends a transcript, collects what comes back, checks it, sends the next.

    picows makes the handshake and masks what is sent. What comes back is not parsed frame by frame, which in Python
    would cost more than the server spends: only the last message is, and all of them in sampled turns. Pings are
    not answered; a conversation is over before a server could mind.
    """

    def __init__(self, load: ClosedLoop, number: int) -> None:
        self._load = load
        self._script = Script(load.scenario, number)
        self._websocket: WSTransport | None = None
        self._event_id = 0
        self._received = b""

    async def connect(self, url: str, token: str) -> None:
        """Make the handshake, take over the connection and send `init`."""
        self._websocket, _ = await ws_connect(
            WSListener,
            url,
            extra_headers={AUTHORIZATION_HEADER: token},
            websocket_handshake_timeout=CONNECT_TIMEOUT_S,
            max_redirects=0,
            use_aiofastnet=False,
        )
        self._websocket.underlying_transport.set_protocol(self)
        self._websocket.send(WSMsgType.TEXT, self._script.init())

    def ask(self) -> None:
        """Send the next transcript."""
        self._event_id += 1
        assert self._websocket is not None
        self._websocket.send(WSMsgType.TEXT, self._script.transcript(self._event_id))

    def data_received(self, data: bytes) -> None:
        received = self._received = self._received + data if self._received else data
        if not received.endswith(b"}"):
            return
        # The text of a final is empty: its brace is the last one, and it has no other.
        final = received[received.rfind(b"{") :]
        if not _says_final(final):
            return
        # Spread over the conversations, so that not all of them are checked in full in the same instant.
        in_full = (self._event_id + self._script.number) % SAMPLE_EVERY == 0
        try:
            wrong = self._what_is_wrong(received, final, in_full=in_full)
        except ValueError as error:  # neither JSON nor frames
            wrong = str(error)
        self._received = b""
        if wrong:
            self._load.fail(f"{self}: {wrong}")
        else:
            self._load.turn_done(self, in_full=in_full)

    def connection_lost(self, exc: Exception | None) -> None:
        self._load.fail(f"{self}: the server closed the connection")

    def hang_up(self) -> None:
        """Say goodbye as the API does."""
        if self._websocket is not None and not self._websocket.underlying_transport.is_closing():
            self._websocket.send(WSMsgType.TEXT, b'{"type": "close"}')
            self._websocket.underlying_transport.close()

    def __str__(self) -> str:
        return f"conversation {self._script.number}, turn {self._event_id}, {len(self._received)} bytes received"

    def _what_is_wrong(self, received: bytes, final: bytes, *, in_full: bool) -> str:
        chunks = received.count(b'"is_final":false') + received.count(b'"is_final": false')
        if chunks != self._load.scenario.chunks:
            return f"expected {self._load.scenario.chunks} chunks, got {chunks}"
        if orjson.loads(final) != self._message("", is_final=True):
            return f"wrong final {final!r}"
        if in_full:
            texts = (*expected_chunks(self._load.scenario, self._script.tag(self._event_id)), "")
            payloads = list(text_frames(received))
            if len(payloads) != len(texts):
                return f"expected {len(texts)} messages, got {len(payloads)}"
            for payload, text in zip(payloads, texts, strict=True):
                if orjson.loads(payload) != self._message(text, is_final=payload is payloads[-1]):
                    return f"expected the text {text!r}, got {payload!r}"
        return ""

    def _message(self, content: str, *, is_final: bool) -> dict[str, Any]:
        return {"type": "agent_response", "content": content, "event_id": self._event_id, "is_final": is_final}


def _says_final(message: bytes) -> bool:
    return b'"is_final":true' in message or b'"is_final": true' in message


def text_frames(received: bytes) -> Iterator[bytes]:
    """Yield the payloads of whole, unfragmented text frames of a server (RFC 6455, 5.2); leave out pings.

    Raises:
        ValueError: something else stands there, such as a cut frame.
    """
    position = 0
    while position < len(received):
        kind, size = received[position], received[position + 1 : position + 2]
        position += 2
        if size == b"\x7e":
            size = received[position : position + 2]
            position += 2
        elif size >= b"\x7f":
            raise ValueError(f"no frame of ours: masked or longer than any answer, after {position} bytes")
        payload = received[position : position + int.from_bytes(size, "big")]
        position += int.from_bytes(size, "big")
        if kind not in (TEXT, PING) or position > len(received):
            raise ValueError(f"no whole text frame: {kind:#x} {payload[:80]!r}")
        if kind == TEXT:
            yield payload


class ClosedLoop:
    """All conversations of one generator process."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self._conversations = [Conversation(self, number) for number in range(scenario.conversations)]
        self._failures: list[str] = []
        self._turns = self._in_full = 0
        self._turn_limit = 0
        self._deadline = 0.0
        self._waiting: set[Conversation] = set()
        self._all_answered = asyncio.Event()
        self._hanging_up = False

    async def connect(self, url: str, api_key: str) -> None:
        """Open all conversations, each with a token of its own."""
        gate = asyncio.Semaphore(CONNECTS_AT_ONCE)

        async def connect_one(conversation: Conversation) -> None:
            token = sign_token(api_key)
            async with gate:
                await conversation.connect(url, token)

        await asyncio.gather(*(connect_one(conversation) for conversation in self._conversations))

    async def run(self, seconds: float, turns: int) -> Report:
        """Run until `seconds` have passed or `turns` were asked, and wait for the answers still open."""
        self._turns = self._in_full = 0
        self._turn_limit = max(turns, len(self._conversations))
        self._all_answered.clear()
        started_s, cpu_s = time.monotonic(), time.process_time()
        self._deadline = started_s + seconds
        self._waiting = set(self._conversations)
        for conversation in self._conversations:
            conversation.ask()
        try:
            await asyncio.wait_for(self._all_answered.wait(), seconds + ANSWER_TIMEOUT_S)
        except asyncio.TimeoutError:
            late = sorted(map(str, self._waiting))
            self.fail(f"{len(late)} conversations without an answer after {ANSWER_TIMEOUT_S:.0f} s, one is: {late[0]}")
        return Report(
            turns=self._turns,
            wall_s=time.monotonic() - started_s,
            cpu_s=time.process_time() - cpu_s,
            verified_in_full=self._in_full,
            failures=self._failures,
        )

    async def close(self) -> None:
        """End all conversations."""
        self._hanging_up = True
        for conversation in self._conversations:
            conversation.hang_up()

    def turn_done(self, conversation: Conversation, *, in_full: bool) -> None:
        """Count an answered turn and ask on, unless the run is over."""
        self._turns += 1
        self._in_full += in_full
        if self._turns + len(self._waiting) <= self._turn_limit and time.monotonic() < self._deadline:
            conversation.ask()
            return
        self._waiting.discard(conversation)
        if not self._waiting:
            self._all_answered.set()

    def fail(self, what: str) -> None:
        """Note a failure and end the run: nothing after it would be worth counting."""
        if not self._hanging_up:
            if len(self._failures) < MAX_FAILURES_KEPT:
                self._failures.append(what)
            self._all_answered.set()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    for field in dataclasses.fields(Scenario):
        parser.add_argument(
            f"--{field.name}", type=int, default=field.default, required=field.default is dataclasses.MISSING
        )
    options = parser.parse_args()

    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    load = ClosedLoop(Scenario(options.chunks, options.history, options.conversations, options.trickle))
    try:
        loop.run_until_complete(load.connect(options.url, os.environ["ELEVENLABS_API_KEY"]))
    except (OSError, WSError, asyncio.TimeoutError) as error:
        print(json.dumps({"failures": [f"cannot connect to {options.url}: {error!r}"]}), flush=True)
        return
    print(json.dumps({"connected": options.conversations, "failures": []}), flush=True)
    for line in sys.stdin:
        command, *values = line.split()
        if command != "run":
            break
        report = loop.run_until_complete(load.run(float(values[0]), int(values[1])))
        print(json.dumps(dataclasses.asdict(report)), flush=True)
    loop.run_until_complete(load.close())
    loop.close()


if __name__ == "__main__":
    main()
