"""The log line of each conversation, written at its end."""

from __future__ import annotations

import json
import logging
import re

from se_server.conversation.core import SessionCore
from se_server.conversation.snapshot import snapshot_of

log = logging.getLogger("se_server.conversations")

_BARE = re.compile(r"\w[\w.:+-]*", re.ASCII)


class Fields(dict[str, object]):
    """The named values of a log record: `name=value` in a line of text, keys of an object in JSON.

    Texts other than plain words are quoted, so that no text looks like another field.
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
    seen = snapshot_of(session, session._clock.now())
    fields = Fields(
        conversation_id=seen.conversation_id,
        duration_s=round(seen.duration_s, 3),
        turns=seen.turns,
        interruptions=seen.interruptions,
        first_chunk_p50_s=_rounded(seen.first_text_p50_s),
        first_chunk_max_s=_rounded(seen.first_text_max_s),
        code=seen.code,
        reason=seen.reason,
    )
    log.info("conversation ended: %s", fields, extra={"event": "conversation ended", "fields": fields})


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)
