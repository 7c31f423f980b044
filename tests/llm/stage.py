"""One conversation with a real server over a real socket, whose handler speaks one row's object."""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import logging
import socket
import time
import warnings
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import websockets
from websockets.asyncio.client import ClientConnection

from se_server import SpeechEngineServer, SpeechEngineSession
from tests.llm.rows import Case, Row
from tests.providers import Provider, Request, Script

T = TypeVar("T")

TIMEOUT_S = 20.0
# The time from an interruption to the end of the request.
CLOSE_S = 1.0
# A request that has nothing to wait for has ended by then, also on a machine that stands still now and then.
IDLE_S = 10.0
FAILURE_TEXT = "Sorry, something went wrong."
INTERRUPTED = "Stopped."


@dataclass
class Heard:
    """A conversation from its first utterance to the end of its handlers.

    Attributes:
        text: The text of the row's answer that the caller got.
        finals: The number of its finals.
        late: Messages after the final.
        errors: The exceptions that `on_error` got, as `Class: text`.
        logged: Warnings of the server's log.
        usage: The input and output tokens that the turn has.
    """

    text: str = ""
    finals: int = 0
    late: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    logged: list[str] = field(default_factory=list)
    usage: tuple[int | None, int | None] | None = None

    def verdict(self, row: Row) -> str:
        """Return `right`, `refused`, `silent` or `wrong`."""
        if self.late or self.finals != 1:
            return "wrong"
        if row.is_refused:
            is_named = any(row.error in error for error in self.errors)
            return "refused" if is_named and self.text == row.spoken else "wrong"
        if self.text == row.spoken and not self.errors and not any(UNSPOKEN in line for line in self.logged):
            return "right"
        return "wrong" if self.text or self.errors else "silent"


# A part of the line about events beside the text that were not spoken.
UNSPOKEN = "an answer of handler"


class Stage:
    """A running server, whose handler speaks a row's object at the first utterance.

    Attributes:
        heard: The row's conversation as far as it got.
        over: Set when the handler of the row's object has ended.
    """

    def __init__(self, row: Row, provider: Provider, options: dict[str, Any]) -> None:
        self.row = row
        self.provider = provider
        self.heard = Heard()
        self.over = asyncio.Event()
        self.session: SpeechEngineSession | None = None
        self._clients = AsyncExitStack()
        self._kept: list[Any] = []
        self._server = SpeechEngineServer(
            port=0, host="127.0.0.1", disable_auth=True, drain_timeout_s=0.0, empty_answer_text="", hold_after_s=False,
            on_transcript=self._on_transcript, on_error=self._on_error, **options,
        )  # fmt: skip

    async def _on_transcript(self, transcript: Any, session: SpeechEngineSession) -> None:
        if self.session is not None:
            await session.send_response(INTERRUPTED)
            return
        self.session = session
        try:
            async with AsyncExitStack() as entered:
                response = await self.row.make(Case(self.provider, self._clients, entered))
                # The reference stays: no request may end because its stream was collected.
                self._kept.append(response)
                await session.send_response(response, **self.row.options)
                if session.turn is not None and session.turn.usage is not None:
                    self.heard.usage = (session.turn.usage.input_tokens, session.turn.usage.output_tokens)
        finally:
            self.over.set()

    def _on_error(self, error: Exception, session: SpeechEngineSession) -> None:
        self.heard.errors.append(f"{type(error).__name__}: {error}")

    async def in_provider(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Await something in the provider's thread."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, self.provider.loop))

    # --- the caller -------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def call(self) -> AsyncIterator[Caller]:
        """Serve, and open a conversation; everything is closed in the end, the row's clients last."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # authentication is off on purpose
            serving = asyncio.create_task(self._server.serve())
            await self._server.wait_ready()
        try:
            url = f"ws://127.0.0.1:{self._server.port}/"
            options: Any = {"ping_interval": None, "close_timeout": 1, "max_queue": 1, "max_size": None}
            async with websockets.connect(url, compression=None, proxy=None, **options) as ws:
                caller = Caller(ws)
                await caller.send(type="init", conversation_id="conv_1")
                yield caller
        finally:
            await self._server.stop()
            await serving
            self._kept.clear()
            await self._clients.aclose()


class Caller:
    """The API's side of the conversation."""

    def __init__(self, ws: ClientConnection) -> None:
        self.ws = ws

    async def send(self, **message: Any) -> None:
        await self.ws.send(json.dumps(message))

    async def say(self, event_id: int) -> None:
        """Say something; a current answer is interrupted."""
        transcript = [{"role": "user", "content": f"Question {event_id}"}]
        await self.send(type="user_transcript", user_transcript=transcript, event_id=event_id)

    async def receive(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(await asyncio.wait_for(self.ws.recv(), TIMEOUT_S))
        return message

    async def answer(self, event_id: int) -> str:
        """Return the text of an answer; chunks of the answer before are left out."""
        text = ""
        while True:
            message = await self.receive()
            if message.get("event_id") == event_id:
                if message["is_final"]:
                    return text
                text += message["content"]

    async def silence(self) -> list[str]:
        """Return what still comes before the answer to a ping."""
        await self.send(type="ping")
        late = []
        while (message := await self.receive()) != {"type": "pong"}:
            late.append(json.dumps(message, ensure_ascii=False))
        return late

    def stop_reading(self) -> None:
        """Let the server's buffers fill, after little in the kernel's."""
        self.ws.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        self.ws.transport.pause_reading()


class LogOfWarnings(logging.Handler):
    """Keeps what the server warns of."""

    def __init__(self, kept: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._kept = kept

    def emit(self, record: logging.LogRecord) -> None:
        self._kept.append(record.getMessage())


@asynccontextmanager
async def staged(
    row: Row, provider: Provider, script: Script | None = None, **options: Any
) -> AsyncIterator[tuple[Stage, Caller]]:
    """Open a conversation for a row.

    Args:
        row: the row to speak.
        provider: the fake provider, in a thread of its own.
        script: the provider's answer; None: the row's.
        options: those of the server.
    """
    if row.requires:
        importlib.import_module(row.requires)  # as programs do at their start: some take seconds
    provider.run(_script(provider, script or row.script))
    stage = Stage(row, provider, options)
    handler = LogOfWarnings(stage.heard.logged)
    logger = logging.getLogger("se_server")
    logger.addHandler(handler)
    try:
        async with stage.call() as caller:
            yield stage, caller
    finally:
        logger.removeHandler(handler)


async def _script(provider: Provider, script: Script) -> None:
    provider.reset()
    provider.default = script


async def speak(row: Row, provider: Provider, script: Script | None = None, **options: Any) -> Heard:
    """Speak a row's object to its end, and return what the caller heard.

    Raises:
        AssertionError: a request was left open.
    """
    async with staged(row, provider, script, **options) as (stage, caller):
        await caller.say(1)
        heard = stage.heard
        while not heard.finals:
            message = await caller.receive()
            if message["is_final"]:
                heard.finals += 1
            heard.text += message["content"]
        await asyncio.wait_for(stage.over.wait(), TIMEOUT_S)
        heard.late = await caller.silence()
        await stage.in_provider(provider.idle(IDLE_S))
    return heard


@dataclass
class Interruption:
    """An answer that was interrupted.

    Attributes:
        text: The text that was heard before.
        closed_s: The time from the interruption to the disconnect that the provider saw; None: it saw none.
        tokens_after: The tokens that the provider made after the interruption.
        logged: Warnings of the server's log.
        errors: The exceptions that `on_error` got.
    """

    text: str = ""
    closed_s: float | None = None
    tokens_after: int = 0
    logged: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


WAITING_FOR_EVENT = Script(text=("One", " two", " three", " four"), hold_after=2)
# All tokens differ: litellm takes a hundred equal tokens for a model that repeats itself.
# Its pace is that of a very fast model.
WAITING_FOR_SOCKET = Script(text=tuple(f"{number} {'x' * 20_000}" for number in range(2500)), tokens_per_s=1000)
WAITING_FOR_ANSWER = Script(text="One two", headers_after_s=60)


async def interrupt(row: Row, provider: Provider, script: Script, *, reads: bool = True) -> Interruption:
    """Speak a row's object, and interrupt it when it waits.

    Args:
        row: the row to speak.
        provider: the fake provider.
        script: one of the scripts above.
        reads: whether the caller reads; one that does not makes the stream wait for the socket.
    """
    gc.collect()
    gc.disable()
    try:
        async with staged(row, provider, script) as (stage, caller):
            if not reads:
                caller.stop_reading()
            await caller.say(1)
            done = Interruption()
            request: Request = await stage.in_provider(provider.received(1))
            if not reads:
                while stage.session is None or stage.session._outbox.writable:  # type: ignore[attr-defined]
                    assert not stage.over.is_set(), stage.heard
                    await asyncio.sleep(0.001)
            elif script.hold_after:
                while "One two" not in done.text:
                    message = await caller.receive()
                    assert not message["is_final"], (done.text, stage.heard)
                    done.text += message["content"]
            interrupted_s = time.monotonic()
            await caller.say(2)
            try:
                request = provider.requests[-1]
                seen_s = await stage.in_provider(request.disconnected(3 * CLOSE_S))
                done.closed_s = seen_s - interrupted_s
            except AssertionError:
                pass
            done.tokens_after = request.tokens_after(interrupted_s)
            if not reads:
                caller.ws.transport.resume_reading()
            assert await caller.answer(2) == INTERRUPTED
            await asyncio.wait_for(stage.over.wait(), TIMEOUT_S)
            done.logged, done.errors = stage.heard.logged, stage.heard.errors
        return done
    finally:
        gc.enable()
