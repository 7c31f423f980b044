"""A provider of raw bytes, and what a package makes of them: by its own objects, and by takeover."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from se_server.errors import StreamFailed
from se_server.streams._delta import text_of
from se_server.streams._scan import Failure
from se_server.streams._takeover import Takeover
from se_server.streams.opening import Opening
from se_server.streams.takeover import takeover_of
from tests.llm.rows import MESSAGES

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"

Ask = Callable[[], Awaitable[Any]]


@dataclass
class RawProvider:
    """Answers each request with the same bytes, written piece by piece.

    Attributes:
        url: Its address.
        pieces: What is written, each on its own; a number is a pause in seconds, None closes the connection.
        connections: The number of connections that were made.
    """

    url: str = ""
    pieces: list[bytes | float | None] = field(default_factory=list)
    connections: int = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                size = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
                await reader.readexactly(size)
                for piece in self.pieces:
                    if piece is None:
                        return
                    if isinstance(piece, float):
                        await asyncio.sleep(piece)
                    else:
                        writer.write(piece)
                        await asyncio.sleep(0)
                        await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def raw_provider() -> AsyncIterator[RawProvider]:
    """Run a provider on a free port."""
    provider = RawProvider()
    server = await asyncio.start_server(provider.answer, "127.0.0.1", 0, limit=2**24)
    provider.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield provider
    finally:
        server.close()


def chunked(pieces: list[bytes], *, ends: bool = True) -> list[bytes]:
    """Return pieces as chunks of HTTP/1.1."""
    chunks = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece]
    return [*chunks, b"0\r\n\r\n"] if ends else chunks


@dataclass
class Outcome:
    """What came of a stream: its text, and the exception it ended with."""

    text: str = ""
    error: str = ""


async def by_objects(stream: Any) -> Outcome:
    """Read a stream by its package's objects; a response of aiohttp by its own iterator of bytes."""
    outcome = Outcome()
    try:
        async for event in Opening(stream, False).iterator if is_response(stream) else stream:
            if isinstance(event, Failure):
                raise StreamFailed(event.message)
            outcome.text += text_of(event) or ""
    except Exception as error:
        outcome.error = f"{type(error).__module__}.{type(error).__name__}: {error}"
    if is_response(stream):
        stream.close()
    # The server joins the halves of a character.
    outcome.text = outcome.text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return outcome


async def by_takeover(stream: Any) -> Outcome:
    """Read a stream by takeover.

    Raises:
        AssertionError: it is not taken over.
    """
    taken = Opening(stream, True).iterator if is_response(stream) else takeover_of(stream)
    assert isinstance(taken, Takeover)
    outcome = Outcome()
    try:
        async for event in taken:
            if isinstance(event, Failure):
                raise StreamFailed(event.message)
            outcome.text += "".join(event) if taken.gives_texts else text_of(event) or ""
    except Exception as error:
        outcome.error = f"{type(error).__module__}.{type(error).__name__}: {error}"
    finally:
        await taken.aclose()
        closing = stream.close()
        if closing is not None:
            await closing
    return outcome


def is_response(stream: Any) -> bool:
    """Whether a stream is a response of aiohttp."""
    return type(stream).__name__ == "ClientResponse"


# --- packages -------------------------------------------------------------------------------------------------------


async def openai_chat(stack: AsyncExitStack, url: str) -> Ask:
    import openai

    client: Any = openai.AsyncOpenAI(api_key="none", base_url=url, max_retries=0, timeout=1)
    await stack.enter_async_context(client)
    return lambda: client.chat.completions.create(model="m", messages=MESSAGES, stream=True)


async def openai_aiohttp(stack: AsyncExitStack, url: str) -> Ask:
    import openai

    transport = openai.DefaultAioHttpClient(timeout=1)
    client: Any = openai.AsyncOpenAI(api_key="none", base_url=url, max_retries=0, timeout=1, http_client=transport)
    await stack.enter_async_context(client)
    return lambda: client.chat.completions.create(model="m", messages=MESSAGES, stream=True)


async def openai_responses(stack: AsyncExitStack, url: str) -> Ask:
    import openai

    client: Any = openai.AsyncOpenAI(api_key="none", base_url=url, max_retries=0, timeout=1)
    await stack.enter_async_context(client)
    return lambda: client.responses.create(model="m", input="Hello", stream=True)


async def anthropic(stack: AsyncExitStack, url: str) -> Ask:
    from anthropic import AsyncAnthropic

    client: Any = AsyncAnthropic(api_key="none", base_url=url, max_retries=0, timeout=1)
    await stack.enter_async_context(client)
    return lambda: client.messages.create(model="m", max_tokens=9, messages=MESSAGES, stream=True)


async def groq(stack: AsyncExitStack, url: str) -> Ask:
    from groq import AsyncGroq

    client: Any = AsyncGroq(api_key="none", base_url=url, max_retries=0, timeout=1)
    await stack.enter_async_context(client)
    return lambda: client.chat.completions.create(model="m", messages=MESSAGES, stream=True)


async def together(stack: AsyncExitStack, url: str) -> Ask:
    from together import AsyncTogether

    client: Any = AsyncTogether(api_key="none", base_url=url, max_retries=0, timeout=1)
    await stack.enter_async_context(client)
    return lambda: client.chat.completions.create(model="m", messages=MESSAGES, stream=True)


async def aiohttp_response(stack: AsyncExitStack, url: str) -> Ask:
    from aiohttp import ClientSession, ClientTimeout

    session = await stack.enter_async_context(ClientSession(timeout=ClientTimeout(sock_read=1)))
    return lambda: session.post(url, json={"model": "m", "messages": MESSAGES, "stream": True})


async def mistral(stack: AsyncExitStack, url: str) -> Ask:
    from mistralai.client import Mistral

    client: Any = Mistral(api_key="none", server_url=url, timeout_ms=1000)
    await stack.enter_async_context(client)
    return lambda: client.chat.stream_async(model="m", messages=MESSAGES)


PACKAGES: Mapping[str, tuple[str, Callable[[AsyncExitStack, str], Awaitable[Ask]]]] = {
    "openai chat": ("openai", openai_chat),
    "openai chat, aiohttp": ("openai", openai_aiohttp),
    "openai responses": ("openai", openai_responses),
    "anthropic": ("anthropic", anthropic),
    "groq": ("groq", groq),
    "together": ("together", together),
    "mistralai": ("mistralai", mistral),
    "aiohttp": ("aiohttp", aiohttp_response),
}
"""The module and the way to ask, by name."""
