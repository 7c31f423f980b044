"""What a call consists of: its turns, what a received message meant, and what a driver is to do."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Ask:
    """One event id of an utterance: its transcript, and what came back under it.

    Attributes:
        event_id: the id.
        wording: the user's words as this transcript has them.
        message: the transcript, as it is sent, also the next times.
        sent_at: when it was sent, in seconds; more than once when the API asked again.
        answers: the texts that came under the id, one for each final; the last one may lack its final still.
        responded_at: when the first `agent_response` came, an empty one too; None before.
        final_at: when an answer was first marked complete; None before.
    """

    event_id: int
    wording: str
    message: str
    sent_at: list[float]
    answers: list[str] = field(default_factory=lambda: [""])
    responded_at: float | None = None
    final_at: float | None = None

    @property
    def text(self) -> str:
        """Everything that came under the id."""
        return "".join(self.answers)

    @property
    def is_repeated(self) -> bool:
        """Whether the question, asked more than once, was answered more than once."""
        if len(self.sent_at) < 2 or self.final_at is None:
            return False
        given = [answer for answer in self.answers if answer]
        return len(set(given)) < len(given) or (len(given) > 1 and any(at >= self.final_at for at in self.sent_at[1:]))


@dataclass(frozen=True)
class Unheard:
    """A text that the caller never heard.

    Attributes:
        event_id: the id it came under.
        text: what it said.
        is_outdated: whether the server knew better: it had begun to answer a newer id, or had completed this one.
            Otherwise the text may have met the newer transcript on its way.
    """

    event_id: int
    text: str
    is_outdated: bool


@dataclass
class CallTurn:
    """One thing the user said, and what the caller would have heard in answer.

    Attributes:
        said: the user's words.
        said_at: when the first transcript went out, in seconds.
        asks: the ids under which it went out, oldest first; only the answer under the last one is heard.
        chunks: the texts heard, in the order they came.
        first_chunk_at: when the first text came; None as long as there was only silence.
        final_at: when the answer was first marked complete; None before.
        interrupted_at: when the user spoke, hung up, or the connection broke before the answer was complete.
        interrupted_by: who did that: "user", "api" or "server"; empty when nobody did.
        unheard: the texts that came while it was the newest turn, and were not heard.
        is_heard_twice: whether the caller heard the answer again, because the question had come again.
        is_habit: whether it is an interruption by habit, which nobody asked for.
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

    @property
    def event_id(self) -> int:
        """The newest id, the only one whose answer is heard."""
        return self.asks[-1].event_id

    @property
    def heard(self) -> str:
        """What the caller heard of the answer."""
        return "".join(self.chunks)

    @property
    def is_final(self) -> bool:
        """Whether the answer was marked complete."""
        return self.final_at is not None

    @property
    def is_interrupted(self) -> bool:
        """Whether somebody cut the answer off before it was complete."""
        return self.interrupted_at is not None

    @property
    def is_answering(self) -> bool:
        """Whether more of the answer is to come."""
        return self.final_at is None and self.interrupted_at is None


# --- what a message meant -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Heard:
    """A chunk of the running turn's answer was accepted: the caller hears it.

    Attributes:
        turn: the turn it answers.
        text: the chunk; may be empty when `is_final`.
        is_final: whether it completes the answer.
    """

    turn: CallTurn
    text: str
    is_final: bool


@dataclass(frozen=True)
class Discarded:
    """A chunk that the caller never hears: its turn is over.

    Attributes:
        event_id: the id it came under.
        text: what it said.
        reason: why nobody hears it.
    """

    event_id: int
    text: str
    reason: str


@dataclass(frozen=True)
class Pong:
    """A ping was answered."""


@dataclass(frozen=True)
class Violation:
    """A message that the protocol does not allow.

    Attributes:
        reason: what is wrong with it.
        raw: the message, as it came.
    """

    reason: str
    raw: str | bytes


@dataclass(frozen=True)
class Said:
    """The user spoke. No message of the server, but a part of what a driver tells.

    Attributes:
        turn: what was said.
        interrupts: whether it cut the answer before it off.
    """

    turn: CallTurn
    interrupts: bool


Event = Heard | Discarded | Pong | Violation
"""What a received message meant."""


# --- what a driver is to do -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Send:
    """Send a message.

    Attributes:
        message: text for a text message, bytes for a binary one.
        why: the habit that made the API send it, for people; empty for what a polite API sends.
    """

    message: str | bytes
    why: str = ""


@dataclass(frozen=True)
class Close:
    """Begin the WebSocket's close handshake, after what was sent."""

    code: int = 1000
    why: str = ""


@dataclass(frozen=True)
class Drop:
    """End the connection without a word."""

    why: str = ""


@dataclass(frozen=True)
class Reset:
    """Reset the TCP connection."""

    why: str = ""


@dataclass(frozen=True)
class Reconnect:
    """Connect again after `after_s` seconds, and call the model's `connected`."""

    after_s: float
    why: str = ""


Action = Send | Close | Drop | Reset | Reconnect
"""What the model wants a driver to do, in the order of the list it comes in."""
