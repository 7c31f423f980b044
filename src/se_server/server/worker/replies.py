"""Replies of a worker to the questions of `se-ctl` about its conversations, in pages that are made one by one."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator

import orjson

from se_server.conversation.notes import shown_id
from se_server.conversation.session import SpeechEngineSession
from se_server.conversation.snapshot import snapshot_of
from se_server.server.shared.control_messages import Ask, Reply, sendable
from se_server.telemetry._printable import printable

MAX_CALLS = 10_000
"""Conversations listed for one worker."""
PAGE_BYTES = 16 * 1024
PAGE_ROWS = 100
"""Rows of one page. Each page is a step of the loop, which lists 100 conversations in 1 ms, or closes them in 5 ms."""
OPERATOR_REASON = "closed by the operator"


def replies(ask: Ask, sessions: Collection[SpeechEngineSession], now: float) -> Iterator[Reply]:
    """Answer a question in pages; the work of a page is done when it is taken, on the loop.

    Args:
        sessions: the live sessions.
        now: seconds on the clock of the sessions.

    Returns:
        For `calls`, rows of conversation id, age in seconds, state of the turn, and seconds in that state; for `close`
        and `close-match`, a row for each conversation that was closed. If no conversation has the id of a `close`, one
        row describes those whose ids begin with it, see `_matches`.
    """
    left_out = 0
    rows: Iterable[object] = ()
    if ask.what == "calls":
        listed = list(sessions)[:MAX_CALLS]
        left_out = len(sessions) - len(listed)
        rows = (_row_of(session, now) for session in listed)
    elif ask.what == "close":
        named = [session for session in sessions if session.is_open and session.conversation_id == ask.about]
        rows = _close(named) if named else _matches(_found(sessions, ask.about))
    elif ask.what == "close-match":
        digest, _, prefix = ask.about.partition(" ")
        found = _found(sessions, prefix)
        named_so = {name for name in {str(session.conversation_id) for session in found} if _digest(name) == digest}
        rows = _close([session for session in found if session.conversation_id in named_so])
    return in_pages(ask.ticket, rows, left_out)


def in_pages(ticket: int, rows: Iterable[object], left_out: int = 0) -> Iterator[Reply]:
    """Distribute rows over replies of about `PAGE_BYTES`. A text that is longer alone is cut, any other row left out.

    Args:
        left_out: the number of rows that were left out before.
    """
    page: list[object] = []
    size_bytes = 0
    for row in rows:
        safe = sendable(row)
        row_bytes = len(orjson.dumps(safe))
        if row_bytes > PAGE_BYTES and isinstance(safe, str):
            safe = safe[: PAGE_BYTES // 6] + "..."  # JSON needs 6 bytes for a control character
            row_bytes = PAGE_BYTES
        elif row_bytes > PAGE_BYTES:
            left_out += 1
            continue
        if page and (size_bytes + row_bytes > PAGE_BYTES or len(page) == PAGE_ROWS):
            yield Reply(ticket, page, more=True)
            page, size_bytes = [], 0
        page.append(safe)
        size_bytes += row_bytes
    yield Reply(ticket, page, left_out)


def _row_of(session: SpeechEngineSession, now: float) -> list[object]:
    seen = snapshot_of(session, now)
    turn_age_s = None if seen.turn_age_s is None else round(seen.turn_age_s, 2)
    return [seen.conversation_id, round(seen.age_s, 2), seen.state, turn_age_s]


# --- closing ---


def _close(sessions: Iterable[SpeechEngineSession]) -> Iterator[object]:
    for session in sessions:
        if session.is_open:  # a step of the loop may lie between
            session._shutdown(1000, OPERATOR_REASON)
            yield shown_id(session)


def _found(sessions: Collection[SpeechEngineSession], prefix: str) -> list[SpeechEngineSession]:
    """Return the open conversations whose ids, as they are or as `se-ctl` shows them, begin with a text."""
    is_escaped = "\\" in prefix

    def begins(name: object) -> bool:
        return isinstance(name, str) and (
            name.startswith(prefix) or (is_escaped and printable(name[: len(prefix)]).startswith(prefix))
        )

    return [session for session in sessions if session.is_open and begins(session.conversation_id)]


def _matches(found: Collection[SpeechEngineSession]) -> Iterator[object]:
    """Describe candidates: their number, that of their ids, and the digest of an id that is the only one."""
    names = {str(session.conversation_id) for session in found}
    if names:
        yield {"matches": len(found), "ids": len(names), "digest": _digest(names.pop()) if len(names) == 1 else ""}


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()
