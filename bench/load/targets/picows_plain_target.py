"""A server by hand in an hour: picows and orjson from plain Python, without checks, ledger or flow control.

`python -m bench.load.targets.picows_plain_target` prints `ready PORT`. It does not verify tokens: it is a limit for
comparisons, not a server for use.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable
from dataclasses import dataclass

import orjson
import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest, ws_create_server

from bench.load.targets.handler import on_transcript


@dataclass(frozen=True, slots=True)
class Message:
    role: str
    content: str


class Session(WSListener):
    """One conversation: a task a turn, a frame and a write for each chunk."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None
        self._event_id: int | None = None

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type != WSMsgType.TEXT:
            return
        message = orjson.loads(frame.get_payload_as_memoryview())
        if message["type"] == "user_transcript":
            self._event_id = message["event_id"]
            transcript = [Message(**entry) for entry in message["user_transcript"]]
            self._task = asyncio.get_running_loop().create_task(on_transcript(transcript, self))
        elif message["type"] == "close":
            transport.disconnect()

    async def send_response(self, stream: AsyncIterable[str]) -> None:
        async for text in stream:
            self.send(text, is_final=False)
        self.send("", is_final=True)

    def send(self, text: str, *, is_final: bool) -> None:
        message = {"type": "agent_response", "content": text, "event_id": self._event_id, "is_final": is_final}
        self._transport.send(WSMsgType.TEXT, orjson.dumps(message))


def new_session(request: WSUpgradeRequest) -> Session:
    return Session()


async def serve() -> None:
    server = await ws_create_server(new_session, "127.0.0.1", 0)
    print(f"ready {server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve())
