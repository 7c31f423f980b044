# cython: binding=True
"""A turn: one transcript and its answer, with its times and its text. No clock: times are passed in."""

from __future__ import annotations

import json
from enum import Enum, auto
from typing import Any

from se_server.protocol.words import same_words
from se_server.telemetry._meters import Meters
from se_server.telemetry._ring import BEGAN, ENDED, EVENT, FILLER, TEXTS, Ring
from se_server.types import TokenUsage


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

# As C integers; `turn.pxd` declares them.
TEXTS_SENT, HANDLER_BEGAN, FIRST_EVENT, FILLER_SENT, TURN_ENDED = TEXTS, BEGAN, EVENT, FILLER, ENDED

MAX_KEPT_CHARACTERS = 1024 * 1024
"""Characters of its text that a turn keeps."""


class Turn:
    """One transcript and its answer, keyed by `event_id`.

    Attributes:
        event_id: the API's id of the turn, an integer so far; any other JSON value is kept as it came. None when the
            transcript carried none. It changes when the turn is adopted.
        event_id_json: the id as it stands in JSON, made once for all chunks.
        owner: the session it belongs to, compared by identity only.
        said: the text of the last user message; None when the transcript has none.
        started_at: when the transcript arrived, in monotonic seconds; of an utterance that grew, its first transcript.
        asked_at: when the API sent it, in monotonic seconds: later than `started_at` if the utterance grew, or another
            transcript was adopted.
        ends_with_agent: whether the history ends with a message that is not the user's.
        open: whether its text may still go out. This is the fence: every write asks it.
        needs_final: whether the API still waits for an empty final.
        finals: how many finals were sent under its id.
        final_at: when the last of them was sent, in monotonic seconds.
        held: whether a blank was sent before any text, by the server or the handler; it is no text of the answer.
        replays: how many times the answer was sent again because it was lost.
        is_retry: whether its handler runs for the second time because it failed the first time.
        failed: whether its handler, or a stream of it, raised.
        began_at: when its handler took its first step, in monotonic seconds; 0 before.
        first_event_at: when the first event of its first stream came; 0 before.
        longest_gap_s: the longest silence between two texts, in seconds; 0 before the second.
        ring, number: the ring of events of its worker, and the number of its conversation there; None without one.
        chunks: how many texts were written, fillers included.
        fillers: how many of them are first words or the empty answer's words, which the server wrote.
        has_failure_text: whether one of them is the failure text.
        bytes_left: how many bytes of UTF-8 the answer may still have; -1 without a limit.
        is_full: whether the answer was cut at that limit.
        winner: which of the streams of `first_of` was spoken: 0 is the primary, 1 the backup; None without `first_of`.
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
        self.started_at = self.asked_at = started_at
        self.ends_with_agent = False
        self._first_chunk_at = 0.0
        self.open = True
        self.needs_final = True
        self.finals = 0
        self.final_at = 0.0
        self.held = False
        self.replays = 0
        self.is_retry = False
        self.failed = False
        self.chunks = 0
        self.fillers = 0
        self.has_failure_text = False
        self.began_at = self.first_event_at = 0.0
        self._last_text_at = self.longest_gap_s = 0.0
        self.ring: Ring | None = None
        self.number = 0
        self._ended_at = 0.0
        self.bytes_left = -1
        self.is_full = False
        self.usage: TokenUsage | None = None
        self.winner: int | None = None
        self._texts: list[str] | None = None
        self._room = MAX_KEPT_CHARACTERS
        self.state: TurnState = WAITING

    @property
    def is_silence(self) -> bool:
        """Whether the user said nothing: the API sends such a transcript after a pause without words.

        Its last user message has no letter and no digit ("..." for example), or its history ends with the agent's
        message.
        """
        said = self.said
        return self.ends_with_agent or said is None or is_wordless(said)

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
    def interrupted_at(self) -> float:
        """When a newer transcript ended the turn after its handler had begun; 0 otherwise."""
        return self._ended_at if self.state is SUPERSEDED and self.began_at and self.began_at <= self._ended_at else 0.0

    @property
    def interrupted(self) -> bool:
        """Whether a newer transcript ended the turn."""
        return self.state is SUPERSEDED

    def note_texts(self, count: int, now: float) -> None:
        """Count texts that were written at `now`; a final must follow them."""
        self.needs_final = True
        if not self.chunks:
            self._first_chunk_at = now
        elif now - self._last_text_at > self.longest_gap_s:
            self.longest_gap_s = now - self._last_text_at
        self._last_text_at = now
        self.chunks += count
        if self.ring is not None:
            self.ring.note(TEXTS_SENT, self.number, count, now)

    def note_began(self, now: float) -> None:
        """Note that its handler takes its first step."""
        self.began_at = now
        if self.ring is not None:
            self.ring.note(HANDLER_BEGAN, self.number, 0, now)

    def note_event(self, now: float) -> None:
        """Note the first event of its first stream."""
        if not self.first_event_at:
            self.first_event_at = now
            if self.ring is not None:
                self.ring.note(FIRST_EVENT, self.number, 0, now)

    def note_final(self, now: float) -> None:
        """Note that a final was sent at `now`."""
        self.needs_final = False
        self.finals += 1
        self.final_at = now

    def count_in(self, meters: Meters, outcome: int) -> None:
        """Count the turn, which has ended, in the figures of metrics.

        Args:
            outcome: see `Meters.turn_ended`.
        """
        meters.turn_ended(outcome, self._ended_at - self.started_at, MAX_KEPT_CHARACTERS - self._room)
        if self.chunks:
            wait_s = provider_s = thinking_s = -1.0
            if self.began_at:
                wait_s = self.began_at - self.started_at
                if self.first_event_at:
                    provider_s = self.first_event_at - self.began_at
                    thinking_s = self._first_chunk_at - self.first_event_at
            meters.first_text(self.fillers > 0, self._first_chunk_at - self.started_at, wait_s, provider_s, thinking_s)
            if self.longest_gap_s:
                meters.gap(self.longest_gap_s)
        if self.usage is not None:
            meters.tokens(self.usage.input_tokens, self.usage.output_tokens)
        if self.ring is not None:
            if self.ring.has_shapes:
                self.ring.spoken(self.number, self._texts, MAX_KEPT_CHARACTERS - self._room, self._ended_at)
            self.ring.note(TURN_ENDED, self.number, outcome, self._ended_at)

    def note_filler(self, text: str, now: float) -> None:
        """Count a text of the first-word guard, which is none of the handler's own."""
        self.keep(text)
        if self.ring is not None:
            self.ring.note(FILLER_SENT, self.number, 0, now)
        self.note_texts(1, now)
        self.fillers += 1

    def leave_out_blanks(self) -> None:
        """Take the handler's texts back if all are blank: they are on the wire, where they hold, and are no answer."""
        served = self.fillers + self.has_failure_text  # these come before all texts of the handler
        texts = self._texts
        if not self.open or self.chunks == served or texts is None:
            return
        for index in range(served, len(texts)):
            text = texts[index]
            if not text[0].isspace() or not text.isspace():
                return
        for text in texts[served:]:
            self._room += len(text)
        del texts[served:]
        self.chunks = served
        self.held = True
        self.needs_final = not self.finals  # a final before the blanks counts again
        if not served:
            self.longest_gap_s = 0.0

    def kept_texts(self) -> int:
        """Return how many texts are kept; 0 if none of them is of the answer."""
        if self._texts is None or self.chunks == self.fillers + self.has_failure_text:
            return 0
        return len(self._texts)

    def has_words_since(self, index: int) -> bool:
        """Return whether a text from this one on is not blank; a text that is not kept counts as one."""
        texts = self._texts
        if texts is not None:
            for place in range(index, len(texts)):
                text = texts[place]
                if not text[0].isspace() or not text.isspace():
                    return True
        return self._room <= 0

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
    def kept_characters(self) -> int:
        """The length of `text`."""
        return MAX_KEPT_CHARACTERS - self._room if self._room >= 0 else MAX_KEPT_CHARACTERS

    @property
    def has_own_text(self) -> bool:
        """Whether text of the handler's own was sent."""
        return self.chunks > self.fillers

    @property
    def has_answer(self) -> bool:
        """Whether text of the answer was sent, and not only texts that stand for one."""
        return self.chunks > self.fillers + self.has_failure_text

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

    def outlasts_silence(self) -> bool:
        """Whether the answer under way goes on where a silence asks under a new id: nothing of it was ended."""
        return not self.finals and not self.is_silence

    def become(self, turn: Turn) -> None:
        """Take over the id and the content of `turn`; of one of silence only what tells it when it comes again."""
        self.event_id = turn.event_id
        self.event_id_json = turn.event_id_json
        self.digest = turn.digest
        if not turn.is_silence:  # an answer that goes on through a silence is still the one to the words before it
            self.said = turn.said
        self.asked_at = turn.started_at
        self.needs_final = True
        self.finals = 0
        self.held = False  # a blank went out under the old id

    def end(self, state: TurnState, now: float = 0.0) -> None:
        """Let no more text through; `state` says why. A turn ends once: later calls change nothing."""
        if self.open:
            self.open = False
            self._ended_at = now
            self.state = state

    def __repr__(self) -> str:
        return f"<Turn {self.event_id} {self.state.name.lower()}>"


def is_wordless(text: str) -> bool:
    """Return whether a text has no letter and no digit of any script."""
    for character in text:  # noqa: SIM110  compiled, a generator would cost a frame
        if character.isalnum():
            return False
    return True
