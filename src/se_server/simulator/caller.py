"""A caller on a real socket: drives the model of the API over picows, and tells what the user would hear."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

import picows

from se_server.auth import AUTHORIZATION_HEADER, sign_token
from se_server.errors import CallerError
from se_server.simulator.link import Ended, Listener, open_websocket
from se_server.simulator.model import ApiModel, CallTurn, Event, Pong


@dataclass(frozen=True)
class Reply:
    """What the user heard in answer to one utterance.

    Attributes:
        text: the words heard.
        chunks: the same as they came.
        event_id: the turn's id.
        is_interrupted: whether the user spoke before the answer was complete.
        first_word_s: silence before the first word, in seconds; None when there was no word.
        duration_s: from the utterance to the end of the answer, in seconds.
    """

    text: str
    chunks: tuple[str, ...]
    event_id: int
    is_interrupted: bool
    first_word_s: float | None
    duration_s: float

    @classmethod
    def of(cls, turn: CallTurn) -> Reply:
        """Sum up a turn that is over."""
        end = turn.final_at if turn.final_at is not None else turn.interrupted_at
        return cls(
            text=turn.heard,
            chunks=tuple(turn.chunks),
            event_id=turn.event_id,
            is_interrupted=turn.is_interrupted,
            first_word_s=None if turn.first_chunk_at is None else turn.first_chunk_at - turn.said_at,
            duration_s=0.0 if end is None else end - turn.said_at,
        )


class Caller:
    """One conversation with a server, from the API's side. Made by `Caller.connect`.

    Attributes:
        model: the conversation so far: turns, what was heard, what was discarded.
        ended: how the connection ended; None as long as it is open.
    """

    def __init__(self, url: str, model: ApiModel, reply_timeout_s: float, on_event: OnEvent | None) -> None:
        self.model = model
        self.ended: Ended | None = None
        self._url = url
        self._reply_timeout_s = reply_timeout_s
        self._on_event = on_event
        self._transport: picows.WSTransport | None = None
        self._loop = asyncio.get_running_loop()
        self._watch: asyncio.Task[None] | None = None
        self._waiters: list[asyncio.Future[None]] = []
        self._pings_answered = 0

    @classmethod
    @asynccontextmanager
    async def connect(
        cls,
        url: str,
        *,
        api_key: str | None,
        headers: Mapping[str, str] | None = None,
        conversation_id: str | None = None,
        connect_timeout_s: float = 5.0,
        reply_timeout_s: float = 30.0,
        on_event: OnEvent | None = None,
    ) -> AsyncGenerator[Caller, None]:
        """Connect, authenticate and begin a conversation; leaving the context ends it as the API does.

        Args:
            url: a `ws://` or `wss://` address.
            api_key: the key that signs the token; None sends no token.
            headers: further headers of the upgrade request.
            conversation_id: the id to announce; a fresh one by default.
            connect_timeout_s: the longest wait for the connection, and again for the upgrade, in seconds.
            reply_timeout_s: the longest silence while an answer is awaited, in seconds.
            on_event: called in place with everything that arrives, and last with how the connection ended.

        Raises:
            CallerError: the connection was refused, by the machine or by the server.
        """
        model = ApiModel(conversation_id or f"conv_{secrets.token_hex(10)}")
        caller = cls(url, model, reply_timeout_s, on_event)
        sent = dict(headers or {})
        if api_key is not None:
            sent[AUTHORIZATION_HEADER] = sign_token(api_key)
        try:
            transport, listener = await open_websocket(url, sent, connect_timeout_s, caller._received)
            caller._adopt(transport, listener)
            caller._send(model.start())
            yield caller
        finally:
            await caller.close()

    @property
    def is_open(self) -> bool:
        """Whether the connection still stands."""
        return self._transport is not None and self.ended is None

    # --- speaking ---------------------------------------------------------------------------------------------------

    def utter(self, text: str) -> CallTurn:
        """Say something without waiting for the answer; one that is under way is interrupted.

        Returns:
            the turn, which fills while the answer arrives.

        Raises:
            CallerError: the conversation has ended.
        """
        self._check_open()
        self._send(self.model.say(text, now=time.monotonic()))
        self._wake()
        turn = self.model.turn
        assert turn is not None
        return turn

    async def say(self, text: str) -> Reply:
        """Say something and wait until its answer is complete, or interrupted by another utterance.

        Raises:
            CallerError: the conversation ended, or the server stayed silent for longer than the reply timeout.
        """
        turn = self.utter(text)
        async with aclosing(self._chunks(turn)) as chunks:
            async for _ in chunks:
                pass
        return Reply.of(turn)

    async def interrupt(self, text: str) -> Reply:
        """Speak into the answer that is under way, and wait for the answer to that.

        Raises:
            CallerError: no answer is under way, the conversation ended, or the server stayed silent.
        """
        if self.model.turn is None or not self.model.turn.is_answering:
            raise CallerError("there is no answer to interrupt: the last one is complete")
        return await self.say(text)

    async def stream(self, text: str) -> AsyncGenerator[str, None]:
        """Say something and give the answer's chunks as they arrive, until it is complete or interrupted.

        Raises:
            CallerError: the conversation ended, or the server stayed silent for longer than the reply timeout.
        """
        async with aclosing(self._chunks(self.utter(text))) as chunks:
            async for chunk in chunks:
                yield chunk

    async def ping(self) -> float:
        """Send a keep-alive of the protocol and return the seconds until its pong.

        Raises:
            CallerError: the conversation ended, or no pong came.
        """
        self._check_open()
        began = time.monotonic()
        awaited = self._pings_answered + self.model.pings_unanswered + 1
        self._send(self.model.ping())
        while self._pings_answered < awaited:
            await self._something("pong")
        return time.monotonic() - began

    async def changed(self) -> None:
        """Wait until something was said or arrived, or the connection ended."""
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    # --- ending -----------------------------------------------------------------------------------------------------

    async def close(self, *, timeout_s: float = 2.0) -> None:
        """End the conversation as the API does: `close`, then the WebSocket's close handshake. Safe to call again.

        Args:
            timeout_s: how long the server may take for its part, in seconds; then the connection is dropped.
        """
        transport = self._transport
        if transport is None or self.ended is not None:
            return
        self._send(self.model.close(now=time.monotonic()))
        transport.send_close(picows.WSCloseCode.OK)
        try:
            await asyncio.wait_for(self.wait_ended(), timeout_s)
        except asyncio.TimeoutError:
            self.drop()
            await self.wait_ended()

    def drop(self) -> None:
        """Break the connection off without a word, as a network does."""
        if self._transport is not None:
            self._transport.disconnect(graceful=False)

    async def wait_ended(self) -> Ended:
        """Wait until the connection is gone, and tell how it ended."""
        while self.ended is None:
            await self.changed()
        return self.ended

    # --- the socket -------------------------------------------------------------------------------------------------

    def _adopt(self, transport: picows.WSTransport, listener: Listener) -> None:
        self._transport = transport
        self._watch = self._loop.create_task(self._watch_connection(transport, listener))

    async def _watch_connection(self, transport: picows.WSTransport, listener: Listener) -> None:
        problem = ""
        try:
            problem = await listener.wait_gone(transport)
        finally:
            code, reason = listener.close or (None, problem)
            self.ended = Ended(code, reason, by_server=not self.model.is_closed, is_clean=listener.close is not None)
            self._tell(self.ended)

    def _send(self, message: str) -> None:
        if self._transport is not None:
            self._transport.send(picows.WSMsgType.TEXT, message)

    def _received(self, payload: bytes) -> None:
        event = self.model.receive(payload, now=time.monotonic())
        if isinstance(event, Pong):
            self._pings_answered += 1
        self._tell(event)

    def _tell(self, event: Event | Ended) -> None:
        if self._on_event is not None:
            try:
                self._on_event(event)
            except Exception as error:
                # picows would hang up on it, which would hide whose fault it was.
                context = {"message": "on_event of a simulated caller raised", "exception": error}
                self._loop.call_exception_handler(context)
        self._wake()

    # --- waiting ----------------------------------------------------------------------------------------------------

    async def _chunks(self, turn: CallTurn) -> AsyncGenerator[str, None]:
        given = 0
        while True:
            while given < len(turn.chunks):
                given += 1
                yield turn.chunks[given - 1]
            if not turn.is_answering:
                return
            await self._something("answer")

    async def _something(self, awaited: str) -> None:
        """Wait for the next event, as long as one can come and within the reply timeout."""
        self._check_open()
        try:
            await asyncio.wait_for(self.changed(), self._reply_timeout_s)
        except asyncio.TimeoutError:
            raise CallerError(
                f"no {awaited} from {self._url} for {self._reply_timeout_s:g} s: does the handler send a response?"
            ) from None

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _check_open(self) -> None:
        if self.ended is not None:
            raise CallerError(f"the conversation is over: {self.ended}")


OnEvent = Callable[[Event | Ended], None]
"""What `Caller.connect` calls with everything that happens."""
