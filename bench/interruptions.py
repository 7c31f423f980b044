"""Interruptions of streams of the LLM packages: the tokens that providers make for nobody, and what is left behind.

`python -m bench.interruptions`: some five minutes. Conversations with a server in this process are each interrupted
many times while a package streams from the fake provider, which runs in a process of its own and notes each token's
time. The packages that are installed take turns. Their clients stay open, as those of an agent do.

Exit code 0: at most 1% of the tokens came after their interruption, and nothing was left behind; 1: not so; 2: no
package is installed.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib.util
import json
import sys
import threading
import time
import warnings
from bisect import bisect_right
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import uvloop
import websockets

from se_server import SpeechEngineServer
from se_server.streams.driving import detached
from tests.leaks import open_descriptors
from tests.providers import RemoteProvider, provider_process

__all__ = ["Storm", "installed", "main", "print_storm", "run"]

CONVERSATIONS, INTERRUPTIONS, AT_ONCE = 100, 20, 10
# Answers are interrupted in their second second, as people do.
TOKENS_PER_S, ANSWER_TOKENS, HEARD_CHUNKS = 50.0, 5_000, 60
MAX_SHARE = 0.01
TIMEOUT_S = 30.0
GRACE_STEP_S, GRACE_STEPS = 0.05, 60
# Threads of the event loop's executor stay for the next call.
EXECUTORS = ("asyncio_", "uvloop_")
MESSAGES: Any = [{"role": "user", "content": "Good morning"}]

Ask = Callable[[str], Awaitable[Any]]
"""Takes a model's name, by which the provider tells requests apart; gives the object for `send_response`."""
Make = Callable[[AsyncExitStack, Callable[[str], str]], Awaitable[Ask]]


async def openai_chat(stack: AsyncExitStack, url: Callable[[str], str]) -> Ask:
    import openai

    client: Any = await stack.enter_async_context(openai.AsyncOpenAI(api_key="none", base_url=url("openai")))
    return lambda model: client.chat.completions.create(model=model, messages=MESSAGES, stream=True)


async def openai_responses(stack: AsyncExitStack, url: Callable[[str], str]) -> Ask:
    import openai

    client: Any = await stack.enter_async_context(openai.AsyncOpenAI(api_key="none", base_url=url("openai")))
    return lambda model: client.responses.create(model=model, input="Good morning", stream=True)


async def azure(stack: AsyncExitStack, url: Callable[[str], str]) -> Ask:
    import openai

    options: Any = {"api_key": "none", "azure_endpoint": url("azure"), "api_version": "2024-10-21"}
    client: Any = await stack.enter_async_context(openai.AsyncAzureOpenAI(**options))
    return lambda model: client.chat.completions.create(model=model, messages=MESSAGES, stream=True)


async def anthropic(stack: AsyncExitStack, url: Callable[[str], str]) -> Ask:
    from anthropic import AsyncAnthropic

    client: Any = await stack.enter_async_context(AsyncAnthropic(api_key="none", base_url=url("anthropic")))
    return lambda model: client.messages.create(model=model, max_tokens=1024, messages=MESSAGES, stream=True)


async def anthropic_manager(stack: AsyncExitStack, url: Callable[[str], str]) -> Ask:
    from anthropic import AsyncAnthropic

    client: Any = await stack.enter_async_context(AsyncAnthropic(api_key="none", base_url=url("anthropic")))

    async def ask(model: str) -> Any:
        return client.messages.stream(model=model, max_tokens=1024, messages=MESSAGES)

    return ask


async def gemini(stack: AsyncExitStack, url: Callable[[str], str]) -> Ask:
    from google import genai

    client = genai.Client(api_key="none", http_options={"base_url": url("gemini")})
    stack.callback(client.close)
    stack.push_async_callback(client.aio.aclose)
    return lambda model: client.aio.models.generate_content_stream(model=model, contents="Good morning")


async def mistral(stack: AsyncExitStack, url: Callable[[str], str]) -> Ask:
    from mistralai.client import Mistral

    client: Any = await stack.enter_async_context(Mistral(api_key="none", server_url=url("mistral")))
    return lambda model: client.chat.stream_async(model=model, messages=MESSAGES)


async def cohere(stack: AsyncExitStack, url: Callable[[str], str]) -> Ask:
    from cohere import AsyncClientV2

    client: Any = await stack.enter_async_context(AsyncClientV2(api_key="none", base_url=url("cohere")))

    async def ask(model: str) -> Any:
        return client.chat_stream(model=model, messages=MESSAGES)

    return ask


async def ollama(stack: AsyncExitStack, url: Callable[[str], str]) -> Ask:
    from ollama import AsyncClient

    client: Any = AsyncClient(host=url("ollama"))
    stack.push_async_callback(client._client.aclose)
    return lambda model: client.chat(model=model, messages=MESSAGES, stream=True)


async def groq(stack: AsyncExitStack, url: Callable[[str], str]) -> Ask:
    from groq import AsyncGroq

    client: Any = await stack.enter_async_context(AsyncGroq(api_key="none", base_url=url("groq")))
    return lambda model: client.chat.completions.create(model=model, messages=MESSAGES, stream=True)


async def together(stack: AsyncExitStack, url: Callable[[str], str]) -> Ask:
    from together import AsyncTogether

    client: Any = await stack.enter_async_context(AsyncTogether(api_key="none", base_url=url("together")))
    return lambda model: client.chat.completions.create(model=model, messages=MESSAGES, stream=True)


async def bedrock(stack: AsyncExitStack, url: Callable[[str], str]) -> Ask:
    import boto3
    from botocore.config import Config

    options: Any = {"aws_access_key_id": "none", "aws_secret_access_key": "none", "region_name": "us-east-1"}
    config = Config(max_pool_connections=50)
    client = boto3.client("bedrock-runtime", endpoint_url=url("bedrock"), config=config, **options)
    stack.callback(client.close)
    messages = [{"role": "user", "content": [{"text": "Good morning"}]}]
    return lambda model: asyncio.to_thread(client.converse_stream, modelId=model, messages=messages)


async def aiohttp_response(stack: AsyncExitStack, url: Callable[[str], str]) -> Ask:
    import aiohttp

    client = await stack.enter_async_context(aiohttp.ClientSession())

    async def ask(model: str) -> Any:
        body = {"model": model, "messages": MESSAGES, "stream": True}
        return client.post(f"{url('openai')}/chat/completions", json=body)

    return ask


async def litellm(stack: AsyncExitStack, url: Callable[[str], str]) -> Ask:
    import litellm as package
    import openai

    # A client of its own: litellm keeps those that it makes, and their connections, for an hour.
    client = await stack.enter_async_context(openai.AsyncOpenAI(api_key="none", base_url=url("openai")))

    async def ask(model: str) -> Any:
        return package.acompletion(model=f"openai/{model}", messages=MESSAGES, stream=True, client=client)

    return ask


async def langchain(stack: AsyncExitStack, url: Callable[[str], str]) -> Ask:
    import openai
    from langchain_openai import ChatOpenAI

    client = await stack.enter_async_context(openai.DefaultAsyncHttpxClient())
    options: Any = {"api_key": "none", "base_url": url("openai"), "http_async_client": client}

    async def ask(model: str) -> Any:
        return ChatOpenAI(model=model, **options).astream("Good morning")

    return ask


WAYS: Mapping[str, tuple[str, Make]] = {
    "openai chat": ("openai", openai_chat),
    "openai responses": ("openai", openai_responses),
    "azure": ("openai", azure),
    "anthropic create": ("anthropic", anthropic),
    "anthropic stream": ("anthropic", anthropic_manager),
    "google-genai": ("google.genai", gemini),
    "mistralai": ("mistralai", mistral),
    "cohere": ("cohere", cohere),
    "ollama": ("ollama", ollama),
    "groq": ("groq", groq),
    "together": ("together", together),
    "boto3": ("boto3", bedrock),
    "litellm": ("litellm", litellm),
    "langchain": ("langchain_openai", langchain),
    "aiohttp": ("aiohttp", aiohttp_response),
}
"""The module and the way to ask, by name."""


@dataclass
class Storm:
    """The result of a run.

    Attributes:
        interruptions: Interruptions by way.
        tokens: Tokens that the provider made, by way.
        late: Tokens that it made after their interruption, by way.
        left: Descriptions of what was left behind.
        errors: Errors that reached the agent's `on_error`.
        seconds: The time of it all.
    """

    interruptions: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)
    late: Counter[str] = field(default_factory=Counter)
    left: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def share(self) -> float:
        """The share of the tokens that were made for nobody."""
        return sum(self.late.values()) / max(1, sum(self.tokens.values()))

    @property
    def is_good(self) -> bool:
        """Whether at most 1% of the tokens were late, and nothing is left."""
        return self.share <= MAX_SHARE and not self.left and not self.errors


def installed() -> list[str]:
    """Return the names of the ways whose packages are installed."""

    def is_there(module: str) -> bool:
        try:
            return importlib.util.find_spec(module) is not None
        except ImportError:
            return False

    return [name for name, (module, _) in WAYS.items() if is_there(module)]


async def run(
    provider: RemoteProvider,
    ways: list[str],
    conversations: int = CONVERSATIONS,
    interruptions: int = INTERRUPTIONS,
    at_once: int = AT_ONCE,
) -> Storm:
    """Interrupt conversations, and return what the provider saw.

    Args:
        provider: the fake provider's process.
        ways: names of `WAYS`; the conversations take them in turn.
        conversations: the number of conversations.
        interruptions: the number of interruptions of each.
        at_once: how many conversations are held at a time.
    """
    storm = Storm()
    # litellm ends an answer of a hundred equal chunks.
    provider.script(text=[f"word{number % 10} " for number in range(ANSWER_TOKENS)], tokens_per_s=TOKENS_PER_S)
    interrupted_s: dict[str, float] = {}
    started_s = time.monotonic()
    async with _clients(provider, ways) as asks:
        async with _serving(asks, storm) as port:  # the packages import and connect before anything is counted
            await asyncio.gather(*(_converse(port, f"warm-{number}", number, 1, {}) for number in range(len(ways))))
        await asyncio.to_thread(provider.reset)
        before = _left_now()
        async with _serving(asks, storm) as port:
            free = asyncio.Semaphore(at_once)

            async def converse(number: int) -> None:
                async with free:
                    await _converse(port, str(number), number, interruptions, interrupted_s)

            await asyncio.gather(*map(converse, range(conversations)))
        await asyncio.to_thread(provider.idle)
        storm.left += _compare(before, _left_now())
    storm.seconds = time.monotonic() - started_s
    if connections := await _connections_left(provider):
        storm.left.append(f"{connections} connections")
    for request in await asyncio.to_thread(provider.requests):
        number, _, _ = request["model"].partition("-")
        way = ways[int(number) % len(ways)]
        storm.interruptions[way] += 1
        times = request["token_times_s"]
        storm.tokens[way] += len(times)
        # An answer that failed was not interrupted; its error counts.
        storm.late[way] += len(times) - bisect_right(times, interrupted_s.get(request["model"], float("inf")))
    return storm


@asynccontextmanager
async def _clients(provider: RemoteProvider, ways: list[str]) -> AsyncIterator[list[Ask]]:
    async with AsyncExitStack() as stack:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the packages' own, at import
            yield [await WAYS[way][1](stack, provider.base_url) for way in ways]


@asynccontextmanager
async def _serving(asks: list[Ask], storm: Storm) -> AsyncIterator[int]:
    async def on_transcript(transcript: Any, session: Any) -> None:
        number, _, turn = transcript[-1].content.rpartition("-")
        if turn == "end":
            await session.send_response("Bye.")
        else:
            ask = asks[int(number.removeprefix("warm-")) % len(asks)]
            await session.send_response(ask(f"{number.removeprefix('warm-')}-{turn}"))

    def on_error(error: Exception, session: Any) -> None:
        storm.errors.append(f"{type(error).__name__}: {error}")

    options: Any = {"on_transcript": on_transcript, "on_error": on_error}
    server = SpeechEngineServer(port=0, host="127.0.0.1", disable_auth=True, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # authentication is off on purpose
        serving = asyncio.create_task(server.serve())
        await server.wait_ready()
    try:
        yield server.port
    finally:
        await server.stop()
        await serving


async def _converse(port: int, name: str, number: int, interruptions: int, interrupted_s: dict[str, float]) -> None:
    """Hold one conversation: each answer is interrupted after some words, the last by a goodbye."""
    url = f"ws://127.0.0.1:{port}/"
    async with websockets.connect(url, compression=None, proxy=None, ping_interval=None) as ws:
        await ws.send(json.dumps({"type": "init", "conversation_id": f"conv_{name}"}))

        async def say(event_id: int, words: str) -> None:
            transcript = [{"role": "user", "content": words}]
            await ws.send(json.dumps({"type": "user_transcript", "user_transcript": transcript, "event_id": event_id}))

        await say(0, f"{name}-0")
        for turn in range(interruptions):
            heard = 0
            while heard < HEARD_CHUNKS:
                message = json.loads(await asyncio.wait_for(ws.recv(), TIMEOUT_S))
                if message["event_id"] == turn:
                    if message["is_final"]:
                        return  # the agent's `on_error` has the reason
                    heard += 1
            is_last = turn + 1 == interruptions
            interrupted_s[f"{number}-{turn}"] = time.monotonic()
            await say(turn + 1, f"{name}-{'end' if is_last else turn + 1}")
        while not (message["event_id"] == interruptions and message["is_final"]):
            message = json.loads(await asyncio.wait_for(ws.recv(), TIMEOUT_S))


async def _connections_left(provider: RemoteProvider) -> int:
    """Wait until the provider has no connection, and return how many it has after all."""
    for _ in range(GRACE_STEPS):
        # The one that asks is among them.
        if not (left := (await asyncio.to_thread(provider.totals))["connections"] - 1):
            break
        await asyncio.sleep(GRACE_STEP_S)
    return int(left)


def _left_now() -> dict[str, Counter[str]]:
    """Count tasks, threads and descriptors; those of the packages' own are there before and after."""
    gc.collect()
    threads = [thread.name for thread in threading.enumerate() if not thread.name.startswith(EXECUTORS)]
    return {
        "task": Counter(task.get_name().rstrip("0123456789") for task in asyncio.all_tasks()),
        "thread": Counter(threads),
        "descriptor": Counter(kind.partition(":")[0] for _, kind in open_descriptors()),
        "detached stream": Counter({"": len(detached)}),
    }


def _compare(before: dict[str, Counter[str]], after: dict[str, Counter[str]]) -> list[str]:
    return [
        f"{number} {kind} {name}".rstrip() for kind in after for name, number in (after[kind] - before[kind]).items()
    ]


def print_storm(storm: Storm) -> None:
    """Print the result."""
    print(f"{'way':20} {'interruptions':>13} {'tokens':>8} {'late':>6} {'share':>7}")
    for way in storm.tokens:
        share = storm.late[way] / max(1, storm.tokens[way])
        print(f"{way:20} {storm.interruptions[way]:13} {storm.tokens[way]:8} {storm.late[way]:6} {share:7.2%}")
    total, late = sum(storm.tokens.values()), sum(storm.late.values())
    print(f"{'all':20} {sum(storm.interruptions.values()):13} {total:8} {late:6} {storm.share:7.2%}")
    print(f"left behind: {', '.join(storm.left) or 'nothing'}; errors: {len(storm.errors)}; {storm.seconds:.0f} s")
    for error in sorted(set(storm.errors))[:5]:
        print(f"  {error[:200]}")


def main() -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.interruptions", description="Interrupt LLM streams.")
    parser.add_argument("--conversations", type=int, default=CONVERSATIONS)
    parser.add_argument("--interruptions", type=int, default=INTERRUPTIONS)
    parser.add_argument("--at-once", type=int, default=AT_ONCE)
    parser.add_argument("--way", action="append", choices=sorted(WAYS), help="only this one; repeatable")
    options = parser.parse_args()
    ways = options.way or installed()
    if not ways:
        print("no LLM package is installed", file=sys.stderr)
        return 2
    uvloop.install()
    with provider_process() as provider:
        storm = asyncio.run(run(provider, ways, options.conversations, options.interruptions, options.at_once))
    print_storm(storm)
    return 0 if storm.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
