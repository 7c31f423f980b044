# cython: binding=True
"""The ends of turns, and the texts that the server itself sends in the place of a handler."""

from __future__ import annotations

import asyncio
import logging
from contextvars import ContextVar

from se_server.conversation._outbox import Outbox
from se_server.conversation.findings import log_second_final
from se_server.conversation.guards import TurnGuards
from se_server.conversation.jobs import TurnHost
from se_server.conversation.lane import Lane
from se_server.conversation.lifetime import Lifetime
from se_server.conversation.naming import traceback_of_users
from se_server.conversation.notes import debug, note
from se_server.conversation.recording import record_error
from se_server.conversation.settings import SessionSettings
from se_server.errors import AnswerTooLong, TurnTimeout
from se_server.protocol.turn import ANSWERED, CUT_OFF, SUPERSEDED, Turn, TurnState, is_wordless
from se_server.protocol.turns import TurnLedger
from se_server.telemetry._clock import clock_of
from se_server.telemetry.pace import Pace
from se_server.telemetry.turn_record import TurnRecord
from se_server.types import ERROR, Stats

handles_error: ContextVar[bool] = ContextVar("handles_error", default=False)
"""Whether an error handler runs: a stream that fails in it must not call it again, and again."""


class TurnEnds(TurnHost):
    """The part of a session that ends its turns. Compiled; `turn_ends.pxd` declares its fields."""

    def _prepare_ends(self, outbox: Outbox, settings: SessionSettings, stats: Stats) -> None:
        self._outbox = outbox
        self._settings = settings
        self._debugs = settings.debug
        self._stats = stats
        self._clock = clock_of(settings.clock)
        self._ledger = TurnLedger(
            settings.retranscription == "adopt",
            settings.answered_transcripts == "replay",
            settings.failed_transcripts == "retry",
            settings.silence_turns == "stay_silent",
        )
        self._empty_answer_text = settings.empty_answer_text
        self._silent_text = settings.empty_answer_text if is_wordless(settings.empty_answer_text) else " "
        self._ends_with_turn = settings.finals == "turn"
        self._pace: Pace | None = None  # made by the first turn that ends
        self._max_answer_bytes = -1 if settings.max_answer_bytes is None else settings.max_answer_bytes
        self._ring = stats.ring
        self._number = 0 if stats.ring is None else stats.ring.opened(self._clock.now())
        self._closed = False
        self._last_turn: Turn | None = None  # the one that the end found waiting for its handler

    def _bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run handlers on `loop` from now on."""
        self._loop = loop
        self._lane = Lane(self, loop, self._settings, self._stats)
        self._guards = TurnGuards.of(self, loop, self._settings)
        # `SessionCore` has the methods that it calls.
        self._lifetime = None if self._closed else Lifetime.of(self, loop, self._settings)  # type: ignore[arg-type]

    def _send_final(self, turn: Turn) -> None:
        turn.note_final(self._clock.now())
        self._outbox.send("", turn.event_id_json, True)
        if turn.finals - turn.replays > 1:  # what is sent again has a final, too
            job = self._lane._job
            log_second_final(self, job.handler if job is not None and job.turn is turn else None)

    def _send_empty(self, turn: Turn, text: str) -> None:
        """Send the text that stands for the answer of a turn that has said nothing; its final follows."""
        self._stats.cells.answers_empty += 1
        if text and not (turn.held and text.isspace()):  # a blank was sent before
            self._outbox.send(text, turn.event_id_json, False, True)
            if not text.isspace():
                turn.note_filler(text, self._clock.now())

    def _settle(self, turn: Turn, failed: bool, state: TurnState) -> None:
        """End an open turn with its final."""
        if turn.needs_final and not self._outbox.closed:
            if not turn.chunks:
                self._send_empty(turn, self._empty_answer_text)
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
        stats.cells.chunks_sent += turn.chunks
        # The numbers are those of `Meters.turn_ended`.
        if failed:
            stats.cells.turns_failed += 1
            outcome = 4 if state is CUT_OFF and not turn.is_full else 3
        elif state is ANSWERED:
            stats.cells.turns_answered += 1
            outcome = 0 if turn.chunks else 5 if turn.began_at else 7
        elif state is SUPERSEDED:
            stats.cells.turns_superseded += 1
            outcome = 1 if turn.chunks else 2
        else:
            outcome = 6
        turn.count_in(stats.meters, outcome)
        if self._pace is None:
            self._pace = Pace()
        self._pace.add(state is SUPERSEDED and turn.chunks > 0)
        if turn.chunks:
            self._pace.add_first_chunk(turn.first_text_after_s())
        if self._debugs:
            self._debug("turn ended: %s", TurnRecord.of(turn, failed))

    def _speak_failure(self, turn: Turn) -> None:
        """A handler or its stream has raised: say so, once, if the turn has said nothing else."""
        text = self._settings.failure_text
        turn.leave_out_blanks()
        says = text is not None and turn.open and not turn.failed and not turn.has_own_text and not self._outbox.closed
        turn.failed = True
        if text is None or not says:
            return
        self._stats.cells.failure_texts_sent += 1
        if self._ends_with_turn and not text[len(text) - 1].isspace():
            text += " "  # or an answer that follows would be spoken as a part of its last word
        self._outbox.send(text, turn.event_id_json, False, not self._ends_with_turn)
        turn.keep(text)
        turn.note_texts(1, self._clock.now())
        turn.has_failure_text = True
        if not self._ends_with_turn:
            self._send_final(turn)

    async def _end_full(self, turn: Turn) -> None:
        """End the turn whose answer was cut at its limit."""
        self._stats.cells.answers_too_long += 1
        turn.failed = True
        self._settle(turn, True, CUT_OFF)
        await self._report(AnswerTooLong(f"an answer had more than {self._max_answer_bytes} bytes, and was cut there"))
        await self._outbox.room()

    def _say_first_word(self, turn: Turn, text: str) -> None:
        """Say something in place of a handler that has sent nothing for long."""
        if not turn.failed and not self._outbox.closed:
            self._stats.cells.first_words_sent += 1
            self._outbox.send(text, turn.event_id_json, False)
            turn.note_filler(text, self._clock.now())
            self._debug("first word sent, event_id=%s", turn.event_id)

    def _time_out(self, turn: Turn, timeout_s: float) -> None:
        """End a turn that took too long, whatever its handler makes of being cancelled."""
        self._stats.cells.turns_timed_out += 1
        self._debug("turn timed out, event_id=%s", turn.event_id)
        late = "" if turn.began_at else ", and its handler had not begun"
        self._speak_failure(turn)
        self._settle(turn, True, CUT_OFF)
        self._lane.abandon(turn)
        self._lane.emit(
            ERROR, TurnTimeout(f"the turn with event_id {turn.event_id} took more than {timeout_s:g} s{late}")
        )

    async def _report(self, error: BaseException) -> None:
        """Give an error of user code to the error handlers, here and now. One of theirs is logged, nothing more."""
        self._stats.cells.handler_errors += 1
        error.__traceback__ = traceback_of_users(error)
        if self._ring is not None:
            record_error(self._ring, self._number, error, self._clock.now())
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
