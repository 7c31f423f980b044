"""The log line of each conversation, written at its end."""

from __future__ import annotations

import logging

from se_server.conversation.core import SessionCore
from se_server.conversation.notes import note_end
from se_server.conversation.snapshot import MAX_ID, snapshot_of
from se_server.telemetry._printable import text_of
from se_server.telemetry.fields import Fields

log = logging.getLogger("se_server.conversations")


def log_end(session: SessionCore) -> None:
    """Log that a conversation has ended, with its last handler and its socket."""
    note_end(session)
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
    log.info("conversation ended: %s", fields, extra={"event": "conversation ended", "fields": fields})


def _cut(text: object) -> str | None:
    """Cut a text of the peer. The formatters escape it."""
    return None if text is None else text_of(text)[:MAX_ID]


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)
