# cython: binding=True
"""Transcripts that start no handler at once, and what the API hears while a handler is silent.

The rules are the table in `protocol/turns.py`: a transcript that comes again, an utterance that still grows, a silence.
"""

from __future__ import annotations

import asyncio

from se_server.conversation._outbox import Outbox
from se_server.conversation.answering import Answering
from se_server.conversation.deadlines import CLOCK_STEP_S
from se_server.conversation.settings import SessionSettings
from se_server.conversation.watches import Watch, watches_of
from se_server.protocol.turn import CLOSED, Turn
from se_server.protocol.turns import MAX_LOST_S, MIN_LOST_S, Verdict
from se_server.telemetry._ring import waited_s
from se_server.types import ConversationMessage, Stats

HOLD_TEXT = " "


class Waiting(Answering):
    """The waits of one conversation. Compiled; `waiting.pxd` declares its fields."""

    def _prepare_waits(self, outbox: Outbox, settings: SessionSettings, stats: Stats) -> None:
        self._prepare(outbox, settings, stats)
        self._holds = settings.hold_after_s is not None
        self._hold_after_s = settings.hold_after_s or 0.0
        # A watch also lets go of answers that were kept to be sent again.
        keeps = settings.answered_transcripts == "replay" or settings.failed_transcripts == "retry"
        self._look_every_s = self._hold_after_s or (MAX_LOST_S if keeps else 0.0)
        self._watch: Watch | None = None
        self._settle_s = settings.settle_s
        self._settling: Turn | None = None  # the turn of an utterance that may still grow
        self._settling_transcript: list[ConversationMessage] | None = None
        self._settle_timer: asyncio.TimerHandle | None = None

    # --- transcripts that come again, and silence ---

    def _receive_again(self, turn: Turn, verdict: Verdict) -> None:
        """Take a transcript that starts no turn."""
        event_id, current, stats, outbox = turn.event_id, self._ledger.current, self._stats, self._outbox
        if verdict is Verdict.REPEATED:
            stats.cells.transcripts_repeated += 1
            self._debug("skipped a transcript sent again: its answer is under way, event_id=%s", event_id)
        elif verdict is Verdict.ANSWERED:
            stats.cells.transcripts_answered += 1
            self._debug("skipped a transcript sent again: it was answered, event_id=%s", event_id)
        elif verdict is Verdict.REPLAYED:
            self._replay(turn)
        elif verdict is Verdict.ADOPTED and current is not None:
            stats.cells.transcripts_adopted += 1
            self._debug(
                "%s: the answer to event_id=%s goes on as event_id=%s",
                "the user says nothing" if turn.is_silence else "the same words again",
                current.event_id,
                event_id,
            )
            self._ledger.adopt(turn)
            if turn.is_silence:  # what was said under the old id does not keep the API waiting
                if self._holds:
                    self._hold(current)
                if self._guards is not None:
                    self._guards.go_on(current)
        else:
            stats.cells.transcripts_superseded += 1
            self._debug("skipped a transcript sent again: it was superseded, event_id=%s", event_id)
            # A peer that asks and never reads gets no more to hold.
            if (
                self._settings.superseded_transcripts == "ack"
                and outbox.writable
                and not (current is not None and current.event_id == event_id)
            ):
                outbox.send("", turn.event_id_json, True)

    def _answers_on(self) -> int:
        """Return the descriptor of the TCP connection; -1 without one."""
        return -1

    def _has_crossed(self, again: Turn, answered: Turn) -> bool:
        """Return whether a transcript came again because the answer of its turn was still on its way."""
        outbox = self._outbox
        if not outbox.writable or outbox.pending():  # type: ignore[attr-defined]  # a method in C
            answered.final_at = again.started_at  # the answer has not even left
            return True
        # A transcript that waited in the socket, while code blocked the loop, was sent before it was read.
        return again.started_at - waited_s(self._answers_on()) - answered.final_at < MIN_LOST_S

    def _replay(self, again: Turn) -> None:
        """Send the newest answer once more: its transcript has come again, so that the answer was lost."""
        current, outbox = self._ledger.current, self._outbox
        turn = self._ledger.newest if current is None else current
        if turn is None or outbox.closed:
            return
        self._stats.cells.transcripts_answered += 1
        if self._has_crossed(again, turn):
            self._debug("skipped a transcript sent again: it crossed its answer, event_id=%s", turn.event_id)
            return
        text = turn.text or self._silent_text
        turn.replays += 1
        turn.note_final(again.started_at)
        self._stats.cells.answers_replayed += 1
        self._debug("the answer was lost and is sent again, event_id=%s", turn.event_id)
        if text:
            outbox.send(text, turn.event_id_json, False, True)
        outbox.send("", turn.event_id_json, True)

    # --- a handler that sends nothing ---

    def _keep_watch(self) -> None:
        if self._look_every_s:
            self._watch = watches_of(self._loop).add(self._loop, self, self._look_every_s)

    def _watch_is_due(self, watch: Watch) -> float | None:
        """Look after the turn under way, or the answer that is kept; return the seconds to the next look."""
        turn, now = self._ledger.current, self._clock.now()
        if turn is not None:
            if self._holds and not turn.held and not turn.chunks:
                left_s = turn.asked_at + self._hold_after_s - now
                if left_s > CLOCK_STEP_S:
                    return left_s
                self._hold(turn)
            return self._look_every_s
        newest = self._ledger.newest
        if newest is not None:
            left_s = newest.final_at + MAX_LOST_S - now
            if left_s > 0:
                return min(left_s + CLOCK_STEP_S, self._look_every_s)
            self._ledger.forget()
        self._watch = None
        return None

    def _hold(self, turn: Turn) -> None:
        """Send a blank, which is no text of the answer, so that the API waits on."""
        outbox = self._outbox
        if turn.needs_final and outbox.writable and not outbox.closed:
            turn.held = True
            self._stats.cells.blanks_sent += 1
            outbox.send(HOLD_TEXT, turn.event_id_json, False)
            self._debug("a blank was sent: the handler has sent nothing yet, event_id=%s", turn.event_id)

    # --- an utterance that grows ---

    def _wait_for_more(self, turn: Turn, transcript: list[ConversationMessage], superseded: Turn | None) -> None:
        """Start the handler of a turn once no further transcript has come for `settle_s`."""
        if superseded is not None and superseded is not self._settling:
            self._lane.supersede(superseded)
        if self._settle_timer is not None:
            self._settle_timer.cancel()
        self._settling, self._settling_transcript = turn, transcript
        self._settle_timer = self._loop.call_later(self._settle_s, self._settle_down)

    def _settle_down(self) -> None:
        """Start the handler that waits, if its turn was not cut off meanwhile."""
        turn, transcript = self._settling, self._settling_transcript
        if self._settle_timer is not None:
            self._settle_timer.cancel()
        self._settling = self._settling_transcript = self._settle_timer = None
        if turn is not None and transcript is not None and (turn.open or turn.state is CLOSED):
            self._lane.start_turn(turn, transcript, None)

    def _end_waits(self) -> None:
        """The conversation has ended: the words that wait are the last ones, and nothing else is due any more."""
        if self._watch is not None:
            self._watch.session = None
            self._watch = None
        if self._settling is not None and self._lane is not None:
            self._settle_down()
