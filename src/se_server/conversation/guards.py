"""Limits the time to the first word and to the end of the turn under way. Made only if an option asks for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from se_server.conversation.settings import SessionSettings
from se_server.protocol.turn import Turn


class Guarded(Protocol):
    """The part of a session that the guards use."""

    def _say_first_word(self, turn: Turn, text: str) -> None: ...

    def _time_out(self, turn: Turn, timeout_s: float) -> None: ...


class TurnGuards:
    """One timer for the turn under way; times count from the arrival of its transcript.

    A turn that is adopted keeps its times: the caller has waited since then.
    """

    def __init__(self, session: Guarded, loop: asyncio.AbstractEventLoop, settings: SessionSettings) -> None:
        self._session = session
        self._loop = loop
        self._first_word_after_s = settings.first_word_after_s
        self._turn_timeout_s = settings.turn_timeout_s
        # A blank behind it, or the answer that follows would be spoken as a part of its last word.
        self._texts = [text if text[-1].isspace() else f"{text} " for text in settings.first_word_text]
        self._spoken = 0
        self._chunks = 0  # texts of the turn that went out under an id it no longer has
        self._later_s = 0.0  # from the turn's first transcript to the one that its first word counts from
        self._timer: asyncio.TimerHandle | None = None

    @classmethod
    def of(cls, session: Guarded, loop: asyncio.AbstractEventLoop, settings: SessionSettings) -> TurnGuards | None:
        """Make the guards of a session; None if the settings ask for none."""
        asked = settings.first_word_after_s is not None or settings.turn_timeout_s is not None
        return cls(session, loop, settings) if asked else None

    def begin(self, turn: Turn) -> None:
        """Watch over a turn whose transcript has just come, instead of the one before."""
        self._chunks, self._later_s = 0, 0.0
        first_word_after_s, turn_timeout_s = self._first_word_after_s, self._turn_timeout_s
        waited_s = turn.asked_at - turn.started_at  # an utterance that grew began earlier
        if first_word_after_s is not None and (turn_timeout_s is None or first_word_after_s < turn_timeout_s):
            self._set(first_word_after_s - waited_s, self._miss_first_word, turn)
        elif turn_timeout_s is not None:
            self._set(turn_timeout_s - waited_s, self._miss_end, turn)

    def go_on(self, turn: Turn) -> None:
        """Have a turn that has spoken, and goes on under a new id, say a first word under that, too."""
        first_word_after_s, turn_timeout_s = self._first_word_after_s, self._turn_timeout_s
        later_s = turn.asked_at - turn.started_at
        if not turn.chunks or first_word_after_s is None:
            return
        if turn_timeout_s is None or later_s + first_word_after_s < turn_timeout_s:
            self._chunks, self._later_s = turn.chunks, later_s
            self._set(first_word_after_s, self._miss_first_word, turn)

    def end(self) -> None:
        """Stop watching: the turn has ended."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set(self, delay_s: float, action: Callable[[Turn], None], turn: Turn) -> None:
        self.end()
        self._timer = self._loop.call_later(max(0.0, delay_s), action, turn)

    def _miss_first_word(self, turn: Turn) -> None:
        self._timer = None
        assert self._first_word_after_s is not None
        if self._turn_timeout_s is not None:
            self._set(self._turn_timeout_s - self._first_word_after_s - self._later_s, self._miss_end, turn)
        turn.leave_out_blanks()
        if turn.chunks <= self._chunks and turn.needs_final:  # a final without text is an answer, too
            self._session._say_first_word(turn, self._texts[self._spoken % len(self._texts)])
            self._spoken += 1

    def _miss_end(self, turn: Turn) -> None:
        self._timer = None
        assert self._turn_timeout_s is not None
        self._session._time_out(turn, self._turn_timeout_s)
