"""The record of one turn: the figures that its session knows when the turn ends."""

from __future__ import annotations

from typing import Any, NamedTuple


class TurnRecord(NamedTuple):
    """One turn that has ended.

    Attributes:
        event_id: the API's id of the turn; None when the transcript carried none.
        outcome: `answered`, `failed`, `superseded`, `closed` or `cut_off`.
        chunks: how many texts were sent.
        first_text_s: seconds from the transcript to the first text; None without text.
        duration_s: seconds from the transcript to the end.
    """

    event_id: int | None
    outcome: str
    chunks: int
    first_text_s: float | None
    duration_s: float

    @classmethod
    def of(cls, turn: Any, failed: bool) -> TurnRecord:
        """Read a `Turn` that has ended."""
        outcome = turn.state.name.lower()
        return cls(
            turn.event_id,
            "failed" if failed and outcome == "answered" else outcome,
            turn.chunks,
            turn.first_text_after_s() if turn.chunks else None,
            turn.ended_at - turn.started_at,
        )

    def __str__(self) -> str:
        first_text = "-" if self.first_text_s is None else f"{self.first_text_s:.3f}"
        return (
            f"event_id={self.event_id} outcome={self.outcome} chunks={self.chunks} "
            f"first_text_s={first_text} duration_s={self.duration_s:.3f}"
        )
