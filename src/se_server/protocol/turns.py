# cython: binding=True
"""Turns, and the ledger that says what a transcript means for the turns before it. No clock: times are passed in.

The API sends a transcript again while it waits for an answer, also one that a newer transcript has superseded. A
transcript is **the same one again** when its `event_id` is the same and its last user message has the same text. The
messages before that one do not count: after an interruption the API shortens in them what the agent said to what the
caller heard. The first row that fits, from the top:

the transcript                               | verdict    | what follows
---------------------------------------------+------------+---------------------------------------------------------
has no event_id                              | NEW        | its turn starts; the turn under way is superseded
is the one of the turn under way again       | REPEATED   | nothing: the answer goes on
is an answered one again                     | ANSWERED   | nothing: its final went out; the two crossed on their way
is a superseded one again                    | SUPERSEDED | "ack": an empty final under its id, so that the API stops
                                             |            | asking, unless the turn under way has that id, whose
                                             |            | answer it would end; "ignore": nothing
says the same words as the turn under way,   | ADOPTED    | with "adopt" only: the turn under way, its handler and
which has said nothing yet and not failed    |            | its answer take over the new id; the transcript that it
                                             |            | had counts as superseded
is any other, a known id included            | NEW        | as above

"The same words" are texts that differ in case, punctuation and white space only (`protocol/words.py`).
"""

from __future__ import annotations

import json
from enum import Enum, auto
from typing import Any

from se_server.protocol.words import same_words
from se_server.types import TokenUsage

MAX_PAST_TURNS = 64
"""Turns that a ledger remembers. The API sends one again for some 45 s at most, in which there are few others."""


class TurnState(Enum):
    """The state of a turn. Text is let through in the first two states only.

    CUT_OFF: the server ended the turn, which took too long or had too much text. Its final was sent, and it counts as
    answered.
    """

    WAITING = auto()
    RUNNING = auto()
    ANSWERED = auto()
    SUPERSEDED = auto()
    CLOSED = auto()
    CUT_OFF = auto()


# By name: looking a member up on its class costs more than the rest of a transition.
WAITING, RUNNING, ANSWERED, SUPERSEDED, CLOSED, CUT_OFF = TurnState

MAX_KEPT_CHARACTERS = 1024 * 1024
"""Characters of its text that a turn keeps."""


class Verdict(Enum):
    """The relation of a transcript to the turns before it; see the table above."""

    NEW = auto()
    REPEATED = auto()
    ANSWERED = auto()
    SUPERSEDED = auto()
    ADOPTED = auto()


NEW = Verdict.NEW


class Turn:
    """One transcript and its answer, keyed by `event_id`.

    Attributes:
        event_id: the API's id of the turn, an integer so far; any other JSON value is kept as it came. None when the
            transcript carried none. It changes when the turn is adopted.
        event_id_json: the id as it stands in JSON, made once for all chunks.
        owner: the session it belongs to, compared by identity only.
        said: the text of the last user message; None when the transcript has none.
        started_at: when the transcript arrived, in monotonic seconds.
        open: whether its text may still go out. This is the fence: every write asks it.
        needs_final: whether the API still waits for an empty final.
        failed: whether its handler, or a stream of it, raised.
        chunks: how many texts were written, fillers included.
        fillers: how many of them the first-word guard wrote.
        bytes_left: how many bytes of UTF-8 the answer may still have; -1 without a limit.
        is_full: whether the answer was cut at that limit.
        usage: the tokens of the LLM, as far as the turn's streams told them; None before, and where none did.
        digest: stands for id and content in the ledger; 0 without an id.
        state: see `TurnState`.
    """

    def __init__(self, event_id: Any, started_at: float = 0.0, owner: object = None, said: str | None = None) -> None:
        event_id_json = str(event_id).encode() if type(event_id) is int else json.dumps(event_id).encode()
        self._start(event_id, event_id_json, started_at, owner, said)

    def _start(self, event_id: Any, event_id_json: bytes, started_at: float, owner: object, said: str | None) -> None:
        self.event_id = event_id
        self.event_id_json = event_id_json
        self.owner = owner
        self.said = said
        # Hashes of texts are keyed per process: nobody can make two contents that look the same.
        # An id that is an array or an object has no hash of its own.
        key = event_id_json if isinstance(event_id, (list, dict)) else event_id
        self.digest = 0 if event_id is None else hash(key) ^ hash(said)
        self.started_at = started_at
        self._first_chunk_at = 0.0
        self.open = True
        self.needs_final = True
        self.failed = False
        self.chunks = 0
        self.fillers = 0
        self._ended_at = 0.0
        self.bytes_left = -1
        self.is_full = False
        self.usage: TokenUsage | None = None
        self._texts: list[str] | None = None
        self._room = MAX_KEPT_CHARACTERS
        self.state: TurnState = WAITING

    @property
    def first_chunk_at(self) -> float | None:
        """When the first text was written, in monotonic seconds; None before."""
        return self._first_chunk_at if self.chunks else None

    def first_text_after_s(self) -> float:
        """Return the seconds from the transcript to the first text; 0 without text."""
        return self._first_chunk_at - self.started_at if self.chunks else 0.0

    @property
    def ended_at(self) -> float | None:
        """When the turn ended, in monotonic seconds; None before."""
        return None if self.open else self._ended_at

    @property
    def interrupted(self) -> bool:
        """Whether a newer transcript ended the turn."""
        return self.state is SUPERSEDED

    def note_texts(self, count: int, now: float) -> None:
        """Count texts that were written at `now`; a final must follow them."""
        self.needs_final = True
        if not self.chunks:
            self._first_chunk_at = now
        self.chunks += count

    def note_filler(self, text: str, now: float) -> None:
        """Count a text of the first-word guard, which is none of the handler's own."""
        self.keep(text)
        self.note_texts(1, now)
        self.fillers += 1

    def keep(self, text: str) -> None:
        """Keep a reference to a text that was written, for `text`."""
        room = self._room
        if room > 0:
            self._room = room - len(text)
            if self._room < 0:
                text = text[:room]
            if self._texts is None:
                self._texts = [text]
            else:
                self._texts.append(text)

    def fit(self, text: str) -> str:
        """Return what of `text` the limit leaves, cut between two characters; what is cut makes the turn full."""
        data = text.encode("utf-8", "surrogatepass")
        if len(data) <= self.bytes_left:
            self.bytes_left -= len(data)
            return text
        text = data[: self.bytes_left].decode("utf-8", "ignore")
        self.bytes_left = 0
        self.is_full = True
        return text

    @property
    def text(self) -> str:
        """The text sent so far, fillers included; of longer answers the first 1,048,576 characters."""
        return "" if self._texts is None else "".join(self._texts)

    @property
    def has_own_text(self) -> bool:
        """Whether text of the handler's own was sent."""
        return self.chunks > self.fillers

    @property
    def spoken_s(self) -> float:
        """Seconds from the first text to the end of the turn; 0 before its end, and without text."""
        return 0.0 if self.open or not self.chunks else self._ended_at - self._first_chunk_at

    def is_again(self, turn: Turn) -> bool:
        """Whether `turn` is of the same transcript."""
        return self.event_id is not None and self.event_id == turn.event_id and self.digest == turn.digest

    def may_become(self, turn: Turn) -> bool:
        """Whether the answer under way fits `turn`, too: nothing of it went out, and the same words were said."""
        if self.chunks or self.failed or self.event_id is None or turn.event_id is None:
            return False
        return self.said is not None and turn.said is not None and same_words(self.said, turn.said)

    def become(self, turn: Turn) -> None:
        """Take over the id and the content of `turn`."""
        self.event_id = turn.event_id
        self.event_id_json = turn.event_id_json
        self.digest = turn.digest
        self.said = turn.said
        self.needs_final = True  # at most the final of an empty answer went out, under the old id

    def end(self, state: TurnState, now: float = 0.0) -> None:
        """Let no more text through; `state` says why. A turn ends once: later calls change nothing."""
        if self.open:
            self.open = False
            self._ended_at = now
            self.state = state

    def __repr__(self) -> str:
        return f"<Turn {self.event_id} {self.state.name.lower()}>"


class TurnLedger:
    """Knows the turn under way, waiting or running, and what became of the last `MAX_PAST_TURNS`. One per session.

    Args:
        adopts: whether a turn under way may be adopted; else the same words again supersede it.
    """

    def __init__(self, adopts: bool = False) -> None:
        self.current: Turn | None = None
        self._adopts = adopts
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
        if turn.event_id is None:
            return NEW
        current = self.current
        if current is not None and current.is_again(turn):
            return Verdict.REPEATED
        # Integers grow: nearly every transcript is known to be new by its id alone. Other ids have no order.
        if type(turn.event_id) is not int or (self._highest_id is not None and turn.event_id <= self._highest_id):
            state = self._state_of(turn.digest)
            if state is SUPERSEDED:
                return Verdict.SUPERSEDED
            if state is not None:
                return Verdict.ANSWERED
        if self._adopts and current is not None and current.may_become(turn):
            return Verdict.ADOPTED
        return NEW

    def begin(self, turn: Turn) -> Turn | None:
        """Make `turn` the one under way and return the turn it superseded, if there was one."""
        superseded = self.current
        if superseded is not None:
            self.end(superseded, SUPERSEDED, turn.started_at)
        self.current = turn
        self._note_id(turn)
        return superseded

    def adopt(self, turn: Turn) -> None:
        """Let the turn under way go on as `turn`."""
        current = self.current
        assert current is not None
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
        for index in range(self._count):
            if self._digests[index] == digest:
                return SUPERSEDED if self._superseded[index] else ANSWERED
        return None
