"""A conversation as a driver holds it: the model, a clock, and a link that carries, whatever it is made of."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

from se_server.errors import CallerError
from se_server.simulator.calls import Action, CallTurn, Close, Drop, Event, Pong, Reconnect, Reset, Send
from se_server.simulator.judge import Summary, Verdict, judge, sum_up
from se_server.simulator.model import ApiModel
from se_server.simulator.recording import Recording


@dataclass(frozen=True)
class Ended:
    """How the connection ended.

    Attributes:
        code: the close code that the server sent; None when it sent no CLOSE frame, or one without a code.
        reason: its reason, often empty; or what was wrong with the server's frames.
        by_server: whether the server began it.
        is_clean: whether a CLOSE frame came before the connection went.
        by_habit: why the API ended the conversation without being told to; empty otherwise.
    """

    code: int | None
    reason: str
    by_server: bool
    is_clean: bool
    by_habit: str = ""

    def __str__(self) -> str:
        if self.by_habit:
            return f"the API ended the conversation: {self.by_habit}"
        if not self.by_server:
            return "the caller hung up"
        if not self.is_clean:
            return self.reason or "the connection was lost"
        details = " ".join(str(detail) for detail in (self.code, self.reason) if detail)
        return f"the server closed the conversation ({details})" if details else "the server closed the conversation"


@dataclass(frozen=True)
class Reply:
    """What the user heard in answer to one utterance.

    Attributes:
        text: the words heard.
        chunks: the same as they came.
        event_id: the turn's newest id.
        is_interrupted: whether the user spoke before the answer was complete.
        first_word_s: silence before the first word, in seconds; None when there was no word.
        duration_s: from the utterance to the end of the answer, in seconds.
        verdict: what the judge says of the turn.
    """

    text: str
    chunks: tuple[str, ...]
    event_id: int
    is_interrupted: bool
    first_word_s: float | None
    duration_s: float
    verdict: Verdict

    @classmethod
    def of(cls, turn: CallTurn, verdict: Verdict) -> Reply:
        """Sum up a turn that is over."""
        end = turn.final_at if turn.final_at is not None else turn.interrupted_at
        return cls(
            text=turn.heard,
            chunks=tuple(turn.chunks),
            event_id=turn.event_id,
            is_interrupted=turn.is_interrupted,
            first_word_s=None if turn.first_chunk_at is None else turn.first_chunk_at - turn.said_at,
            duration_s=0.0 if end is None else end - turn.said_at,
            verdict=verdict,
        )


class Link(Protocol):
    """One connection to the server, from the API's side. Nothing in it waits, and nothing raises."""

    def send(self, message: str | bytes) -> None:
        """Send a whole message: text as a text message, bytes as a binary one."""

    def close(self, code: int) -> None:
        """Begin the WebSocket's close handshake, after all that was sent."""

    def drop(self) -> None:
        """End the connection without a word."""

    def reset(self) -> None:
        """End the connection as a TCP reset does."""


class Line:
    """What a link tells its conversation, on the conversation's loop. Each connection gets one of its own."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self.is_live = True

    def received(self, message: str | bytes) -> None:
        """A whole message came. Never raises."""
        if self.is_live:
            self._conversation._received(message)

    def traffic(self, kind: str = "ping") -> None:
        """Something that is no message came, such as a WebSocket ping; it keeps an idle connection alive."""
        if self.is_live:
            self._conversation._traffic(kind)

    def gone(self, code: int | None = None, reason: str = "", *, is_clean: bool = False) -> None:
        """The connection is gone; to be called once, also after `close`, `drop` and `reset`.

        Args:
            code: the close code the server sent, if it sent one.
            reason: the reason that it gave, or what was wrong with what it sent.
            is_clean: whether the server sent a CLOSE frame.
        """
        if self.is_live:
            self.is_live = False
            self._conversation._gone(code, reason, is_clean)


Connect = Callable[[Line], Awaitable[Link]]
"""Makes a connection that tells the line what happens; raises `CallerError` when there is none to be had."""

Happening = Event | Action | Ended
OnEvent = Callable[[Happening], None]
"""Called in place with everything that came, with what a habit did, and last with how the conversation ended."""


class Conversation:
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
        self.ended: Ended | None = None
        self._connect = connect
        self._reply_timeout_s = reply_timeout_s
        self._on_event = on_event
        self._recording = recording
        self._loop = asyncio.get_running_loop()
        self._clock = clock or self._loop.time
        self._name = name
        self._line: Line | None = None
        self._link: Link | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._reconnecting: asyncio.Task[None] | None = None
        self._waiters: list[asyncio.Future[None]] = []
        self._pings_answered = 0

    async def open(self) -> None:
        """Connect, and begin the conversation.

        Raises:
            CallerError: the connection was refused.
        """
        self._line = Line(self)
        self._link = await self._connect(self._line)
        self._record("open", "out")
        if self._line.is_live:
            self._carry(self.model.connected(now=self._clock()))

    @property
    def is_open(self) -> bool:
        """Whether the conversation goes on, with or without a connection at this moment."""
        return self._link is not None and self.ended is None

    @property
    def now(self) -> float:
        """The conversation's clock, in seconds."""
        return self._clock()

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
                had = f"{len(turn.heard)} characters after {turn.final_at - turn.said_at:.3g} s"
                raise CallerError(f"the answer was complete before it could be interrupted: {had}")
            if turn.is_interrupted:
                raise CallerError("somebody else interrupted the answer first")
            await self._something("answer", until if self._clock() < until else None)
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
        self._check_open()
        began = self._clock()
        awaited = self._pings_answered + self.model.pings_unanswered + 1
        self._carry(self.model.ping(now=began))
        while self._pings_answered < awaited:
            await self._something("pong")
        return self._clock() - began

    def replay(self, message: str | bytes) -> None:
        """Send a recorded message of the API.

        Raises:
            CallerError: the conversation has ended.
        """
        self._check_open()
        self._carry(self.model.replay(message, now=self._clock()))
        self._wake()

    def changed(self) -> asyncio.Future[None]:
        """Give what is done as soon as something was said or arrived from now on, or the connection ended.

        No coroutine: `wait_for` lets one begin late (before Python 3.12), and what came meanwhile would go unnoticed.
        """
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._waiters.append(waiter)
        return waiter

    # --- ending -----------------------------------------------------------------------------------------------------

    async def close(self, *, timeout_s: float = 2.0) -> None:
        """End the conversation as the API does: `close`, then the WebSocket's close handshake. Safe to call again.

        Args:
            timeout_s: how long the server may take for its part, in seconds; then the connection is dropped.
        """
        if self._reconnecting is not None:
            self._reconnecting.cancel()
            await asyncio.gather(self._reconnecting, return_exceptions=True)
        if self._link is None or self.ended is not None:
            return
        if not self.model.is_closed:
            self._carry(self.model.close(now=self._clock()))
        try:
            await asyncio.wait_for(self.wait_ended(), timeout_s)
        except asyncio.TimeoutError:
            self._link.drop()
            await self.wait_ended()

    def drop(self) -> None:
        """Break the connection off without a word, as a network does."""
        if self._link is not None:
            self._link.drop()

    async def wait_ended(self) -> Ended:
        """Wait until the conversation is over, and tell how it ended."""
        while self.ended is None:
            await self.changed()
        return self.ended

    # --- the link ---------------------------------------------------------------------------------------------------

    def _carry(self, actions: list[Action]) -> None:
        for action in actions:
            link, line = self._link, self._line
            assert link is not None
            assert line is not None
            self._note(action)
            if isinstance(action, Reconnect):
                self._reconnecting = self._loop.create_task(self._reconnect(action.after_s))
            elif isinstance(action, Send):
                link.send(action.message)
            elif isinstance(action, Close):
                link.close(action.code)
            else:
                # What this connection still tells is no longer of interest; that it ends by our doing is known.
                line.is_live = False
                link.reset() if isinstance(action, Reset) else link.drop()
                if self.model.is_closed:
                    self._finish(None, "", is_clean=False, by_server=False)
        self._set_timer()

    async def _reconnect(self, after_s: float) -> None:
        await asyncio.sleep(after_s)
        line = Line(self)
        try:
            link = await self._connect(line)
        except CallerError as error:
            self.model.lost(now=self._clock())
            self._finish(None, str(error), is_clean=False, by_server=True)
            return
        self._line, self._link = line, link
        self._record("open", "out")
        if line.is_live:
            self._carry(self.model.connected(now=self._clock()))
        self._wake()

    def _received(self, message: str | bytes) -> None:
        self._record("text" if isinstance(message, str) else "binary", "in", message)
        event = self.model.receive(message, now=self._clock())
        if isinstance(event, Pong):
            self._pings_answered += 1
        self._tell(event)
        self._set_timer()
        self._wake()

    def _traffic(self, kind: str) -> None:
        self._record(kind, "in")
        self.model.traffic(now=self._clock())

    def _gone(self, code: int | None, reason: str, is_clean: bool) -> None:
        by_server = not self.model.is_closed
        if by_server:
            self.model.lost(now=self._clock())
        self._finish(code, reason, is_clean=is_clean, by_server=by_server)

    def _finish(self, code: int | None, reason: str, *, is_clean: bool, by_server: bool) -> None:
        if self.ended is None:
            self.ended = Ended(code, reason, by_server, is_clean, by_habit=self.model.end_reason)
            self._record("end", "in", str(self.ended))
            self._set_timer()
            self._tell(self.ended)
            self._wake()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self.model.next_due()
        if due is not None and self.ended is None:
            self._timer = self._loop.call_later(max(0.0, due - self._clock()), self._tick, due)

    def _tick(self, due: float) -> None:
        self._timer = None
        # A loop may wake up a little early by its own clock.
        self._carry(self.model.tick(max(self._clock(), due)))
        self._wake()

    # --- telling ----------------------------------------------------------------------------------------------------

    def _note(self, action: Action) -> None:
        if isinstance(action, Send):
            self._record("text" if isinstance(action.message, str) else "binary", "out", action.message, action.why)
        else:
            self._record(type(action).__name__.lower(), "out", why=action.why)
        if action.why:
            self._tell(action)

    def _tell(self, happening: Happening) -> None:
        if self._on_event is not None:
            try:
                self._on_event(happening)
            except Exception as error:
                # The link would hang up on it, which would hide whose fault it was.
                context = {"message": "on_event of a simulated caller raised", "exception": error}
                self._loop.call_exception_handler(context)

    def _record(self, kind: str, direction: str, content: str | bytes | None = None, why: str = "") -> None:
        if self._recording is not None:
            self._recording.add(self._clock(), direction, kind, content, why)

    # --- waiting ----------------------------------------------------------------------------------------------------

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
            await self._something("answer")

    async def _something(self, awaited: str, until: float | None = None) -> None:
        """Wait for the next event, as long as one can come and within the reply timeout, or at most until a time."""
        self._check_open()
        patience_s = self._reply_timeout_s
        if until is not None:
            patience_s = min(patience_s, max(0.0, until - self._clock()))
        try:
            await asyncio.wait_for(self.changed(), patience_s)
        except asyncio.TimeoutError:
            if until is not None and patience_s < self._reply_timeout_s:
                return
            raise CallerError(
                f"no {awaited} from {self._name} for {self._reply_timeout_s:g} s: does the handler send a response?"
            ) from None

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _check_open(self) -> None:
        if self.ended is not None or self.model.end_reason:
            how = self.ended or f"the API ended the conversation: {self.model.end_reason}"
            raise CallerError(f"the conversation is over: {how}")


__all__ = ["Connect", "Conversation", "Drop", "Ended", "Happening", "Line", "Link", "OnEvent", "Reply"]
