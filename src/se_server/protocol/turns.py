# cython: binding=True
"""The ledger that says what a transcript means for the turns before it. No clock: times are passed in.

The API sends a transcript again while it waits for an answer, also one that a newer transcript has superseded, and one
whose answer was lost on its side. A transcript is **the same one again** when its `event_id` is the same and its last
user message has the same text. The messages before that one do not count: after an interruption the API shortens in
them what the agent said to what the caller heard. The first row that fits, from the top:

the transcript                               | verdict    | what follows
---------------------------------------------+------------+---------------------------------------------------------
has no event_id                              | NEW        | its turn starts; the turn under way is superseded. If it is
                                             |            | of silence: as in the row of silence
is the newest one again, which has its final | REPLAYED   | with "replay": its text and the final again, at most
for 1 s to 20 s, and at most 64 KiB of text  |            | twice. Sooner, the two crossed on their way
is the one of the turn under way again       | REPEATED   | nothing: the answer goes on
is the newest one again, whose handler       | RETRIED    | with "retry", in place of REPLAYED: as NEW, once
failed or timed out without an answer, and   |            |
which has its final for 1 s to 20 s          |            |
is an answered one again                     | ANSWERED   | nothing: its final went out; the two crossed on their way
is a superseded one again                    | SUPERSEDED | "ack": an empty final under its id, so that the API stops
                                             |            | asking, unless the turn under way has that id, whose
                                             |            | answer it would end; "ignore": nothing
says the same words as the turn under way,   | ADOPTED    | with "adopt" only: the turn under way, its handler and
which has said nothing yet and not failed    |            | its answer take over the new id; the transcript that it
                                             |            | had counts as superseded
is of silence (the next row), while a turn   | ADOPTED    | with "stay_silent" only: the turn under way takes over
under way has ended no answer                |            | the new id, and one blank, not final, is sent under it
is of silence: no words, or the history ends | SILENT     | with "stay_silent" only: the turn under way is
with the agent                               |            | superseded, and the empty answer sent; no handler runs
is any other, a known id included            | NEW        | as above; with `settle_s` its handler starts once no
                                             |            | further transcript has come for that time

"The same words" are texts that differ in case, punctuation and white space only (`protocol/words.py`). No answer are a
first word, the `failure_text`, the `empty_answer_text` and blanks: they stand for one.

What is sent under the id of a turn besides its texts:

when                                         | what
---------------------------------------------+----------------------------------------------------------------------
`hold_after_s` after its transcript nothing  | one blank, not final: the API waits on. It is no text of the answer
was sent                                     |
`first_word_after_s` after it, likewise      | the first word
a `send_response` ends, finals="response"    | the final, if the answer has text; not with `final=False`
its handler ends                             | the final, if none followed the last text; without any text
                                             | `empty_answer_text` before it
it is SILENT                                 | one blank, or the `empty_answer_text` if it has no words; the final
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Any

from se_server.protocol.turn import (
    ANSWERED,
    CLOSED,
    CUT_OFF,
    MAX_KEPT_CHARACTERS,
    RUNNING,
    SUPERSEDED,
    WAITING,
    Turn,
    TurnState,
)

__all__ = [
    "ANSWERED",
    "CLOSED",
    "CUT_OFF",
    "MAX_KEPT_CHARACTERS",
    "NEW",
    "RETRIED",
    "RUNNING",
    "SILENT",
    "SUPERSEDED",
    "WAITING",
    "PastTurns",
    "TurnLedger",
    "TurnState",
    "Verdict",
]  # fmt: skip

MAX_PAST_TURNS = 64
"""Turns that a ledger remembers. The API sends one again for some 45 s at most, in which there are few others."""

MIN_LOST_S, MAX_LOST_S = 1.0, 20.0
"""Seconds after a final within which its transcript again means a lost answer. The API asks every 2 s to 15 s; the
rest is for its way."""

MAX_REPLAYS = 2
MAX_REPLAYED_BYTES = 64 * 1024


class Verdict(Enum):
    """The relation of a transcript to the turns before it; see the table above."""

    NEW = auto()
    REPEATED = auto()
    REPLAYED = auto()
    RETRIED = auto()
    ANSWERED = auto()
    SUPERSEDED = auto()
    ADOPTED = auto()
    SILENT = auto()


# By name, as the states: nearly every transcript is compared with the first.
NEW, RETRIED, SILENT = Verdict.NEW, Verdict.RETRIED, Verdict.SILENT


class TurnLedger:
    """Knows the turn under way, waiting or running, and what became of the last `MAX_PAST_TURNS`. One per session.

    Args:
        adopts: whether a turn under way may be adopted; else the same words again supersede it.
        replays: whether a lost answer is sent again.
        retries: whether a turn that failed or timed out without an answer runs again.
        stays_silent: whether a transcript of silence gets the empty answer.

    Attributes:
        current: the turn under way; None between turns.
        newest: the newest turn, if it has ended with an answer that may have to be sent again; None otherwise.
    """

    def __init__(
        self, adopts: bool = False, replays: bool = False, retries: bool = False, stays_silent: bool = False
    ) -> None:
        self.current: Turn | None = None
        self.newest: Turn | None = None
        self._adopts = adopts
        self._replays = replays
        self._retries = retries
        self._stays_silent = stays_silent
        # The first turn that ended; only the second makes the ring, which then has both.
        self._first_digest = 0
        self._first_state: TurnState | None = None
        self._past: PastTurns | None = None
        self._highest_id: int | None = None

    def turn_of(self, event_id: Any, event_id_json: bytes, started_at: float, owner: object, said: str | None) -> Turn:
        """Make a turn, which is under way nowhere yet, in C: a call of its class would take its arguments apart."""
        turn = Turn.__new__(Turn)
        turn._start(event_id, event_id_json, started_at, owner, said)
        return turn

    def judge(self, turn: Turn) -> Verdict:
        """Say what the transcript of `turn`, which is under way nowhere yet, is to the turns before it."""
        current = self.current
        if turn.event_id is not None:
            if current is not None and current.is_again(turn):
                return Verdict.REPLAYED if self._replays and _was_lost(current, turn) else Verdict.REPEATED
            # Integers grow: nearly every transcript is known to be new by its id alone. Other ids have no order.
            if type(turn.event_id) is not int or (self._highest_id is not None and turn.event_id <= self._highest_id):
                newest = self.newest
                if newest is not None and newest.is_again(turn):
                    if self._retries and _may_run_again(newest, turn):
                        return Verdict.RETRIED
                    return Verdict.REPLAYED if self._replays and _was_lost(newest, turn) else Verdict.ANSWERED
                state = self._state_of(turn.digest)
                if state is SUPERSEDED:
                    return Verdict.SUPERSEDED
                if state is not None:
                    return Verdict.ANSWERED
            if self._adopts and current is not None and current.may_become(turn):
                return Verdict.ADOPTED
        if self._stays_silent and turn.is_silence:
            return Verdict.ADOPTED if current is not None and current.outlasts_silence() else SILENT
        return NEW

    def begin(self, turn: Turn) -> Turn | None:
        """Make `turn` the one under way and return the turn it superseded, if there was one."""
        superseded = self.current
        if superseded is not None:
            self.end(superseded, SUPERSEDED, turn.started_at)
        self.current = turn
        self.newest = None
        self._note_id(turn)
        return superseded

    def forget(self) -> None:
        """Keep no answer any longer."""
        self.newest = None

    def adopt(self, turn: Turn) -> None:
        """Let the turn under way go on as `turn`."""
        current = self.current
        assert current is not None
        if current.event_id is not None:
            self._remember(current.digest, SUPERSEDED)
        current.become(turn)
        self._note_id(turn)

    def end(self, turn: Turn, state: TurnState, now: float = 0.0) -> None:
        """End `turn`; if it is the one under way, none is any more."""
        if turn.open and turn.event_id is not None:
            self._remember(turn.digest, state)
        turn.end(state, now)
        if self.current is turn:
            self.current = None
            if (self._replays or self._retries) and (state is ANSWERED or state is CUT_OFF):
                self.newest = turn

    def _note_id(self, turn: Turn) -> None:
        if type(turn.event_id) is int and (self._highest_id is None or turn.event_id > self._highest_id):
            self._highest_id = turn.event_id

    def _state_of(self, digest: int) -> TurnState | None:
        if self._past is not None:
            return self._past.state_of(digest)
        return self._first_state if self._first_digest == digest else None

    def _remember(self, digest: int, state: TurnState) -> None:
        if self._past is None:
            if self._first_state is None:
                self._first_digest = digest
                self._first_state = state
                return
            self._past = PastTurns()
            self._past.add(self._first_digest, self._first_state is SUPERSEDED)
        self._past.add(digest, state is SUPERSEDED)


class PastTurns:
    """Turns that ended, the newest in the place of the oldest. `turns.pxd` makes C arrays of the two lists."""

    _digests: list[int]
    _superseded: list[bool]

    def __init__(self) -> None:
        self._count = 0
        self._next = 0

    def add(self, digest: int, superseded: bool) -> None:
        """Remember one more turn."""
        size = MAX_PAST_TURNS
        self._digests[self._next] = digest
        self._superseded[self._next] = superseded
        self._next += 1
        if self._count < size:
            self._count += 1
        if self._next == size:
            self._next = 0

    def state_of(self, digest: int) -> TurnState | None:
        """Return how a turn ended; None if it is not known."""
        for age in range(1, self._count + 1):  # the newest first: a turn that runs again is there twice
            index = self._next - age
            if index < 0:
                index += MAX_PAST_TURNS
            if self._digests[index] == digest:
                return SUPERSEDED if self._superseded[index] else ANSWERED
        return None


def _was_lost(answered: Turn, turn: Turn) -> bool:
    """Whether `turn`, the same transcript again, shows that an answer was lost which can be sent again."""
    return (
        not answered.needs_final
        and answered.replays < MAX_REPLAYS
        and MIN_LOST_S <= turn.started_at - answered.final_at <= MAX_LOST_S
        and answered.kept_characters <= MAX_REPLAYED_BYTES
        and len(answered.text.encode("utf-8", "surrogatepass")) <= MAX_REPLAYED_BYTES
    )


def _may_run_again(failed: Turn, turn: Turn) -> bool:
    """Whether the handler of `failed` may run once more, now that its transcript has come again as `turn`."""
    return (
        failed.failed
        and not failed.has_answer
        and not failed.is_retry
        and MIN_LOST_S <= turn.started_at - failed.final_at <= MAX_LOST_S
    )
