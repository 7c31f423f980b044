"""The end of the conversations of a door: their answers end first, then they are closed, then they are dropped."""

from __future__ import annotations

import asyncio
from collections.abc import Set as AbstractSet

from se_server.conversation.session import SpeechEngineSession
from se_server.server.shared.lifecycle import Lifecycle
from se_server.types import ConversationMessage, Handler

CLOSE_GRACE_S = 5.0  # for the close handshakes of sessions that are ended
POLL_S = 0.05  # the interval of checks whether the last answers have ended
ABORT_GRACE_S = 1.0  # for user code that still runs after its connection was dropped


class Leaving:
    """Ends conversations.

    Args:
        sessions: the live ones; each leaves when its last handler has ended and its socket is gone.
        lifecycle: the grace for running answers, and the text for turns that get none.

    Attributes:
        quiet: set by the door, during a drain, when no connection is left.
    """

    def __init__(self, sessions: AbstractSet[SpeechEngineSession], lifecycle: Lifecycle) -> None:
        self.quiet = asyncio.Event()
        self._sessions = sessions
        self._turn_grace_s = lifecycle.drain_turn_grace_s
        self._goodbye = None if lifecycle.goodbye_text is None else _saying(lifecycle.goodbye_text)
        self._given_up = False  # waiting for user code that does not end

    async def wait_quiet(self, timeout_s: float) -> bool:
        """Wait until no connection is left; return whether that is so.

        Args:
            timeout_s: give up after this time.
        """
        if self.quiet.is_set():
            return True
        try:
            await asyncio.wait_for(self.quiet.wait(), timeout_s)
        except asyncio.TimeoutError:
            return False
        return True

    async def let_answers_end(self) -> None:
        """Close each session when its answer has ended, or at once if there is none; return after the grace."""
        loop = asyncio.get_running_loop()
        answering = set(self._sessions)
        for session in answering:
            session._leave(self._goodbye)
        due = loop.time() + self._turn_grace_s
        while answering := {session for session in answering & self._sessions if _still_answers(session)}:
            left_s = due - loop.time()
            # Poll: a callback would cost every turn, and drains are rare.
            if left_s <= 0 or await self.wait_quiet(min(POLL_S, left_s)):
                return

    async def end_sessions(self) -> None:
        """Close every session with code 1001, and drop those that do not end in time."""
        for session in tuple(self._sessions):
            session._shutdown(1001, "going away")
        if self._given_up or await self.wait_quiet(CLOSE_GRACE_S):
            return
        for session in tuple(self._sessions):
            session._abort()
        self._given_up = not await self.wait_quiet(ABORT_GRACE_S)


def _still_answers(session: SpeechEngineSession) -> bool:
    if session._is_answering():
        return True
    session._shutdown(1001, "going away")
    return False


def _saying(text: str) -> Handler:
    async def say(transcript: list[ConversationMessage], session: SpeechEngineSession) -> None:
        await session.send_response(text)

    return say
