"""The picture of one turn, as the page draws it: what was said and heard, when, and the server's side of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from se_server.playground.hints import hints_of
from se_server.playground.texts import Text
from se_server.simulator.caller import Caller
from se_server.simulator.calls import CallTurn


def picture_of(
    caller: Caller,
    turn: CallTurn,
    texts: Sequence[Text],
    side: Mapping[str, Any] | None,
    *,
    began_at: float,
    cascade_timeout_s: float,
    is_over: bool,
) -> dict[str, Any]:
    """Return a turn for the page.

    Args:
        caller: holds the conversation.
        texts: all that arrived for the turn.
        side: the server's side of the turn; None while it is not known.
        began_at: when the conversation was asked for, on the clock of the caller.
        cascade_timeout_s: the engine's setting, for hints.
        is_over: whether the conversation has ended.
    """
    verdict = caller.verdict(turn)
    said_at_s = round(turn.said_at - began_at, 6)
    marks = [] if side is None else side["marks"]
    waited_s = caller.now - turn.said_at if turn.is_answering else None
    hints = hints_of(
        "".join(text.text for text in texts if text.why != "outdated event_id"),
        first_word_s=waited_s if verdict.first_word_s is None else verdict.first_word_s,
        is_complete=turn.is_final and not turn.loses_answer,
        is_silence=turn.is_silence,
        cascade_timeout_s=cascade_timeout_s,
    )
    return {
        "said": turn.said,
        "said_at_s": said_at_s,
        "is_habit": turn.is_habit,
        "is_silence": turn.is_silence,
        "event_ids": verdict.event_ids,
        "outcome": verdict.outcome.value,
        "reason": verdict.reason,
        "is_ok": verdict.is_ok or verdict.outcome.value == "waiting",
        "is_answering": turn.is_answering and not is_over,
        "is_final": turn.is_final,
        "interrupted_by": turn.interrupted_by,
        "first_word_s": verdict.first_word_s,
        "complete_s": verdict.complete_s,
        "interrupted_s": None if turn.interrupted_at is None else turn.interrupted_at - turn.said_at,
        "tries": verdict.tries,
        "heard": turn.heard,
        "texts": [
            {**text.picture(said_at_s), "mark": marks[text.order] if text.order < len(marks) else ""} for text in texts
        ],
        "hints": list(hints),
        "server": side,
    }
