"""Verdicts on a conversation: the answer heard in each turn, or the reason for silence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from se_server.simulator.calls import CallTurn
from se_server.simulator.model import GENERATION_FAILED, ApiModel


class Outcome(str, Enum):
    """The outcome of a turn for the caller."""

    HEARD = "heard"  # the whole answer
    INTERRUPTED = "interrupted"  # a part of it, then the user spoke
    SUPERSEDED = "superseded"  # no word; the user spoke again before the first one
    STAYED_SILENT = "stayed silent"  # an answer without words to a pause without words
    HUNG_UP = "hung up"  # the API's side ended the conversation or the connection before the answer was complete
    CUT_OFF = "cut off"  # the server's side ended it
    SILENT = "silent"
    WAITING = "waiting"  # the answer is not complete yet


@dataclass(frozen=True)
class Verdict:
    """The verdict on one turn.

    Attributes:
        said: the user's words.
        event_ids: the event ids of the utterance.
        outcome: the outcome.
        reason: the outcome as one sentence.
        heard: the words heard.
        event_id: the id of the words heard; None when there were none.
        first_word_s: the time from the utterance to the first word, in seconds; None when there was none.
        complete_s: the time from the utterance to the end of the answer, in seconds; None for an incomplete answer.
        tries: the number of transcripts sent, under all ids.
        is_heard_twice: whether the caller heard an answer again because the API asked again.
        wrong_ids: (id, text) of texts whose id the server knew to be outdated.
        late_chars: the number of characters that crossed the newer transcript on the wire, which is not a fault.
        is_billed_twice: whether the utterance was answered more than once, under several ids or after a repetition.
        cut_chars: the number of characters that came after the first final and were not heard.
    """

    said: str
    event_ids: tuple[int, ...]
    outcome: Outcome
    reason: str
    heard: str
    event_id: int | None
    first_word_s: float | None
    complete_s: float | None
    tries: int
    is_heard_twice: bool
    wrong_ids: tuple[tuple[int, str], ...]
    late_chars: int
    is_billed_twice: bool
    cut_chars: int = 0

    @property
    def is_ok(self) -> bool:
        """Whether the server did its part: the answer was heard once, or not wanted, and nothing was wrong."""
        failed = self.outcome in (Outcome.SILENT, Outcome.CUT_OFF, Outcome.WAITING)
        return not (failed or self.is_heard_twice or self.wrong_ids or self.cut_chars)


@dataclass(frozen=True)
class Summary:
    """The verdict on a conversation.

    Attributes:
        turns: a verdict for each turn.
        discarded: the number of chunks that were not heard.
        violations: the number of messages that broke the protocol.
        end_reason: the reason why the API ended the conversation on its own; empty when it did not.
    """

    turns: tuple[Verdict, ...]
    discarded: int
    violations: int
    end_reason: str

    @property
    def is_ok(self) -> bool:
        """Whether every turn is fine and every message obeyed the protocol."""
        return not self.violations and all(turn.is_ok for turn in self.turns)

    @property
    def problems(self) -> list[str]:
        """One sentence for each turn that is not fine."""
        found = [f"{turn.said!r}: {turn.reason}" for turn in self.turns if not turn.is_ok]
        return [*found, f"{self.violations} messages broke the protocol"] if self.violations else found

    def __str__(self) -> str:
        counts = {outcome: sum(turn.outcome is outcome for turn in self.turns) for outcome in Outcome}
        parts = [f"{count} {outcome.value}" for outcome, count in counts.items() if count]
        noun = "turn" if len(self.turns) == 1 else "turns"
        text = f"{len(self.turns)} {noun}" + (f": {', '.join(parts)}" if parts else "")
        for count, what in (
            (sum(turn.is_billed_twice for turn in self.turns), "answered more than once"),
            (self.discarded, "chunks discarded"),
            (self.violations, "messages against the protocol"),
        ):
            text += f", {count} {what}" if count else ""
        return text


@dataclass(frozen=True)
class Reply:
    """The answer to one utterance, as the user heard it.

    Attributes:
        text: the words heard.
        chunks: the same words in the chunks that arrived.
        event_id: the turn's newest id.
        is_interrupted: whether the user spoke before the answer was complete.
        first_word_s: the silence before the first word, in seconds; None when there was no word.
        duration_s: the time from the utterance to the end of the answer, in seconds.
        verdict: the verdict on the turn.
    """

    text: str
    chunks: tuple[str, ...]
    event_id: int
    is_interrupted: bool
    first_word_s: float | None
    duration_s: float
    verdict: Verdict

    @classmethod
    def of(cls, turn: CallTurn, verdict: Verdict) -> Reply:
        """Summarise a turn that is over."""
        end = turn.final_at if turn.final_at is not None else turn.interrupted_at
        return cls(
            text=turn.heard,
            chunks=tuple(turn.chunks),
            event_id=turn.event_id,
            is_interrupted=turn.is_interrupted,
            first_word_s=None if turn.first_chunk_at is None else turn.first_chunk_at - turn.said_at,
            duration_s=0.0 if end is None else end - turn.said_at,
            verdict=verdict,
        )


def judge(turn: CallTurn, model: ApiModel, *, now: float, ended: str | None = None) -> Verdict:
    """Judge one turn.

    Args:
        turn: a turn of the model.
        model: the conversation.
        now: the time, in seconds.
        ended: the end of the connection in words; None while it is open.
    """
    wrong: dict[int, str] = {}
    for text in turn.unheard:
        if text.is_outdated:
            wrong[text.event_id] = wrong.get(text.event_id, "") + text.text
    repeated = any(ask.is_repeated for ask in turn.asks)
    is_billed_twice = repeated or sum(bool(ask.text) for ask in turn.asks) > 1
    outcome, reason = _outcome(turn, model, now, ended)
    if turn.is_heard_twice:
        reason += "; it was heard twice, because the question was sent again"
    elif is_billed_twice:
        reason += "; the same words were answered more than once"
    if wrong and outcome is not Outcome.SILENT:
        reason += f"; text came under id {', '.join(map(str, wrong))}, which was outdated"
    if turn.after_final:
        reason += f"; {len(turn.after_final)} characters came after the final, and were not heard"
    return Verdict(
        said=turn.said,
        event_ids=tuple(ask.event_id for ask in turn.asks),
        outcome=outcome,
        reason=reason,
        heard=turn.heard,
        event_id=turn.event_id if turn.chunks else None,
        first_word_s=None if turn.first_chunk_at is None else turn.first_chunk_at - turn.said_at,
        complete_s=None if turn.final_at is None else turn.final_at - turn.said_at,
        tries=sum(len(ask.sent_at) for ask in turn.asks),
        is_heard_twice=turn.is_heard_twice,
        wrong_ids=tuple(wrong.items()),
        late_chars=sum(len(text.text) for text in turn.unheard if not text.is_outdated),
        is_billed_twice=is_billed_twice,
        cut_chars=len(turn.after_final),
    )


def sum_up(verdicts: Sequence[Verdict], model: ApiModel) -> Summary:
    """Combine the verdicts on a conversation's turns."""
    return Summary(tuple(verdicts), model.discarded, model.violations, model.end_reason)


def span(seconds: float) -> str:
    """Format a duration for people: milliseconds below one second."""
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"


def _outcome(turn: CallTurn, model: ApiModel, now: float, ended: str | None) -> tuple[Outcome, str]:
    until = turn.interrupted_at or turn.final_at or now
    waited = span(until - turn.said_at)
    tries = len(turn.asks[-1].sent_at)
    asked = f", asked {tries} times" if tries > 1 else ""
    under = sorted({text.event_id for text in turn.unheard if text.event_id != turn.event_id and text.is_outdated})
    if turn.chunks and turn.is_final:
        assert turn.first_chunk_at is not None
        return Outcome.HEARD, f"heard after {span(turn.first_chunk_at - turn.said_at)}, under id {turn.event_id}{asked}"
    if turn.is_final and turn.is_silence:
        return Outcome.STAYED_SILENT, f"the user said nothing, and the answer had no words, after {waited}"
    if turn.is_final:
        return Outcome.SILENT, f"the answer was empty, after {waited}{asked}"
    if turn.interrupted_by == "user":
        if turn.chunks:
            return Outcome.INTERRUPTED, f"the user interrupted the answer, after {len(turn.heard)} characters"
        return Outcome.SUPERSEDED, f"the user spoke again before the first word, after {waited}"
    if turn.interrupted_by == "api" and model.end_reason != GENERATION_FAILED:
        return Outcome.HUNG_UP, f"the API's side ended the conversation or the connection, after {waited}"
    if turn.chunks and turn.interrupted_by:
        return Outcome.CUT_OFF, f"the answer broke off: {ended or 'the connection was lost'}"
    if under:
        return Outcome.SILENT, f"the answer came under id {', '.join(map(str, under))}, which was outdated"
    if turn.interrupted_by == "server":
        return Outcome.SILENT, f"no answer came: after {waited} {ended or 'the connection was lost'}"
    if turn.interrupted_by:
        return Outcome.SILENT, f"no answer came within {waited}{asked}: the API ended the conversation"
    what = "the answer is not complete" if turn.chunks else "no answer came"
    return Outcome.WAITING, f"{what} within {waited}{asked}"
