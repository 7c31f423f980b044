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
from typing import Any

import orjson
import uvloop
from picows import WSError, WSFrame, WSListener, WSMsgType, WSTransport, ws_connect
from se_server.auth import AUTHORIZATION_HEADER, sign_token

from bench.load.conversations import Scenario, Script, expected_chunks

SAMPLE_EVERY = 16
CONNECT_TIMEOUT_S = 10.0
CONNECTS_AT_ONCE = 20
ANSWER_TIMEOUT_S = 10.0
MAX_FAILURES_KEPT = 5

_FINAL_COMPACT, _FINAL_SPACED = b'"is_final":true', b'"is_final": true'


@dataclasses.dataclass(slots=True)
class Report:
    """What one run did; times in seconds, `cpu_s` being the generator's own."""

    turns: int
    wall_s: float
    cpu_s: float
    verified_in_full: int
    failures: list[str]


class Conversation(WSListener):
    """One conversation: sends a transcript, counts what comes back, checks it, sends the next."""

    def __init__(self, load: ClosedLoop, number: int) -> None:
        self._load = load
        self._script = Script(load.scenario, number)
        self._transport: WSTransport | None = None
        self._event_id = 0
        self._chunks = 0
        self._kept: list[bytes] | None = None

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        transport.send(WSMsgType.TEXT, self._script.init())

    def ask(self) -> None:
        """Send the next transcript."""
        self._event_id += 1
        self._chunks = 0
        # Spread over the conversations, so that not all of them are checked in the same instant.
        self._kept = [] if (self._event_id + self._script.number) % SAMPLE_EVERY == 0 else None
        assert self._transport is not None
        self._transport.send(WSMsgType.TEXT, self._script.transcript(self._event_id))

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        payload = frame.get_payload_as_bytes()
        if self._kept is not None:
            self._kept.append(payload)
        if _FINAL_COMPACT not in payload and _FINAL_SPACED not in payload:
            self._chunks += 1
            if not payload.startswith(b"{"):
                self._load.fail(f"{self}: got {frame.msg_type.name} {payload[:80]!r}")
            return
        wrong = self._what_is_wrong(payload)
        if wrong:
            self._load.fail(f"{self}: {wrong}")
            return
        self._load.turn_done(self, in_full=self._kept is not None)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._load.fail(f"{self}: the server closed the connection")

    def hang_up(self) -> None:
        """Say goodbye as the API does."""
        if self._transport is not None and not self._transport.is_disconnected:
            self._transport.send(WSMsgType.TEXT, b'{"type": "close"}')
            self._transport.disconnect()

    def __str__(self) -> str:
        return f"conversation {self._script.number}, turn {self._event_id}, after {self._chunks} chunks"

    def _what_is_wrong(self, final: bytes) -> str:
        if self._chunks != self._load.scenario.chunks:
            return f"expected {self._load.scenario.chunks} chunks before the final"
        if orjson.loads(final) != self._message("", is_final=True):
            return f"wrong final {final!r}"
        if self._kept is not None:
            texts = expected_chunks(self._load.scenario, self._script.tag(self._event_id))
            for payload, text in zip(self._kept, texts, strict=False):
                if orjson.loads(payload) != self._message(text, is_final=False):
                    return f"expected the text {text!r}, got {payload!r}"
        return ""

    def _message(self, content: str, *, is_final: bool) -> dict[str, Any]:
        return {"type": "agent_response", "content": content, "event_id": self._event_id, "is_final": is_final}


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
            headers = {AUTHORIZATION_HEADER: sign_token(api_key)}
            async with gate:
                await ws_connect(
                    lambda: conversation,
                    url,
                    extra_headers=headers,
                    websocket_handshake_timeout=CONNECT_TIMEOUT_S,
                    max_redirects=0,
                )

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
        parser.add_argument(f"--{field.name}", type=int, required=True)
    options = parser.parse_args()

    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    load = ClosedLoop(Scenario(options.chunks, options.history, options.conversations))
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
