"""The least that a token costs on uvloop in Python: protocols on both sides, and no HTTP client, task or JSON.

The texts are cut out of the provider's bytes, or made at its pace by timers, and written to the caller as ready-made
frames. Nothing is checked, limited or closed. `SE_BENCH_LLM` is that of `llm_handler`; the provider's API is OpenAI's.

For the path `plain generator (task)` the texts are those of the user's generator, which a task iterates.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import ssl
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import urlsplit

import uvloop

from bench.llm_paths import TOKENS_PER_S, plain_generator
from bench.load.frames import HEAD_END

SETTINGS = json.loads(os.environ["SE_BENCH_LLM"])
TIMED = SETTINGS["path"] == "plain generator"
ITERATED = SETTINGS["path"] == "plain generator (task)"
PROVIDER = urlsplit(SETTINGS["urls"]["openai"])
_UNMASK = bytes(byte ^ 0x5A for byte in range(256))  # the mask of `frames.client_frame`
_QUESTION = re.compile(rb'"content": "(\w+-(\d+))"')
_TEXT = re.compile(rb'"content": ?"((?:[^"\\]|\\.)+)"')
_SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


def frame(text: bytes, is_final: bytes) -> bytes:
    """Return a server's frame of one chunk."""
    payload = b'{"type":"agent_response","content":"%b","event_id":1,"is_final":%b}' % (text, is_final)
    return bytes((0x81, len(payload))) + payload


class Conversation(asyncio.Protocol):
    """A caller's connection."""

    def __init__(self) -> None:
        self._data = b""
        self._is_up = False
        self._answer: Any = None
        self.write: Any = None

    def connection_made(self, transport: Any) -> None:
        self.write = transport.write

    def data_received(self, data: bytes) -> None:
        self._data += data
        if not self._is_up and HEAD_END in self._data:
            self._is_up = True
            self._data = self._data.partition(HEAD_END)[2]
            self.write(_SWITCH)
        question = _QUESTION.search(self._data.translate(_UNMASK))
        if question is not None and self._answer is None:
            if ITERATED:
                self._answer = asyncio.ensure_future(iterate(self, question[1].decode()))
            else:
                self._answer = Timed(self, int(question[2])) if TIMED else Asked(self, question[1].decode())

    def put(self, text: bytes) -> None:
        """Send a text."""
        self.write(frame(text, b"false"))

    def end(self) -> None:
        """Send the final."""
        self.write(frame(b"", b"true"))


async def iterate(conversation: Conversation, model: str) -> None:
    """Send the texts of the generator that the servers under test are given."""
    async with AsyncExitStack() as stack:
        ask = await plain_generator(stack, None)
        async for text in await ask(model):
            conversation.put(text.encode())
        conversation.end()


class Timed:
    """Texts at the provider's pace, by one timer."""

    def __init__(self, conversation: Conversation, count: int) -> None:
        self._conversation = conversation
        self._count = count
        self._number = 0
        self._loop = asyncio.get_running_loop()
        self._start_s = self._loop.time()
        self._tick()

    def _tick(self) -> None:
        if self._number == self._count:
            self._conversation.end()
            return
        self._conversation.put(b"morning ")
        self._number += 1
        self._loop.call_at(self._start_s + self._number / TOKENS_PER_S, self._tick)


class Asked(asyncio.Protocol):
    """Texts out of the provider's bytes."""

    def __init__(self, conversation: Conversation, model: str) -> None:
        self._conversation = conversation
        self._model = model
        self._transport: Any = None
        secure = ssl.create_default_context(cafile=os.environ["SSL_CERT_FILE"]) if PROVIDER.scheme == "https" else None
        connecting = asyncio.get_running_loop().create_connection(
            lambda: self, PROVIDER.hostname, PROVIDER.port, ssl=secure
        )
        self._connecting = asyncio.ensure_future(connecting)

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        said = {"model": self._model, "messages": [{"role": "user", "content": "Good morning"}], "stream": True}
        body = json.dumps(said)
        head = (
            f"POST {PROVIDER.path}/chat/completions HTTP/1.1\r\nHost: {PROVIDER.netloc}\r\n"
            f"Authorization: Bearer none\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        transport.write(f"{head}{body}".encode())

    def data_received(self, data: bytes) -> None:
        for text in _TEXT.findall(data):
            self._conversation.put(text)
        if b"[DONE]" in data:
            self._conversation.end()
            self._transport.close()


async def main() -> None:
    """Serve until the process is stopped."""
    server = await asyncio.get_running_loop().create_server(Conversation, "127.0.0.1", 0)
    print(f"ready {server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
