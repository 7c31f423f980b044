"""Format the conversations of a failed test as text."""

from __future__ import annotations

from collections.abc import Iterable

from se_server.simulator.calls import CallTurn
from se_server.testing.caller import Caller
from se_server.testing.errors import as_text

MAX_TEXT_CHARS = 400


def format_conversations(callers: Iterable[Caller], shown: BaseException | None) -> str:
    """Format the conversations so far with their times and ids, and the exceptions of the agents.

    Args:
        callers: the callers of the test.
        shown: an error that is already shown elsewhere.
    """
    return "\n".join(_conversation(caller, shown) for caller in callers if caller.turns or caller.errors)


def _conversation(caller: Caller, shown: BaseException | None) -> str:
    lines = [f"{caller.conversation_id}:"]
    began = caller.turns[0].said_at if caller.turns else 0.0
    for turn in caller.turns:
        lines += _turn(caller, turn, began)
    if caller.ended is not None:
        lines.append(f"           {caller.ended}")
    for error in caller.errors:
        if error is shown:
            continue
        lines += ["a handler raised, and no on_error handled it:", as_text(error)]
    return "\n".join(lines)


def _turn(caller: Caller, turn: CallTurn, began: float) -> list[str]:
    ids = ", ".join(str(ask.event_id) for ask in turn.asks)
    lines = [f"{turn.said_at - began:8.2f} s user  (id {ids}) {_text(turn.said)}"]
    if turn.chunks and turn.first_chunk_at is not None:
        lines.append(f"{turn.first_chunk_at - began:8.2f} s agent (id {turn.event_id}) {_text(turn.heard)}")
    return [*lines, f"           {caller.verdict(turn).reason}"]


def _text(text: str) -> str:
    left_out = len(text) - MAX_TEXT_CHARS
    return repr(text) if left_out <= 0 else f"{text[:MAX_TEXT_CHARS]!r} and {left_out} more characters"
