# cython: binding=True
"""One conversation: what arrives becomes events, what handlers send becomes the answer of their turn.

The receiving side is synchronous and never waits for user code: `receive` answers a ping at once and supersedes a turn
at once. User code runs one handler at a time, in the lane (`conversation/lane.py`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Protocol

from se_server.conversation._outbox import Outbox
from se_server.conversation.blocking import block_watch
from se_server.conversation.handlers import Handlers
from se_server.conversation.jobs import Call
from se_server.conversation.notes import note, note_unhandled
from se_server.conversation.settings import SessionSettings
from se_server.conversation.waiting import Waiting
from se_server.errors import (
    MessageError,
    PeerError,
)
from se_server.protocol import _wire as wire
from se_server.protocol.turn import ANSWERED, SUPERSEDED, WAITING, Turn
from se_server.protocol.turn import CLOSED as CLOSED_TURN
from se_server.protocol.turns import NEW, RETRIED, SILENT, Verdict
from se_server.telemetry._ring import AGAIN, API_ERROR, BLOCKED, NAMED
from se_server.types import CLOSE, DISCONNECTED, ERROR, INIT, USER_TRANSCRIPT, Handler, Request, Stats

# Looked up once, since every turn needs them; `core.pxd` makes C integers of the numbers.
USER_TRANSCRIPT_KIND = wire.USER_TRANSCRIPT
PING_KIND = wire.PING
INIT_KIND = wire.INIT
CLOSE_KIND = wire.CLOSE
ERROR_KIND = wire.ERROR


def saying(text: str) -> Handler:
    """Return a handler of transcripts that answers each with one text."""

    async def say(_transcript: Any, session: Any) -> None:
        await session.send_response(text)

    return say


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


class SessionCore(Waiting):
    """The path of every message. Compiled; `core.pxd` declares its fields.

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
        self._request = request
        self._callbacks = callbacks
        self._on_transcript = callbacks.on_transcript  # looked up once for all turns
        self._prepare_waits(transport.outbox, settings, stats)
        self._opened_at = self._ended_at = self._clock.now()
        self._why = ""
        self._api_error: str | None = None  # the API's last error, if no transcript came after it
        self._on_ended: Callable[[Any], None] | None = None
        # The registry of `on` and `once`, made when first used: behind a server few sessions register anything.
        self._permanent: dict[str, list[Handler]] | None = None
        self._once: dict[str, list[Handler]] | None = None
        self._bad_entry_seen = False
        self.notes = None
        self.conversation_id: str | None = None
        self._stats.cells.sessions_opened += 1
        self._stats.meters.conversation_began()
        if loop is not None:
            self._bind(loop)

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

    # --- the end ---

    def _leave(self, on_transcript: Handler | None) -> None:
        """Have further turns, the one that waits included, answered by another handler, or by silence."""
        self._callbacks = replace(self._callbacks, on_transcript=on_transcript)
        self._on_transcript = on_transcript
        for registry in (self._permanent, self._once):
            if registry is not None:
                registry.pop(USER_TRANSCRIPT, None)

    def _take_leave(self) -> None:
        """Have further turns answered by the goodbye, or by silence; the conversation is about to end."""
        text = self._settings.goodbye
        self._leave(None if text is None else saying(text))

    def _end_in_order(self, event_id_json: bytes | None, why: str) -> None:
        """End the conversation with code 1000, after the goodbye under this id, if there is one."""
        text = self._settings.goodbye
        if text is not None and event_id_json is not None and not self._outbox.closed:
            self._outbox.send(text, event_id_json, False, True)
            self._outbox.send("", event_id_json, True)
        self._transport.close(1000, "")
        self._end(CLOSE, why)

    def _is_answering(self) -> bool:
        """Whether an answer is under way, or about to begin."""
        turn = self._ledger.current
        return turn is not None and turn.open

    def _end(self, event: str, why: str = "") -> None:
        """End the conversation; `event` is the last one that handlers see, `why` is for the log."""
        if self._closed:
            return
        self._closed = True
        if self._lifetime is not None:
            self._lifetime.end()
        self._why = why
        self._ended_at = self._clock.now()
        self._stats.cells.sessions_closed += 1
        turn = self._ledger.current
        if turn is not None:
            if turn.state is WAITING:
                self._last_turn = turn
            self._end_turn(turn, CLOSED_TURN, self._ended_at, False)
        self._ledger.forget()
        self._end_waits()
        if self._debugs:
            self._debug("session ended: %s", event)
        if self._lane is not None:  # else `run` ends it: no loop ran yet
            self._lane.end(event)

    # --- what the connection tells ---

    def receive(self, message: wire.Message) -> None:
        """Take one message of the API. Never waits for user code."""
        self._take_message(message)

    def _take_message(self, message: wire.Message) -> None:
        self._stats.cells.messages_received += 1
        if self._closed:
            return
        kind = message.kind
        if kind == USER_TRANSCRIPT_KIND:
            self._receive_transcript(message)
        elif kind == PING_KIND:
            self._outbox.send_pong()
        elif kind == INIT_KIND:
            self.conversation_id = message.conversation_id
            if self._ring is not None:
                self._ring.text(NAMED, self._number, str(self.conversation_id), self._clock.now())
            if self._debugs:
                self._debug("session initialized, conversation_id=%s", self.conversation_id)
            self._lane.emit(INIT, self.conversation_id)
        elif kind == CLOSE_KIND:
            self._end(CLOSE, "close message")
            self._transport.finish()
        elif kind == ERROR_KIND:
            self._api_error = message.text
            if self._ring is not None:
                self._ring.note(API_ERROR, self._number, 0, self._clock.now())
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
        self._api_error = None
        turn = ledger.turn_of(message.event_id, event_id_json, self._clock.now(), self, message.said)
        if transcript:
            last = transcript[len(transcript) - 1]  # compiled, an index counts from the start only
            turn.ends_with_agent = last.role != "user"
        verdict = ledger.judge(turn)
        if verdict is not NEW:
            if verdict is RETRIED and ledger.newest is not None and self._has_crossed(turn, ledger.newest):
                verdict = Verdict.ANSWERED
            if verdict is not RETRIED and verdict is not SILENT:
                if self._ring is not None:
                    self._ring.note(AGAIN, self._number, verdict.value, turn.started_at)
                self._receive_again(turn, verdict)
                return
            turn.is_retry = verdict is RETRIED
        turn.bytes_left = self._max_answer_bytes
        self._stats.meters.turn_began()
        superseded = ledger.current
        if superseded is not None:
            self._end_turn(superseded, SUPERSEDED, turn.started_at, False)
            how = "interrupted" if superseded.began_at or superseded.chunks else "superseded"
            self._debug("%s: event_id=%s for new transcript (event_id=%s)", how, superseded.event_id, turn.event_id)
            if superseded is self._settling:
                turn.started_at = superseded.started_at  # the same utterance, which has grown
        ledger.begin(turn)
        if self._watch is None:
            self._keep_watch()
        if self._ring is not None:
            turn.ring, turn.number = self._ring, self._number
            waited_s = self._ring.transcript(self._number, turn.event_id, turn.asked_at, self._outbox.fd)
            if self._ring.has_shapes:
                self._ring.said(self._number, turn.said, turn.asked_at)
            if waited_s:
                self._note_block(turn.asked_at - waited_s, turn.asked_at)
        if self._guards is not None:
            self._guards.begin(turn)
        if self._lifetime is not None:
            self._lifetime.hear(turn)
        if self._debugs:
            self._debug("received transcript, event_id=%s, messages=%d", turn.event_id, len(transcript))
        if verdict is SILENT:
            self._answer_silence(turn, superseded)
        elif self._settle_s and verdict is NEW:
            self._wait_for_more(turn, transcript, superseded)
        else:
            self._stats.cells.turns_retried += turn.is_retry
            self._lane.start_turn(turn, transcript, superseded)

    def _answers_on(self) -> int:
        return self._transport.fd

    def _note_block(self, arrived_at: float, now: float) -> None:
        """Note the code that has blocked the event loop while a transcript waited in the socket, if it is known."""
        block = block_watch().block
        if block is not None and block[0] >= arrived_at and self._ring is not None:
            self._ring.text(BLOCKED, self._number, block[1], now)

    def _answer_silence(self, turn: Turn, superseded: Turn | None) -> None:
        """Answer a transcript of silence without a handler, and without words."""
        self._stats.cells.silences += 1
        if superseded is not None:
            self._lane.supersede(superseded)
        if not self._outbox.closed:
            self._send_empty(turn, self._silent_text)
            self._send_final(turn)
        self._settle(turn, False, ANSWERED)

    def receive_error(self, error: MessageError) -> None:
        """Take note of a message that could not be read; the session goes on."""
        self._stats.cells.message_errors += 1
        if not self._closed:
            self._lane.emit(ERROR, error)

    def connection_lost(self) -> None:
        """Take note that nothing will arrive any more. After the conversation has ended it changes nothing."""
        self._end(DISCONNECTED)

    def write_timed_out(self) -> None:
        """Take note that the peer does not read; the connection is dropped."""
        self._stats.cells.write_timeouts += 1
        note(self, logging.WARNING, "the peer does not read, dropped")
        self._end(DISCONNECTED, "the peer did not read")

    # --- what the lane asks for ---

    def _finish_turn(self, turn: Turn, failed: bool) -> None:
        """End the open turn of a handler that has ended: nothing stays unanswered."""
        self._settle(turn, failed, ANSWERED)

    def _ended(self) -> None:
        """The last handler has ended."""
        on_ended, self._on_ended = self._on_ended, None
        if on_ended is not None:
            on_ended(self)
