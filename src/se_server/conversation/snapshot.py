"""A picture of one session, for everything that shows it: the log, `se-ctl`, pages."""

from __future__ import annotations

from dataclasses import dataclass

from se_server.conversation.core import SessionCore
from se_server.conversation.notes import shown_id
from se_server.protocol.turn import Turn, TurnState
from se_server.telemetry._printable import text_of
from se_server.telemetry.pace import Pace

MAX_ID = 128
"""Characters of a conversation's id that are shown: a peer may send an id of any length."""


MAX_ERROR = 80
"""Characters of the API's error that a reason begins with."""


@dataclass(frozen=True)
class Snapshot:
    """One session at one moment.

    Attributes:
        conversation_id: the API's id, escaped and cut to `MAX_ID` characters; None before `init`.
        state: `listening`, `waiting` (for an earlier handler), `thinking`, `speaking`, or `ending` (closed, while its
            last handler runs).
        age_s: seconds since the session was opened.
        duration_s: the same, until its end if it has ended.
        turn_age_s: seconds since the transcript of the turn under way arrived; None without a turn.
        turns: how many turns have ended.
        interruptions: how many of them a newer transcript ended after some of the answer had been sent.
        first_text_p50_s: the median time to a turn's first text, in seconds; None if no turn had text.
        first_text_max_s: the longest such time.
        code: the code that the WebSocket was closed with; None while it is open, or where its library does not say.
        reason: why the conversation ended; empty while it is open.
    """

    conversation_id: str | None
    state: str
    age_s: float
    duration_s: float
    turn_age_s: float | None
    turns: int
    interruptions: int
    first_text_p50_s: float | None
    first_text_max_s: float | None
    code: int | None
    reason: str


def snapshot_of(session: SessionCore, now: float) -> Snapshot:
    """Read a session.

    Args:
        session: the session; read on its loop.
        now: the time on the session's clock, in seconds.
    """
    turn, pace = session._ledger.current, session._pace or Pace()
    median_s = pace.median_s()
    code, reason = (None, "") if session.is_open else session._transport.ending
    return Snapshot(
        conversation_id=shown_id(session),
        state=_state_of(session.is_open, turn),
        age_s=now - session._opened_at,
        duration_s=(now if session.is_open else session._ended_at) - session._opened_at,
        turn_age_s=None if turn is None else now - turn.started_at,
        turns=pace.turns,
        interruptions=pace.interruptions,
        first_text_p50_s=median_s,
        first_text_max_s=None if median_s is None else pace.slowest_s,
        code=code,
        reason="" if session.is_open else _reason_of(session, reason),
    )


def _reason_of(session: SessionCore, reason: str) -> str:
    error, why = session._api_error, reason or session._why or "connection lost"
    return why if error is None else f"{text_of(error)[:MAX_ERROR]} (an error of the API, then: {why})"


def _state_of(is_open: bool, turn: Turn | None) -> str:
    if not is_open:
        return "ending"
    if turn is None:
        return "listening"
    if turn.state is not TurnState.RUNNING:
        return "waiting"
    return "thinking" if turn.first_chunk_at is None else "speaking"
