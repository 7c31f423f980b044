"""Shared by the tests of supervisors and workers: an agent that obeys its callers, and the callers."""

from __future__ import annotations

import asyncio
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from tests.helpers import ANSWER_TIMEOUT_S, ServerProcess, connect, read_answer, spoken, transcript_message

# Answers with its version, its supervisor and its process, and carries out the caller's orders.
AGENT = """
    import asyncio, os, time
    VERSION = "one"
    async def on_transcript(transcript, session):
        said = transcript[-1].content
        if said.startswith("block "):
            time.sleep(float(said.split()[1]))
        elif said == "wait":
            await asyncio.sleep(3600)
        elif said == "take your time":
            await asyncio.sleep(3)
        elif said == "die":
            os._exit(9)
        elif said == "eat":
            global eaten
            eaten = bytearray(os.urandom(1024) * 256 * 1024)
        await session.send_response(f"{VERSION} {os.getppid()} {os.getpid()}")
"""

needs_proc = pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="looks at processes in /proc")


def write_agent(path: Path, source: str = AGENT, version: str = "one") -> Path:
    """Write an agent's file, or overwrite it with another version."""
    path.write_text(textwrap.dedent(source).replace('VERSION = "one"', f'VERSION = "{version}"'))
    # Python would reuse compiled code of the same second and size.
    for compiled in path.parent.glob("__pycache__/*.pyc"):
        compiled.unlink()
    return path


class Caller:
    """A conversation with the agent."""

    def __init__(self, websocket: ClientConnection) -> None:
        self.websocket = websocket
        self._turns = 0

    async def say(self, text: str) -> None:
        self._turns += 1
        await self.websocket.send(transcript_message(text, event_id=self._turns))

    async def hear(self, text: str) -> str:
        """Send a transcript and return the whole answer."""
        await self.say(text)
        return await self.answer()

    async def answer(self) -> str:
        """Return the next answer."""
        return spoken(await asyncio.wait_for(read_answer(self.websocket), ANSWER_TIMEOUT_S))

    async def _hear(self, text: str) -> tuple[str, int, int]:
        version, supervisor, worker = (await self.hear(text)).split()
        return version, int(supervisor), int(worker)

    async def ask(self, text: str = "who are you?") -> tuple[str, int]:
        """Send a transcript and return the version and process id of the worker that answers."""
        version, _, worker = await self._hear(text)
        return version, worker

    async def who(self) -> tuple[int, int]:
        """Return the process ids of the supervisor and of the worker that answers."""
        _, supervisor, worker = await self._hear("who are you?")
        return supervisor, worker

    async def until_cut(self) -> None:
        """Read until the connection has ended."""

        async def read() -> None:
            while True:
                await self.websocket.recv()

        with pytest.raises(ConnectionClosed):
            await asyncio.wait_for(read(), ANSWER_TIMEOUT_S)


@asynccontextmanager
async def call(server: ServerProcess, **options: Any) -> AsyncIterator[Caller]:
    """Hold a conversation; `connect` takes the options."""
    async with connect(server.url, **options) as websocket:
        yield Caller(websocket)


def wait_for_drain(server: ServerProcess, *pids: int) -> None:
    """Wait until these workers take no new conversations; needs --log-level debug."""
    for pid in pids:
        server.wait_for_output(rf"\(pid {pid}\) drains")


async def get(server: ServerProcess, path: str = "/readyz", head: str = "GET {} HTTP/1.0\r\n\r\n") -> tuple[int, str]:
    """Return status and body of a plain request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        writer.write(head.format(path).encode())
        answer = (await asyncio.wait_for(reader.read(), ANSWER_TIMEOUT_S)).decode()
    finally:
        writer.close()
        await writer.wait_closed()
    if not answer:
        raise ConnectionResetError
    return int(answer.split(" ", 2)[1]), answer.partition("\r\n\r\n")[2]
