"""Replies of a worker to the questions of `se-ctl` about its conversations."""

from __future__ import annotations

from collections.abc import Collection

from se_server.conversation.session import SpeechEngineSession
from se_server.conversation.snapshot import snapshot_of
from se_server.server.shared.control import Ask, Reply

MAX_CALLS = 1000
"""Conversations listed for one worker. The message fits into the buffer of the socket and does not block the loop."""
OPERATOR_REASON = "closed by the operator"


def reply(ask: Ask, sessions: Collection[SpeechEngineSession], now: float) -> Reply:
    """Answer a question; called on the loop.

    Args:
        sessions: the live sessions.
        now: seconds on the clock of the sessions.

    Returns:
        For `calls`, rows of conversation id, age in seconds, state of the turn, and seconds in that state; for `close`,
        a row for each conversation that was closed.
    """
    if ask.what == "calls":
        listed = list(sessions)[:MAX_CALLS]
        return Reply(ask.ticket, [_row_of(session, now) for session in listed], len(sessions) - len(listed))
    if ask.what == "close":
        named = [session for session in sessions if session.conversation_id == ask.about and session.is_open]
        for session in named:
            session._shutdown(1000, OPERATOR_REASON)
        return Reply(ask.ticket, [ask.about] * len(named))
    return Reply(ask.ticket)


def _row_of(session: SpeechEngineSession, now: float) -> list[object]:
    seen = snapshot_of(session, now)
    name = seen.conversation_id
    shown = name if name is None else name.encode("utf-8", "backslashreplace").decode()
    turn_age_s = None if seen.turn_age_s is None else round(seen.turn_age_s, 2)
    return [shown, round(seen.age_s, 2), seen.state, turn_age_s]
