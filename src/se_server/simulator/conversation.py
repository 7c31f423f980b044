"""One conversation over any link: speak, interrupt, wait for answers and judge them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from se_server.errors import CallerError
from se_server.simulator.calls import CallTurn
from se_server.simulator.connection import Connect, Ended, Happening, Link, LinkEvents, OnEvent
from se_server.simulator.driver import Driver
from se_server.simulator.judge import Reply, Summary, Verdict, judge, span, sum_up
from se_server.simulator.model import ApiModel
from se_server.simulator.recording import Recording


class Conversation:
    """One conversation with a server, from the API's side, over any link and on any clock.

    Args:
        connect: makes the connection, and a further one when a habit wants that.
        model: the state machine of the API's side.
        reply_timeout_s: the longest silence before a complete answer, in seconds.
        on_event: called synchronously with each event.
        recording: receives every message and every end of a connection.
        clock: returns the time in seconds; the running loop's clock by default.
        name: the server's name in error messages.

    Attributes:
        model: the conversation so far: turns, heard answers and discarded chunks.
    """

    def __init__(
        self,
        connect: Connect,
        model: ApiModel,
        *,
        reply_timeout_s: float = 30.0,
        on_event: OnEvent | None = None,
        recording: Recording | None = None,
        clock: Callable[[], float] | None = None,
        name: str = "the server",
    ) -> None:
        self.model = model
        self._driver = Driver(
            connect,
            model,
            reply_timeout_s=reply_timeout_s,
            on_event=on_event,
            recording=recording,
            clock=clock,
            name=name,
        )

    # --- state ------------------------------------------------------------------------------------------------------

    @property
    def ended(self) -> Ended | None:
        """The end of the conversation; None while it goes on."""
        return self._driver.ended

    @property
    def is_open(self) -> bool:
        """Whether the conversation goes on, with or without a connection at the moment."""
        return self._driver.is_open

    @property
    def recording_problem(self) -> OSError | None:
        """The error that stopped the recording; None while it goes on."""
        return self._driver.recording_problem

    @property
    def now(self) -> float:
        """The time of the conversation's clock, in seconds."""
        return self._driver.now

    @property
    def heard(self) -> str:
        """The part of the newest answer that the caller heard."""
        return "" if self.model.turn is None else self.model.turn.heard

    def verdict(self, turn: CallTurn) -> Verdict:
        """Judge one turn as it stands now."""
        return judge(turn, self.model, now=self.now, ended=None if self.ended is None else str(self.ended))

    def summary(self) -> Summary:
        """Judge the conversation as it stands now."""
        return sum_up([self.verdict(turn) for turn in self.model.turns], self.model)

    # --- speaking ---------------------------------------------------------------------------------------------------

    def utter(self, text: str) -> CallTurn:
        """Say something without waiting for the answer. A current answer is interrupted.

        Returns:
            The turn, which fills as the answer arrives.

        Raises:
            CallerError: the conversation has ended.
        """
        self._driver.catch_up()
        self._driver.check_open()
        self._driver.act(self.model.say(text, now=self.now))
        self._driver.wake()
        turn = self.model.turn
        assert turn is not None
        return turn

    async def say(self, text: str) -> Reply:
        """Say something and wait until its answer is complete or interrupted by another utterance.

        An utterance that a habit made before is answered first.

        Raises:
            CallerError: the conversation ended, or the server was silent for longer than the reply timeout.
        """
        await self.quiet()
        turn = self.utter(text)
        await self.answered(turn)
        return self.reply(turn)

    async def interrupt(self, text: str, *, after_chars: int | None = None, after_s: float | None = None) -> Reply:
        """Speak during the current answer and wait for the answer to the interruption.

        Args:
            text: the user's words.
            after_chars: wait until this many characters of the answer were heard.
            after_s: wait until this many seconds after the question.

        Raises:
            CallerError: there is no current answer, or it was complete too soon; the conversation ended, or the server
                was silent for longer than the reply timeout.
        """
        turn = self.model.turn
        if turn is None or not turn.is_answering:
            raise CallerError("there is no answer to interrupt: the last one is complete")
        until = turn.said_at + (after_s or 0.0)
        while len(turn.heard) < (after_chars or 0) or self.now < until:
            if turn.final_at is not None:
                had = f"{len(turn.heard)} characters after {span(turn.final_at - turn.said_at)}"
                raise CallerError(f"the answer was complete before it could be interrupted: {had}")
            if turn.is_interrupted:
                raise CallerError("another utterance interrupted the answer first")
            await self.event("answer", until if self.now < until else None)
        turn = self.utter(text)
        await self.answered(turn)
        return self.reply(turn)

    async def stream(self, text: str) -> AsyncGenerator[str, None]:
        """Say something and yield the answer's chunks as they arrive, until it is complete or interrupted.

        Raises:
            CallerError: the conversation ended, or the server was silent for longer than the reply timeout.
        """
        await self.quiet()
        async with aclosing(self._chunks(self.utter(text))) as chunks:
            async for chunk in chunks:
                yield chunk

    async def answered(self, turn: CallTurn) -> None:
        """Wait until a turn's answer is complete or interrupted.

        Raises:
            CallerError: the conversation ended, or the server was silent for longer than the reply timeout.
        """
        async with aclosing(self._chunks(turn)) as chunks:
            async for _ in chunks:
                pass

    async def quiet(self) -> None:
        """Wait until an utterance made by a habit is answered. Return at once if there is none."""
        while self.ended is None and self.model.turn is not None:
            turn = self.model.turn
            if turn.is_habit and turn.is_answering:
                await self.answered(turn)
            elif self.model.awaits_silence:
                await self.event("transcript of the silence")
            else:
                return

    def reply(self, turn: CallTurn) -> Reply:
        """Summarise a turn."""
        return Reply.of(turn, self.verdict(turn))

    async def ping(self) -> float:
        """Send a `ping` message and return the seconds until its `pong`.

        Raises:
            CallerError: the conversation ended, or no `pong` arrived.
        """
        while self.is_open and not self.model.is_connected:
            await self.event("new connection")
        self._driver.check_open()
        began = self.now
        awaited = self._driver.pings_answered + self.model.pings_unanswered + 1
        self._driver.act(self.model.ping(now=began))
        while self._driver.pings_answered < awaited:
            await self.event("pong")
        return self.now - began

    def replay(self, message: str | bytes) -> None:
        """Send a recorded message of the API.

        Raises:
            CallerError: the conversation has ended.
        """
        self._driver.check_open()
        self._driver.act(self.model.replay(message, now=self.now))
        self._driver.wake()

    # --- waiting ----------------------------------------------------------------------------------------------------

    def changed(self, within_s: float | None = None) -> asyncio.Future[bool]:
        """Return a future that is done at the next event, utterance or end of a connection; its result is True.

        Args:
            within_s: the time after which it is done with False.
        """
        return self._driver.changed(within_s)

    async def event(self, awaited: str, until: float | None = None) -> None:
        """Wait for the next event.

        Args:
            awaited: a noun for the awaited event, for the error message.
            until: the time at which to return without an event, in seconds of the conversation's clock.

        Raises:
            CallerError: the conversation has ended, or nothing happened for the reply timeout.
        """
        await self._driver.event(awaited, until)

    # --- beginning and ending ---------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect and begin the conversation.

        Raises:
            CallerError: the connection was refused.
        """
        await self._driver.open()

    async def close(self, *, timeout_s: float = 2.0) -> None:
        """End the conversation as the API does: a `close` message, then the WebSocket's close handshake. Idempotent.

        Args:
            timeout_s: how long to wait for the server's CLOSE, in seconds, before the connection is dropped.
        """
        await self._driver.close(timeout_s=timeout_s)

    def drop(self) -> None:
        """Drop the connection without a close handshake, as a network failure does."""
        self._driver.drop()

    async def reconnect(self, *, after_s: float = 0.1, repeats: bool = True) -> None:
        """Drop the connection and continue the same conversation over a new one.

        Args:
            after_s: the time without a connection, in seconds.
            repeats: whether a question without any answer is asked again.

        Raises:
            CallerError: the conversation has ended, or the new connection was refused.
        """
        await self._driver.reconnect(after_s=after_s, repeats=repeats)

    async def wait_ended(self) -> Ended:
        """Wait until the conversation is over and return its end."""
        return await self._driver.wait_ended()

    # --- parts ------------------------------------------------------------------------------------------------------

    async def _chunks(self, turn: CallTurn) -> AsyncGenerator[str, None]:
        given = asked = 0
        while True:
            if asked != len(turn.asks):  # a further id for the same pause: the answer starts over
                given, asked = 0, len(turn.asks)
            while given < len(turn.chunks):
                given += 1
                yield turn.chunks[given - 1]
            if not turn.is_answering and not (turn is self.model.turn and self.model.is_answering):
                if turn.interrupted_by == "server" or (turn.interrupted_by == "api" and self.model.end_reason):
                    self._driver.check_open()
                return
            await self.event("answer")


__all__ = ["Connect", "Conversation", "Ended", "Happening", "Link", "LinkEvents", "OnEvent", "Reply"]
