"""Track the server's responses to each turn, and whether the caller hears them. Sans-IO."""

from __future__ import annotations

from se_server.simulator import messages
from se_server.simulator.calls import Ask, CallTurn, Discarded, Event, Heard, Pong, Unheard, Violation
from se_server.simulator.habits import FailedAnswers, Habits, Moment

_BAD_ENTRY = {"role": "user", "content": None}


class ResponseTracker:
    """The turns of one conversation and the answers received so far.

    Args:
        habits: the API's habits.

    Attributes:
        habits: the API's habits from now on.
        turns: all turns, oldest first.
        discarded: the number of chunks that arrived too late to be heard.
        violations: the number of messages that broke the protocol.
        failed_answers: the number of complete answers that the API counted as failed.
        pings_unanswered: the number of pings without a pong.
        is_closed: whether the API or the server has ended the conversation.
        wordings_to_come: the transcripts still to be sent for the user's current pause.
        last_traffic: the time of the last traffic on the connection, in seconds.
        first_message: the words with which the API began on the agent's behalf; the history begins with them.
    """

    def __init__(self, habits: Habits) -> None:
        self.habits = habits
        self.turns: list[CallTurn] = []
        self.discarded = 0
        self.violations = 0
        self.failed_answers = 0
        self.pings_unanswered = 0
        self.is_closed = False
        self.wordings_to_come: list[str] = []
        self.last_traffic = 0.0
        self.first_message = ""
        self._asks: dict[int, tuple[CallTurn, Ask]] = {}
        self._bad_entries: set[int] = set()  # indices of the turns that follow a bad entry in the history

    @property
    def turn(self) -> CallTurn | None:
        """The newest turn, the only one whose answer is heard; None before the user spoke."""
        return self.turns[-1] if self.turns else None

    @property
    def is_answering(self) -> bool:
        """Whether more of the newest turn's answer, or another event id of that turn, is expected."""
        turn = self.turn
        return turn is not None and (turn.is_answering or (bool(self.wordings_to_come) and not turn.is_interrupted))

    @property
    def history(self) -> list[dict[str, str]]:
        """The history as the API knows it: the heard part of each answer, without entries for unheard ones."""
        return [entry for entry in self._entries() if entry is not _BAD_ENTRY]  # type: ignore[misc]

    def cut_short(self, heard_chars: int, *, now: float) -> None:
        """Shorten the newest answer to the part that was spoken before the user interrupted it, complete or not."""
        turn = self.turn
        if turn is None or turn.is_interrupted or heard_chars >= len(turn.heard):
            return
        heard = turn.heard[:heard_chars]
        turn.chunks[:] = [heard] if heard else []
        turn.final_at, turn.interrupted_at, turn.interrupted_by = None, now, "user"

    # --- messages of the server -------------------------------------------------------------------------------------

    def receive(self, raw: str | bytes, *, now: float) -> Event:
        """Take one message of the server.

        Args:
            raw: the message as received; bytes must be UTF-8.
            now: the time, in seconds.

        Returns:
            The meaning of the message. A message that breaks the protocol gives a `Violation`, never an exception.
        """
        self.last_traffic = now
        message = messages.decode(raw)
        if isinstance(message, str):
            return self._violation(message, raw)
        if isinstance(message, messages.PongMessage):
            if not self.pings_unanswered:
                return self._violation("a pong that answers no ping", raw)
            self.pings_unanswered -= 1
            return Pong()
        if message.event_id not in self._asks:
            return self._violation(f"agent_response with event_id {message.event_id}, which no transcript had", raw)
        return self._agent_response(message, now)

    def _agent_response(self, message: messages.AgentResponse, now: float) -> Event:
        _, ask = self._asks[message.event_id]
        current = self.turns[-1]
        reason = ""
        if self.is_closed:
            reason = "the conversation was closed"
        elif ask is not current.asks[-1]:
            reason = "outdated event_id"
        elif current.is_interrupted:
            reason = "the answer was cut off with its connection"
        elif current.loses_answer and self.habits.resend_after_s is not None:
            return self._lose(current, ask, message, now)
        ask.answers[-1] += message.content
        if reason or ask.final_at is not None or self._counts(ask.answers[-1]):
            ask.responded_at = now if ask.responded_at is None else ask.responded_at
        elif message.is_final:
            ask.answers[-1] = ""
            self.failed_answers += 1
            return Discarded(message.event_id, message.content, "an answer without text counts as a failed try")
        if reason:
            self.discarded += 1
            if message.content:
                current.unheard.append(Unheard(ask.event_id, message.content, self._knew_better(ask)))
        elif current.final_at is not None and message.content and self.habits.discards_after_final:
            reason = "text after the final of its turn"
            self.discarded += 1
            current.after_final += "" if self._knew_better(ask) else message.content
        elif message.content:
            self._hear(current, message.content, now)
        if message.is_final:
            ask.final_at = now if ask.final_at is None else ask.final_at
            if ask.answers[-1]:
                ask.answers.append("")
        if reason:
            return Discarded(message.event_id, message.content, reason)
        current.is_heard_twice = current.is_heard_twice or ask.is_repeated
        # A handler may answer twice in one turn, each time with a final. The first final completes the turn; by default
        # the caller hears the second answer nevertheless.
        if message.is_final and current.final_at is None:
            current.final_at = now
            if not self.wordings_to_come:
                self._reached(Moment.AFTER_ANSWER, current, now)
        elif current.is_answering and message.content:
            self._heard_more(current, now)
        return Heard(current, message.content, message.is_final)

    def _lose(self, turn: CallTurn, ask: Ask, message: messages.AgentResponse, now: float) -> Discarded:
        """Lose a message of an answer on the API's side. Once the answer is complete, the API waits for another."""
        ask.responded_at = now if ask.responded_at is None else ask.responded_at
        if message.is_final:
            turn.loses_answer = False
            ask.responded_at, ask.lost_at = None, now
            self._await_answer(turn, ask, now)
        return Discarded(message.event_id, message.content, "the answer was lost on the API's side")

    def _counts(self, text: str) -> bool:
        """Return whether the API takes a text, as far as it came, as an answer."""
        failed = self.habits.failed_answers
        if failed is FailedAnswers.WORDLESS:
            return any(character.isalnum() for character in text)
        return bool(text) or failed is FailedAnswers.NONE

    def _hear(self, turn: CallTurn, text: str, now: float) -> None:
        if not turn.chunks and text.isspace():
            return  # nobody hears a blank before the first word
        turn.chunks.append(text)
        if turn.first_chunk_at is None:
            turn.first_chunk_at = now
            self._reached(Moment.MID_ANSWER, turn, now)

    def _knew_better(self, ask: Ask) -> bool:
        """Return whether the server knew, when it sent a text under this id, that the text would not be heard."""
        newest = self.turns[-1].asks[-1]
        if newest is not ask and newest.responded_at is not None:
            return True
        return ask.final_at is not None and len(ask.sent_at) > 1 and ask.sent_at[-1] >= ask.final_at

    def _violation(self, reason: str, raw: str | bytes) -> Violation:
        self.violations += 1
        return Violation(reason, raw)

    # --- parts ------------------------------------------------------------------------------------------------------

    def _reached(self, moment: Moment, turn: CallTurn, now: float) -> None:
        """Called when a turn reaches a moment at which habits may act."""
        raise NotImplementedError

    def _await_answer(self, turn: CallTurn, ask: Ask, now: float) -> None:
        """Called when the API begins to wait for an answer under an id, or waits for it again."""
        raise NotImplementedError

    def _heard_more(self, turn: CallTurn, now: float) -> None:
        """Called when the caller heard more of an incomplete answer."""
        raise NotImplementedError

    def _begin_again(self, turn: CallTurn) -> None:
        """Discard the answer under an older id of the pause: the caller hears the answer under the newest id."""
        if turn.chunks:
            turn.unheard.append(Unheard(turn.event_id, turn.heard, is_outdated=False))
        turn.chunks.clear()
        turn.first_chunk_at = turn.final_at = None

    def _entries(self) -> list[object]:
        entries: list[object] = []
        if self.first_message:
            entries.append({"role": "agent", "content": self.first_message})
        for index, turn in enumerate(self.turns):
            if index in self._bad_entries:
                entries.append(_BAD_ENTRY)
            if not turn.is_agent_last:
                entries.append({"role": "user", "content": turn.asks[-1].wording if turn.asks else turn.said})
            if turn.chunks:
                entries.append({"role": "agent", "content": turn.heard})
        return entries

    def _cut_off(self, now: float, by: str) -> None:
        if self.turn is not None and self.turn.is_answering:
            self.turn.interrupted_at, self.turn.interrupted_by = now, by
        self.wordings_to_come.clear()
