"""The log line of each conversation, written at its end."""

from __future__ import annotations

import logging

from se_server.conversation.core import SessionCore
from se_server.conversation.notes import note_end
from se_server.conversation.snapshot import MAX_ID, snapshot_of
from se_server.protocol import close_codes
from se_server.telemetry._meters import CAUSES
from se_server.telemetry._printable import text_of
from se_server.telemetry._ring import CLOSED
from se_server.telemetry.fields import Fields
from se_server.telemetry.guarded import guarded_logger

_CAUSES = {
    "close message": "close_message",
    "closed by the handler": "server",
    "lasted too long": "server",
    "nothing was said": "server",
    "the peer did not read": "write_timeout",
}
_VIOLATIONS = {
    close_codes.PROTOCOL_ERROR,
    close_codes.INVALID_TEXT,
    close_codes.POLICY,
    close_codes.TOO_BIG,
    close_codes.INTERNAL_ERROR,
}

log = guarded_logger("se_server.conversations")


def log_end(session: SessionCore) -> None:
    """Log and count a conversation that has ended, with its last handler and its socket."""
    note_end(session)
    meters, pace = session._stats.meters, session._pace
    code, reason = session._transport.ending
    duration_s, turns = session._ended_at - session._opened_at, 0 if pace is None else pace.turns
    cause = _cause_of(session._why, code, reason)
    meters.conversation_ended(cause, code, duration_s, turns)
    if session._ring is not None:
        session._ring.note(CLOSED, session._number, (CAUSES.index(cause) << 16) | (code or 0), session._ended_at)
    if not log.isEnabledFor(logging.INFO):
        return
    seen = snapshot_of(session, session._clock.now())
    fields = Fields(
        conversation_id=_cut(session.conversation_id),
        remote=_cut(session._request.remote or None),
        path=_cut(session._request.path or None),
        duration_s=round(seen.duration_s, 3),
        turns=seen.turns,
        interruptions=seen.interruptions,
        first_chunk_p50_s=_rounded(seen.first_text_p50_s),
        first_chunk_max_s=_rounded(seen.first_text_max_s),
        code=seen.code,
        reason=_cut(seen.reason),
    )
    if session._request.route:
        fields["route"] = session._request.route
    log.info("conversation ended: %s", fields, extra={"event": "conversation ended", "fields": fields})


def _cause_of(why: str, code: int | None, reason: str) -> str:
    """Return the cause of a conversation's end, one of `CAUSES`.

    Args:
        why: the session's own words for its end; empty if the connection ended it.
        code: the code of the CLOSE frame; None without one.
        reason: the reason of the connection.
    """
    if why in _CAUSES:
        return _CAUSES[why]
    if code == close_codes.ABNORMAL:
        return "ping_timeout" if reason == "no answer to a ping" else "lost"
    if code in _VIOLATIONS:
        return "protocol_error"
    return "lost" if code is None else "peer"


def _cut(text: object) -> str | None:
    """Cut a text of the peer. The formatters escape it."""
    return None if text is None else text_of(text)[:MAX_ID]


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)
