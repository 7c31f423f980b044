"""Ends conversations that last too long, or in which nothing is said. Made only if an option asks for it."""

from __future__ import annotations

import asyncio
from typing import Protocol

from se_server.conversation.deadlines import LAST_LOOK_S
from se_server.conversation.settings import SessionSettings
from se_server.protocol.turn import Turn

POLL_S = 0.1
GRACE_S = 30.0
"""The time that the answer under way has to its end."""


class Lasting(Protocol):
    """The part of a session that its lifetime uses."""

    def _is_answering(self) -> bool: ...

    def _take_leave(self) -> None: ...

    def _end_in_order(self, event_id_json: bytes | None, why: str) -> None: ...


class Lifetime:
    """The timers of one conversation. The answer under way is spoken to its end, then the conversation is closed."""

    def __init__(self, session: Lasting, loop: asyncio.AbstractEventLoop, settings: SessionSettings) -> None:
        self._session = session
        self._loop = loop
        self._idle_timeout_s = settings.idle_timeout_s
        self._heard_at = loop.time()
        self._last_id: bytes | None = None
        self._is_leaving = False
        self._timers: list[asyncio.TimerHandle] = []
        if settings.max_conversation_s is not None:
            self._timers.append(loop.call_later(settings.max_conversation_s, self._leave, "lasted too long"))
        if settings.idle_timeout_s is not None:
            self._timers.append(loop.call_later(settings.idle_timeout_s, self._look))

    @classmethod
    def of(cls, session: Lasting, loop: asyncio.AbstractEventLoop, settings: SessionSettings) -> Lifetime | None:
        """Make the timers of a session; None if the settings ask for none."""
        asked = settings.max_conversation_s is not None or settings.idle_timeout_s is not None
        return cls(session, loop, settings) if asked else None

    def hear(self, turn: Turn) -> None:
        """Note the turn of a transcript."""
        self._heard_at = self._loop.time()
        # A turn that comes while the conversation ends is answered by the goodbye: it is not said again.
        self._last_id = None if self._is_leaving else turn.event_id_json

    def end(self) -> None:
        """Cancel the timers: the conversation has ended."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    def _look(self) -> None:
        """End the conversation if nothing was said for long enough; else look again when that may be."""
        assert self._idle_timeout_s is not None
        now = self._loop.time()
        left_s = self._heard_at + self._idle_timeout_s - now
        if left_s > 0 or self._session._is_answering():
            self._timers.append(self._loop.call_later(max(left_s, POLL_S), self._look))
            del self._timers[:-2]
        else:
            self._timers.append(self._loop.call_later(LAST_LOOK_S, self._look_last, self._heard_at))

    def _look_last(self, heard_at: float) -> None:
        """End the conversation unless words waited in the socket while code blocked the loop."""
        if self._heard_at == heard_at:
            self._leave("nothing was said")
        else:
            self._look()

    def _leave(self, why: str) -> None:
        self.end()
        self._is_leaving = True
        self._session._take_leave()
        self._close(why, self._loop.time() + GRACE_S)

    def _close(self, why: str, until_s: float) -> None:
        if self._session._is_answering() and self._loop.time() < until_s:
            self._timers = [self._loop.call_later(POLL_S, self._close, why, until_s)]
        else:
            self._session._end_in_order(self._last_id, why)
