# cython: binding=True
"""One conversation: what arrives becomes events, what handlers send becomes the answer of their turn.

The receiving side is synchronous and never waits for user code: `receive` answers a ping at once and supersedes a turn
at once. User code runs one handler at a time, in the lane (`conversation/lane.py`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, Protocol

from se_server.conversation._outbox import Outbox
from se_server.conversation.guards import TurnGuards
from se_server.conversation.handlers import Handlers
from se_server.conversation.lane import Call, Lane, TurnHost, current_turn
from se_server.conversation.notes import debug, note, note_unhandled
from se_server.conversation.settings import SessionSettings
from se_server.errors import (
    AnswerTooLong,
    MessageError,
    PeerError,
    SessionClosed,
    TurnTimeout,
    WrongThread,
)
from se_server.protocol import _wire as wire
from se_server.protocol.turn import Turn
from se_server.protocol.turns import (
    ANSWERED,
    CUT_OFF,
    NEW,
    SUPERSEDED,
    WAITING,
    TurnLedger,
    TurnState,
    Verdict,
)
from se_server.protocol.turns import CLOSED as CLOSED_TURN
from se_server.streams._stream import Stream, open_stream
from se_server.telemetry._clock import clock_of
from se_server.telemetry._printable import text_of
from se_server.telemetry.pace import Pace
from se_server.telemetry.turn_record import TurnRecord
from se_server.types import CLOSE, DISCONNECTED, ERROR, INIT, USER_TRANSCRIPT, Handler, Request, Stats

# Looked up once, since every turn needs them; `core.pxd` makes C integers of the numbers.
USER_TRANSCRIPT_KIND = wire.USER_TRANSCRIPT
PING_KIND = wire.PING
turn_of_task = current_turn.get

handles_error: ContextVar[bool] = ContextVar("handles_error", default=False)
"""Whether an error handler runs: a stream that fails in it must not call it again, and again."""


class Transport(Protocol):
    """The connection below a session: our own, or an adapter of another library's."""

    @property
    def outbox(self) -> Outbox: ...

    @property
    def ending(self) -> tuple[int | None, str]:
        """The code and the reason that the WebSocket was closed with; None where its library does not tell."""

    @property
    def fd(self) -> int:
        """The descriptor of the socket; -1 where another library owns it."""

    def start_reading(self) -> bool:
        """Start to read, and return whether this call did it."""

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Belong to a loop, and to its thread; our own belongs to one from the start."""

    def finish(self) -> None:
        """Note that the API has ended the conversation; the application may have a close code of its own to send."""

    def close(self, code: int, reason: str) -> None: ...

    def abort(self) -> None: ...

    def wait_closed(self) -> Awaitable[None]: ...


class SessionCore(TurnHost):
    """The path of every message and every answer. Compiled; `core.pxd` declares its fields.

    `SpeechEngineSession` is the public class on top of it.
    """

    def _set_up(
        self,
        transport: Transport,
        request: Request,
        callbacks: Handlers,
        settings: SessionSettings,
        stats: Stats,
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        self._transport = transport
        self._outbox = transport.outbox
        self._request = request
        self._callbacks = callbacks
        self._on_transcript = callbacks.on_transcript  # looked up once for all turns
        self._settings = settings
        self._debugs = settings.debug
        self._stats = stats
        self._clock = clock_of(settings.clock)
        self._opened_at = self._ended_at = self._clock.now()
        self._why = ""
        self._pace: Pace | None = None  # made by the first turn that ends
        self._ledger = TurnLedger(settings.retranscription == "adopt")
        self._stream_close_s = settings.stream_close_s
        self._speaks_refusals = settings.speak_refusals
        self._max_answer_bytes = -1 if settings.max_answer_bytes is None else settings.max_answer_bytes
        self._on_ended: Callable[[Any], None] | None = None
        # The registry of `on` and `once`, made when first used: behind a server few sessions register anything.
        self._permanent: dict[str, list[Handler]] | None = None
        self._once: dict[str, list[Handler]] | None = None
        self._closed = False
        self._last_turn: Turn | None = None  # the one that the end found waiting for its handler
        self._bad_entry_seen = False
        self.notes = None
        self.conversation_id: str | None = None
        stats.sessions_opened += 1
        self._stats.meters.conversation_began()
        if loop is not None:
            self._bind(loop)

    def _bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run handlers on `loop` from now on."""
        self._loop = loop
        self._lane = Lane(self, loop, self._settings, self._stats)
        self._guards = TurnGuards.of(self, loop, self._settings)

    @property
    def is_open(self) -> bool:
        """Whether the session is still open."""
        return not self._closed

    def _take(self, event: str) -> list[Handler]:
        """Return what is registered for an event, and forget what runs once."""
        handlers = [] if self._permanent is None else list(self._permanent.get(event, ()))
        if self._once is not None:
            handlers += self._once.pop(event, ())
        return handlers

    def _calls_of(self, event: str, args: tuple[Any, ...]) -> list[Call]:
        """Return what an event calls: the server's callback, which gets the session too, then the session's own."""
        callback = self._on_transcript if event == USER_TRANSCRIPT else self._callbacks.for_event(event)
        # Nearly all events have one argument: no list is made of them to add another.
        own = (args[0], self) if len(args) == 1 else (*args, self)
        calls: list[Call] = [] if callback is None else [(callback, own)]
        if self._permanent is not None or self._once is not None:
            calls += [(handler, args) for handler in self._take(event)]
        if not calls and event == ERROR:
            self._log_unhandled(args[0])
        return calls

    def _log_unhandled(self, error: BaseException) -> None:
        """Log an exception that no error handler gets; `se_server.testing` keeps it instead."""
        note_unhandled(self, error)

    # --- answers ---

    async def _send_response(
        self,
        response: str | AsyncIterable[Any],
        *,
        final: bool = True,
        text: Callable[[Any], str | None] | None = None,
        nodes: Iterable[str] | None = None,
        speak_refusals: bool | None = None,
    ) -> bool:
        """Send an answer of the turn, to be spoken.

        A stream that fails, or whose events nobody can read, is an `error` event, and the failure text is spoken if
        nothing else was. A stream without text, of tool calls for example, sends nothing: the next answer of the turn
        is the first, and the final leaves when the handler ends.

        Args:
            response: the whole text, or an async iterable of texts or LLM events, which is closed in the end.
            final: whether the answer is complete; with False the next `send_response` continues it.
            text: returns the text of an event, None for nothing to speak; needed for events of no known API.
            nodes: the names of the LangGraph nodes whose messages are spoken; None: all.
            speak_refusals: whether a refusal of the model is spoken where the stream has no other text; else it is a
                failure. None: as the server is set up, which speaks them.

        Returns:
            False when the turn was superseded, so that nobody will hear the answer; else True. Outside a turn it
            warns, sends nothing and returns False.

        Raises:
            SessionClosed: the session is closed.
            WrongThread: called from a thread other than the session's.
        """
        if not self._outbox.is_here():
            self._check_thread("send_response")
        if isinstance(response, str):
            turn = self._turn_to_answer()
            if turn is None:
                return False
            self._send_text(turn, str(response), final)
            rest = self._end_answer(turn, final, False)
            if rest is not None:
                await rest
            return turn.open
        try:
            stream = self._open(response)
        except TypeError as error:
            return await self._refuse(error)
        if text is not None or nodes is not None or speak_refusals is not None or not self._speaks_refusals:
            speaks = self._speaks_refusals if speak_refusals is None else speak_refusals
            stream.read_by(text=text, nodes=nodes, speak_refusals=speaks)
        try:
            turn = self._turn_to_answer()
            if turn is None:
                return False
            has_failed = False
            try:
                await stream.pump(self._outbox, turn, self._clock)
            except Exception as error:
                if not turn.open:
                    note(self, logging.INFO, "a stream failed after its turn: %s", text_of(error, as_repr=True))
                elif not turn.is_full:
                    has_failed = True
                    self._speak_failure(turn)
                    await self._report(error)
            # Without text there is no answer to end: the handler may still give one, else the turn's end sends it.
            rest = self._end_answer(turn, final and turn.needs_final and turn.has_own_text, has_failed)
            if rest is not None:
                await rest
            return turn.open
        finally:
            if not stream.is_over:
                left = await stream.aclose(self._stream_close_s)
                self._stats.streams_left += left

    async def _refuse(self, error: TypeError) -> bool:
        """Report an answer that cannot be spoken; the handler goes on."""
        turn = self._turn_to_answer()
        if turn is None:
            return False
        self._speak_failure(turn)
        await self._report(error)
        return turn.open

    def _open(self, response: object) -> Stream:
        # A method of its own, so that Cython knows the type of its result.
        return open_stream(response, self._stream_close_s)

    def _send_text(self, turn: Turn, text: str, final: bool) -> None:
        """Send a whole text; with `final`, it leaves together with its final."""
        if turn.bytes_left >= 0:
            text = turn.fit(text)
        if text:
            self._outbox.send(text, turn.event_id_json, False, final)
            turn.keep(text)
            turn.note_texts(1, self._clock.now())
        elif not turn.is_full:
            self._outbox.send(text, turn.event_id_json, False, final)
            turn.needs_final = True

    def _end_answer(self, turn: Turn, final: bool, has_failed: bool) -> Awaitable[None] | None:
        """End an answer after its last text; return what its sender has to await, if anything."""
        if turn.is_full and turn.open:
            return self._end_full(turn)
        outbox = self._outbox
        if turn.open and not outbox.closed:
            if not final:
                outbox.flush()
            elif turn.needs_final or not has_failed:  # else the failure text, or the error handler, sent it
                self._send_final(turn)
        return None if outbox.writable else outbox.room()

    def _turn_to_answer(self) -> Turn | None:
        """Return the turn that the caller speaks for, or None, warned about unless it was superseded."""
        turn = turn_of_task()
        if self._closed:
            if turn is not None and turn is self._last_turn:
                return None  # its handler began after the end: nobody hears it, and the handler is not at fault
            raise SessionClosed("Cannot send response: session is closed")
        is_late = False
        if turn is None or turn.owner is not self:
            turn = self._ledger.current
            # The handler has not started: what comes now was meant for the turn before.
            is_late = turn is not None and turn.state is WAITING
        elif turn.state is SUPERSEDED or turn.state is CUT_OFF:
            is_late = True
        if turn is None or (not turn.open and not is_late):
            note(
                self,
                logging.WARNING,
                "send_response() was called outside a transcript handler and sent nothing. To have the agent speak"
                " first, set a first message in the Speech Engine's conversation config.",
            )
            return None
        if is_late:
            self._stats.late_texts += 1
            return None
        return turn

    def _send_final(self, turn: Turn) -> None:
        turn.needs_final = False
        self._outbox.send("", turn.event_id_json, True)

    # --- the end ---

    def _leave(self, on_transcript: Handler | None) -> None:
        """Have further turns, the one that waits included, answered by another handler, or by silence."""
        self._callbacks = replace(self._callbacks, on_transcript=on_transcript)
        self._on_transcript = on_transcript
        for registry in (self._permanent, self._once):
            if registry is not None:
                registry.pop(USER_TRANSCRIPT, None)

    def _is_answering(self) -> bool:
        """Whether an answer is under way, or about to begin."""
        turn = self._ledger.current
        return turn is not None and turn.open

    def _end(self, event: str, why: str = "") -> None:
        """End the conversation; `event` is the last one that handlers see, `why` is for the log."""
        if self._closed:
            return
        self._closed = True
        self._why = why
        self._ended_at = self._clock.now()
        self._stats.sessions_closed += 1
        turn = self._ledger.current
        if turn is not None:
            if turn.state is WAITING:
                self._last_turn = turn
            self._end_turn(turn, CLOSED_TURN, self._ended_at, False)
        self._debug("session ended: %s", event)
        if self._lane is not None:  # else `run` ends it: no loop ran yet
            self._lane.end(event)

    def _check_thread(self, method: str) -> None:
        if not self._outbox.is_here():
            raise WrongThread(
                f"SpeechEngineSession.{method} was called from another thread; everything belongs to the event loop's: "
                f"use asyncio.run_coroutine_threadsafe(coroutine, loop), or loop.call_soon_threadsafe"
            )

    # --- what the connection tells ---

    def receive(self, message: wire.Message) -> None:
        """Take one message of the API. Never waits for user code."""
        self._take_message(message)

    def _take_message(self, message: wire.Message) -> None:
        self._stats.messages_received += 1
        if self._closed:
            return
        kind = message.kind
        if kind == USER_TRANSCRIPT_KIND:
            self._receive_transcript(message)
        elif kind == PING_KIND:
            self._outbox.send_pong()
        elif kind == wire.INIT:
            self.conversation_id = message.conversation_id
            self._debug("session initialized, conversation_id=%s", self.conversation_id)
            self._lane.emit(INIT, self.conversation_id)
        elif kind == wire.CLOSE:
            self._end(CLOSE, "close message")
            self._transport.finish()
        elif kind == wire.ERROR:
            self._lane.emit(ERROR, PeerError(message.text))
        else:
            self._debug("ignored a message of unknown type %s", message.text)

    def _receive_transcript(self, message: wire.Message) -> None:
        if message.bad_entry is not None and not self._bad_entry_seen:
            self._bad_entry_seen = True
            self.receive_error(message.bad_entry)
        transcript = message.transcript
        assert transcript is not None
        ledger = self._ledger
        event_id_json = message.event_id_json
        assert event_id_json is not None
        turn = ledger.turn_of(message.event_id, event_id_json, self._clock.now(), self, message.said)
        verdict = ledger.judge(turn)
        if verdict is not NEW:
            self._receive_again(turn, verdict)
            return
        turn.bytes_left = self._max_answer_bytes
        superseded = ledger.current
        if superseded is not None:
            self._end_turn(superseded, SUPERSEDED, turn.started_at, False)
            self._debug("interrupted: event_id=%s for new transcript (event_id=%s)", superseded.event_id, turn.event_id)
        ledger.begin(turn)
        if self._guards is not None:
            self._guards.begin(turn)
        if self._debugs:
            self._debug("received transcript, event_id=%s, messages=%d", turn.event_id, len(transcript))
        self._lane.start_turn(turn, transcript, superseded)

    def _receive_again(self, turn: Turn, verdict: Verdict) -> None:
        """Take a transcript that starts no turn; see the table in `protocol/turns.py`."""
        event_id, current = turn.event_id, self._ledger.current
        if verdict is Verdict.REPEATED:
            self._stats.transcripts_repeated += 1
            self._debug("skipped a transcript sent again: its answer is under way, event_id=%s", event_id)
        elif verdict is Verdict.ANSWERED:
            self._stats.transcripts_answered += 1
            self._debug("skipped a transcript sent again: it was answered, event_id=%s", event_id)
        elif verdict is Verdict.ADOPTED and current is not None:
            self._stats.transcripts_adopted += 1
            self._debug(
                "the same words again: the answer to event_id=%s goes on as event_id=%s", current.event_id, event_id
            )
            self._ledger.adopt(turn)
        else:
            self._stats.transcripts_superseded += 1
            self._debug("skipped a transcript sent again: it was superseded, event_id=%s", event_id)
            outbox = self._outbox
            # A peer that asks and never reads gets no more to hold.
            if (
                self._settings.superseded_transcripts == "ack"
                and outbox.writable
                and not (current is not None and current.event_id == event_id)
            ):
                outbox.send("", turn.event_id_json, True)

    def receive_error(self, error: MessageError) -> None:
        """Take note of a message that could not be read; the session goes on."""
        self._stats.message_errors += 1
        if not self._closed:
            self._lane.emit(ERROR, error)

    def connection_lost(self) -> None:
        """Take note that nothing will arrive any more. After the conversation has ended it changes nothing."""
        self._end(DISCONNECTED)

    def write_timed_out(self) -> None:
        """Take note that the peer does not read; the connection is dropped."""
        self._stats.write_timeouts += 1
        note(self, logging.WARNING, "the peer does not read, dropped")
        self._end(DISCONNECTED, "the peer did not read")

    # --- what the lane asks for ---

    def _finish_turn(self, turn: Turn, failed: bool) -> None:
        """End the open turn of a handler that has ended: nothing stays unanswered."""
        self._settle(turn, failed, ANSWERED)

    def _settle(self, turn: Turn, failed: bool, state: TurnState) -> None:
        """End an open turn with its final."""
        if turn.needs_final and not self._outbox.closed:
            self._send_final(turn)
        self._end_turn(turn, state, self._clock.now(), failed)

    def _end_turn(self, turn: Turn, state: TurnState, now: float, failed: bool) -> None:
        """End a turn; every turn ends here, once."""
        self._ledger.end(turn, state, now)
        if self._guards is not None:
            self._guards.end()
        self._turn_ended(turn, failed)

    def _turn_ended(self, turn: Turn, failed: bool) -> None:
        """Count a turn that has ended, and report it: the one place that sees each turn once, with all its figures.

        Args:
            turn: the turn; its `state` is how it ended.
            failed: whether the handler raised, or the server cut the turn off.
        """
        stats, state = self._stats, turn.state
        stats.chunks_sent += turn.chunks
        if failed:
            stats.turns_failed += 1
        elif state is ANSWERED:
            stats.turns_answered += 1
        elif state is SUPERSEDED:
            stats.turns_superseded += 1
        if self._pace is None:
            self._pace = Pace()
        self._pace.add(state is SUPERSEDED)
        if turn.chunks:
            self._pace.add_first_chunk(turn.first_text_after_s())
        if self._debugs:
            self._debug("turn ended: %s", TurnRecord.of(turn, failed))

    def _speak_failure(self, turn: Turn) -> None:
        """A handler or its stream has raised: say so, once, if the turn has said nothing else."""
        text = self._settings.failure_text
        says = text is not None and turn.open and not turn.failed and not turn.has_own_text and not self._outbox.closed
        turn.failed = True
        if text is None or not says:
            return
        self._stats.failure_texts_sent += 1
        self._outbox.send(text, turn.event_id_json, False, True)
        turn.keep(text)
        turn.note_texts(1, self._clock.now())
        self._send_final(turn)

    async def _end_full(self, turn: Turn) -> None:
        """End the turn whose answer was cut at its limit."""
        self._stats.answers_too_long += 1
        turn.failed = True
        self._settle(turn, True, CUT_OFF)
        await self._report(AnswerTooLong(f"an answer had more than {self._max_answer_bytes} bytes, and was cut there"))
        await self._outbox.room()

    # --- what the guards ask for ---

    def _say_first_word(self, turn: Turn, text: str) -> None:
        """Say something in place of a handler that has sent nothing for long."""
        if not turn.failed and not self._outbox.closed:
            self._stats.first_words_sent += 1
            self._outbox.send(text, turn.event_id_json, False)
            turn.note_filler(text, self._clock.now())
            self._debug("first word sent, event_id=%s", turn.event_id)

    def _time_out(self, turn: Turn, timeout_s: float) -> None:
        """End a turn that took too long, whatever its handler makes of being cancelled."""
        self._stats.turns_timed_out += 1
        self._debug("turn timed out, event_id=%s", turn.event_id)
        self._speak_failure(turn)
        self._settle(turn, True, CUT_OFF)
        self._lane.abandon(turn)
        self._lane.emit(ERROR, TurnTimeout(f"the turn with event_id {turn.event_id} took more than {timeout_s:g} s"))

    def _ended(self) -> None:
        """The last handler has ended."""
        on_ended, self._on_ended = self._on_ended, None
        if on_ended is not None:
            on_ended(self)

    async def _report(self, error: BaseException) -> None:
        """Give an error of user code to the error handlers, here and now. One of theirs is logged, nothing more."""
        self._stats.handler_errors += 1
        if handles_error.get():
            note(self, logging.ERROR, "an error handler failed", error=error)
            return
        token = handles_error.set(True)
        try:
            await self._lane.run_calls(ERROR, self._calls_of(ERROR, (error,)))
        finally:
            handles_error.reset(token)

    def _debug(self, text: str, *args: object) -> None:
        if self._debugs:
            debug(text, *args, session=self)
