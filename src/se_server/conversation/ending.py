"""The one line that the log has of each conversation, written at its end."""

from __future__ import annotations

import json
import logging
import re

from se_server.conversation.core import SessionCore

log = logging.getLogger("se_server.conversations")

MAX_ID = 128
"""Characters of a conversation's id that are logged: a peer may send any, of any length."""

_BARE = re.compile(r"\w[\w.:+-]*", re.ASCII)


class Fields(dict[str, object]):
    """What a log record says, by name: `name=value` in a line of text, keys of an object in JSON.

    Texts that are no plain word are quoted, so that nothing in them looks like another field.
    """

    def __str__(self) -> str:
        return " ".join(f"{name}={_text_of(value)}" for name, value in self.items())


def _text_of(value: object) -> str:
    if value is None:
        return "-"
    text = value if isinstance(value, str) else str(value)
    return text if _BARE.fullmatch(text) else json.dumps(text)


def log_end(session: SessionCore) -> None:
    """Log that a conversation has ended, with its last handler and its socket."""
    if not log.isEnabledFor(logging.INFO):
        return
    pace = session._ledger.pace
    median_s = None if pace is None else pace.median_s()
    code, reason = session._transport.ending
    name = session.conversation_id
    fields = Fields(
        conversation_id=name if name is None else name[:MAX_ID],
        duration_s=round(session._ended_at - session._opened_at, 3),
        turns=0 if pace is None else pace.turns,
        interruptions=0 if pace is None else pace.interruptions,
        first_chunk_p50_s=median_s if median_s is None else round(median_s, 4),
        first_chunk_max_s=None if median_s is None or pace is None else round(pace.slowest_s, 4),
        code=code,
        reason=reason or session._why or "connection lost",
    )
    log.info("conversation ended: %s", fields, extra={"event": "conversation ended", "fields": fields})
