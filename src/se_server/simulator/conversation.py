"""A conversation as a driver holds it: the model, a clock, and a link that carries, whatever it is made of."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from se_server.errors import CallerError
from se_server.simulator.calls import CallTurn
from se_server.simulator.driver import Carrier
from se_server.simulator.judge import Reply, Summary, Verdict, judge, span, sum_up
from se_server.simulator.lines import Connect, Ended, Happening, Line, Link, OnEvent


class Conversation(Carrier):
    """One conversation with a server, from the API's side, over any link and on any clock.

    Args:
        connect: makes the connection, and a further one when a habit wants that.
        model: what the API does.
        reply_timeout_s: the longest silence while an answer is awaited, in seconds.
        on_event: called in place with everything that happens.
        recording: where every message and every end is written down.
        clock: gives the time in seconds; by default the running loop's own.
        name: the server, for error messages.

    Attributes:
        model: the conversation so far: turns, what was heard, what was discarded.
        ended: how the conversation ended; None as long as it goes on.
        recording_problem: why the recording stopped; None while it goes on.
    """

    @property
    def heard(self) -> str:
        """What the caller heard in answer to the last thing the user said."""
        return "" if self.model.turn is None else self.model.turn.heard

    def verdict(self, turn: CallTurn) -> Verdict:
        """Judge one turn as it stands now."""
        return judge(turn, self.model, now=self._clock(), ended=None if self.ended is None else str(self.ended))

    def summary(self) -> Summary:
        """Judge the conversation as it stands now."""
        return sum_up([self.verdict(turn) for turn in self.model.turns], self.model)

    # --- speaking ---------------------------------------------------------------------------------------------------

    def utter(self, text: str) -> CallTurn:
        """Say something without waiting for the answer; one that is under way is interrupted.

        Returns:
            the turn, which fills while the answer arrives.

        Raises:
            CallerError: the conversation has ended.
        """
        self._catch_up()
        self._check_open()
        self._carry(self.model.say(text, now=self._clock()))
        self._wake()
        turn = self.model.turn
        assert turn is not None
        return turn

    async def say(self, text: str) -> Reply:
        """Say something and wait until its answer is complete, or interrupted by another utterance.

        What a habit made the user say before is given the time to be answered first.

        Raises:
            CallerError: the conversation ended, or the server stayed silent for longer than the reply timeout.
        """
        await self.quiet()
        turn = self.utter(text)
        await self.answered(turn)
        return self.reply(turn)

    async def interrupt(self, text: str, *, after_chars: int | None = None, after_s: float | None = None) -> Reply:
        """Speak into the answer that is under way, and wait for the answer to that.

        Args:
            text: the user's words.
            after_chars: wait until so many characters of the answer were heard.
            after_s: wait until so many seconds after the question.

        Raises:
            CallerError: no answer is under way, or it was complete before the moment came; the conversation ended, or
                the server stayed silent for longer than the reply timeout.
        """
        turn = self.model.turn
        if turn is None or not turn.is_answering:
            raise CallerError("there is no answer to interrupt: the last one is complete")
        until = turn.said_at + (after_s or 0.0)
        while len(turn.heard) < (after_chars or 0) or self._clock() < until:
            if turn.final_at is not None:
                had = f"{len(turn.heard)} characters after {span(turn.final_at - turn.said_at)}"
                raise CallerError(f"the answer was complete before it could be interrupted: {had}")
            if turn.is_interrupted:
                raise CallerError("somebody else interrupted the answer first")
            await self.event("answer", until if self._clock() < until else None)
        turn = self.utter(text)
        await self.answered(turn)
        return self.reply(turn)

    async def stream(self, text: str) -> AsyncGenerator[str, None]:
        """Say something and give the answer's chunks as they arrive, until it is complete or interrupted.

        Raises:
            CallerError: the conversation ended, or the server stayed silent for longer than the reply timeout.
        """
        await self.quiet()
        async with aclosing(self._chunks(self.utter(text))) as chunks:
            async for chunk in chunks:
                yield chunk

    async def answered(self, turn: CallTurn) -> None:
        """Wait until a turn's answer is complete or interrupted.

        Raises:
            CallerError: the conversation ended, or the server stayed silent for longer than the reply timeout.
        """
        async with aclosing(self._chunks(turn)) as chunks:
            async for _ in chunks:
                pass

    async def quiet(self) -> None:
        """Wait until what a habit made the user say is answered; at once when it said nothing."""
        while self.ended is None and self.model.turn is not None:
            turn = self.model.turn
            if not turn.is_habit or not turn.is_answering:
                return
            await self.answered(turn)

    def reply(self, turn: CallTurn) -> Reply:
        """Sum up a turn."""
        return Reply.of(turn, self.verdict(turn))

    async def ping(self) -> float:
        """Send a keep-alive of the protocol and return the seconds until its pong.

        Raises:
            CallerError: the conversation ended, or no pong came.
        """
        while self.is_open and not self.model.is_connected:
            await self.event("new connection")
        self._check_open()
        began = self._clock()
        awaited = self._pings_answered + self.model.pings_unanswered + 1
        self._carry(self.model.ping(now=began))
        while self._pings_answered < awaited:
            await self.event("pong")
        return self._clock() - began

    def replay(self, message: str | bytes) -> None:
        """Send a recorded message of the API.

        Raises:
            CallerError: the conversation has ended.
        """
        self._check_open()
        self._carry(self.model.replay(message, now=self._clock()))
        self._wake()

    # --- parts ------------------------------------------------------------------------------------------------------

    async def _chunks(self, turn: CallTurn) -> AsyncGenerator[str, None]:
        given = asked = 0
        while True:
            if asked != len(turn.asks):  # a further id for the same pause: the answer begins again
                given, asked = 0, len(turn.asks)
            while given < len(turn.chunks):
                given += 1
                yield turn.chunks[given - 1]
            if not turn.is_answering and not (turn is self.model.turn and self.model.is_answering):
                if turn.interrupted_by == "server" or (turn.interrupted_by == "api" and self.model.end_reason):
                    self._check_open()
                return
            await self.event("answer")


__all__ = ["Connect", "Conversation", "Ended", "Happening", "Line", "Link", "OnEvent", "Reply"]
