"""The parts of a simulated conversation: turns, events received, and actions to carry out."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Ask:
    """One event id of an utterance: its transcript and the answers that arrived under it.

    Attributes:
        event_id: the id.
        wording: the user's words as this transcript spells them.
        message: the transcript as sent; a repetition sends the same text.
        sent_at: the time of each transmission, in seconds; several when the API asked again.
        answers: the text of each answer under the id, one for each final; the last answer may still lack its final.
        responded_at: when the first `agent_response` arrived, even an empty one; None before.
        final_at: when an answer was first marked complete; None before.
        lost_at: when the API last lost an answer under the id, or counted one as a failed try; None before.
    """

    event_id: int
    wording: str
    message: str
    sent_at: list[float]
    answers: list[str] = field(default_factory=lambda: [""])
    responded_at: float | None = None
    final_at: float | None = None
    lost_at: float | None = None

    @property
    def text(self) -> str:
        """All text that arrived under the id."""
        return "".join(self.answers)

    @property
    def is_repeated(self) -> bool:
        """Whether a question that was asked more than once was answered more than once."""
        if len(self.sent_at) < 2 or self.final_at is None:
            return False
        given = [answer for answer in self.answers if answer]
        return len(set(given)) < len(given) or (len(given) > 1 and any(at >= self.final_at for at in self.sent_at[1:]))


@dataclass(frozen=True)
class Unheard:
    """A text that the caller did not hear.

    Attributes:
        event_id: the id of the text's message.
        text: the text.
        is_outdated: whether the server knew that the id was outdated: it had begun to answer a newer id, or had
            completed this one. Otherwise the text may have crossed the newer transcript on the wire.
    """

    event_id: int
    text: str
    is_outdated: bool


@dataclass
class CallTurn:
    """One utterance of the user and the answer that the caller heard.

    Attributes:
        said: the user's words.
        said_at: when the first transcript was sent, in seconds.
        asks: the event ids of the utterance, oldest first; only the answer under the last one is heard.
        chunks: the texts heard, in order of arrival.
        first_chunk_at: when the first text arrived; None while there is silence.
        final_at: when the answer was first marked complete; None before.
        interrupted_at: when the user spoke, a side hung up, or the connection broke before the answer was complete.
        interrupted_by: "user", "api" or "server"; empty for an answer that was not interrupted.
        unheard: the texts that arrived while this was the newest turn and were not heard.
        is_heard_twice: whether the caller heard the answer again because the question was sent again.
        is_habit: whether a habit of the API made the user interrupt.
        is_silence: whether the user said nothing: the API sent the transcript after a pause without words.
        is_agent_last: whether the transcript of that pause has no user text, and its history ends with the agent's.
        loses_answer: whether the API is going to lose the next complete answer.
        after_final: the text that came after the first final and was not heard.
    """

    said: str
    said_at: float
    asks: list[Ask] = field(default_factory=list)
    chunks: list[str] = field(default_factory=list)
    first_chunk_at: float | None = None
    final_at: float | None = None
    interrupted_at: float | None = None
    interrupted_by: str = ""
    unheard: list[Unheard] = field(default_factory=list)
    is_heard_twice: bool = False
    is_habit: bool = False
    is_silence: bool = False
    is_agent_last: bool = False
    loses_answer: bool = False
    after_final: str = ""

    @property
    def event_id(self) -> int:
        """The newest event id, the only one whose answer is heard."""
        return self.asks[-1].event_id

    @property
    def heard(self) -> str:
        """The part of the answer that the caller heard."""
        return "".join(self.chunks)

    @property
    def is_final(self) -> bool:
        """Whether the answer was marked complete."""
        return self.final_at is not None

    @property
    def is_interrupted(self) -> bool:
        """Whether the answer was cut off before it was complete."""
        return self.interrupted_at is not None

    @property
    def is_answering(self) -> bool:
        """Whether more of the answer is expected."""
        return self.final_at is None and self.interrupted_at is None


# --- events ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Heard:
    """A chunk of the current answer was accepted: the caller hears it.

    Attributes:
        turn: the turn that it answers.
        text: the chunk; may be empty when `is_final` is set.
        is_final: whether it completes the answer.
    """

    turn: CallTurn
    text: str
    is_final: bool


@dataclass(frozen=True)
class Discarded:
    """A chunk that the caller does not hear because its turn is over.

    Attributes:
        event_id: the id of the chunk's message.
        text: the chunk.
        reason: the reason why it is discarded.
    """

    event_id: int
    text: str
    reason: str


@dataclass(frozen=True)
class Pong:
    """A ping was answered."""


@dataclass(frozen=True)
class Violation:
    """A message that breaks the protocol.

    Attributes:
        reason: the rule that it breaks.
        raw: the message as received.
    """

    reason: str
    raw: str | bytes


@dataclass(frozen=True)
class Said:
    """The user spoke. The event is not a message of the server, but a driver reports it.

    Attributes:
        turn: the new turn.
        interrupts: whether it cut off the previous answer.
    """

    turn: CallTurn
    interrupts: bool


Event = Heard | Discarded | Pong | Violation
"""The meaning of a received message."""


# --- actions --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Send:
    """Send a message.

    Attributes:
        message: str for a text message, bytes for a binary one.
        is_joined: whether the next message leaves in the same packet, where the link has packets.
        why: the habit behind the message, as a sentence; empty for a message of a polite API.
    """

    message: str | bytes
    why: str = ""
    is_joined: bool = False


@dataclass(frozen=True)
class Close:
    """Begin the WebSocket's close handshake once all earlier messages are sent."""

    code: int = 1000
    why: str = ""


@dataclass(frozen=True)
class Drop:
    """Drop the connection without a close handshake."""

    why: str = ""


@dataclass(frozen=True)
class Reset:
    """Reset the TCP connection."""

    why: str = ""


@dataclass(frozen=True)
class Reconnect:
    """Connect again after `after_s` seconds, then call the model's `connected`."""

    after_s: float
    why: str = ""


Action = Send | Close | Drop | Reset | Reconnect
"""An action that the model asks a driver to carry out, in list order."""
