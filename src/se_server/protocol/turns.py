"""Turns, and the ledger that says what a transcript means for the turns before it. No clock: times are passed in.

transcript's event_id | a turn is under way         | no turn is under way
----------------------+-----------------------------+---------------------
absent                | supersede it, start         | start
the turn's own        | duplicate: nothing happens  | start
any other             | supersede it, start         | start
"""

from __future__ import annotations

from enum import Enum, auto


class TurnState(Enum):
    """What became of a turn. Text is let through in the first two states only."""

    WAITING = auto()
    RUNNING = auto()
    ANSWERED = auto()
    SUPERSEDED = auto()
    CLOSED = auto()


# By name: looking a member up on its class costs more than the rest of a transition.
WAITING, RUNNING, ANSWERED, SUPERSEDED, CLOSED = TurnState


class Turn:
    """One transcript and its answer, keyed by `event_id`.

    Attributes:
        event_id: the API's id of the turn; None when the transcript carried none.
        event_id_json: the id as it stands in JSON, made once for all chunks.
        owner: the session it belongs to, compared by identity only.
        started_at: when the transcript arrived, in monotonic seconds.
        first_chunk_at: when the first text was written, in monotonic seconds; None before.
        open: whether its text may still go out. This is the fence: every write asks it.
        needs_final: whether the API still waits for an empty final.
        chunks: how many texts were written.
        state: see `TurnState`.
    """

    def __init__(self, event_id: int | None, started_at: float = 0.0, owner: object = None) -> None:
        self.event_id = event_id
        self.event_id_json = b"null" if event_id is None else b"%d" % event_id
        self.owner = owner
        self.started_at = started_at
        self.first_chunk_at: float | None = None
        self.open = True
        self.needs_final = True
        self.chunks = 0
        self.state: TurnState = WAITING

    @property
    def interrupted(self) -> bool:
        """Whether a newer transcript ended the turn."""
        return self.state is SUPERSEDED

    def note_texts(self, count: int, now: float) -> None:
        """Count texts that were written at `now`; a final must follow them."""
        self.needs_final = True
        if self.first_chunk_at is None:
            self.first_chunk_at = now
        self.chunks += count

    def end(self, state: TurnState) -> None:
        """Let no more text through; `state` says why. A turn ends once: later calls change nothing."""
        if self.open:
            self.open = False
            self.state = state

    def __repr__(self) -> str:
        return f"<Turn {self.event_id} {self.state.name.lower()}>"


class TurnLedger:
    """Knows the turn under way, waiting or running. One per session."""

    def __init__(self) -> None:
        self.current: Turn | None = None

    def is_duplicate(self, event_id: int | None) -> bool:
        """Whether a transcript with this id is the one under way, sent again."""
        return event_id is not None and self.current is not None and self.current.event_id == event_id

    def begin(self, turn: Turn) -> Turn | None:
        """Make `turn` the one under way and return the turn it superseded, if there was one."""
        superseded = self.current
        self.current = turn
        if superseded is not None:
            superseded.end(SUPERSEDED)
        return superseded

    def end(self, turn: Turn, state: TurnState) -> None:
        """End `turn`; if it is the one under way, none is any more."""
        turn.end(state)
        if self.current is turn:
            self.current = None
