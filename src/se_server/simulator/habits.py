"""The habits of the live API beyond asking and listening, each with a switch.

The values come from field reports. `Habits()` is a polite API without any habit, `Habits.live()` has the habits that
the live API always shows, and `Habits.hostile(seed)` shows all habits at random; equal seeds give equal conversations.
"""

from __future__ import annotations

import dataclasses
import random
from dataclasses import dataclass
from enum import Enum
from typing import Any

CASCADE_TIMEOUT_S = 4.0  # the engine setting's default
MAX_TRIES = 3
IDLE_DROP_S = 60.0
ONE_PAUSE_S = 3.0  # ids 26, 43 and 45 arrived for one pause within this time


class Moment(str, Enum):
    """A moment within a turn."""

    BEFORE_ANSWER = "before_answer"
    MID_ANSWER = "mid_answer"
    AFTER_ANSWER = "after_answer"
    ANY = "any"


class Wording(str, Enum):
    """The way in which the transcripts of one pause differ."""

    PUNCTUATION = "punctuation"
    GROWING = "growing"
    ANY = "any"


class Malformed(str, Enum):
    """A malformed message. A server is expected to continue the conversation after each."""

    NO_JSON = "no_json"
    NOT_UTF8 = "not_utf8"  # in a binary message: a bad TEXT frame has to end the connection (RFC 6455, 8.1)
    BAD_ENTRY = "bad_entry"  # in the history, from that turn on
    UNKNOWN_TYPE = "unknown_type"


class FailedAnswers(str, Enum):
    """The complete answers that count as a failed try: the API asks again, and gives up after `max_tries`."""

    NONE = "none"
    EMPTY = "empty"  # without any text
    WORDLESS = "wordless"  # without a letter or a digit, such as a blank


class Silence(str, Enum):
    """The transcript that the API sends after a pause without words."""

    DOTS = "dots"  # the last user text is "..."
    ELLIPSIS = "ellipsis"  # it is "\u2026"
    DOT = "dot"  # it is "."
    AGENT_LAST = "agent_last"  # there is no user text: the history ends with the agent's message
    ANY = "any"


class Goodbye(str, Enum):
    """The way in which the caller hangs up."""

    CLOSE = "close"  # a `close` message and the close handshake
    DROP = "drop"  # a dropped connection, as browsers often show it
    LAST_WORDS = "last_words"  # a last transcript and the `close` message in one packet
    ANY = "any"


@dataclass(frozen=True, kw_only=True)
class Habits:
    """The habits of a simulated API; the defaults are polite.

    Attributes:
        resend_after_s: repeat an unanswered transcript at this interval, in seconds; None never does.
        max_tries: end the conversation after this many unanswered tries; requires `resend_after_s`.
        extra_ids: the number of further event ids for one pause of the user: 0, 1 or 2.
        extra_id_after_s: the delay from one id to the next, in seconds.
        wording: the way in which the transcripts of one pause differ.
        resend_older: the moment of a turn at which the previous transcript is repeated under its own, older id.
        interrupt_after_s: the user interrupts an answer this many seconds after the question.
        interrupt_after_chars: the user interrupts an answer after this many characters.
        interruption: the words of the interruption.
        idle_drop_s: drop a connection after this many seconds without traffic in either direction.
        reset: the moment of a turn at which the TCP connection is reset.
        reconnect: whether the conversation continues over a new connection after `reset`; without `reset` the
            connection is dropped after an answer.
        reconnect_after_s: the time until the new connection, in seconds.
        failed_answers: the answers that count as a failed try, as if nothing had come.
        loses_answer: lose the first answer of a turn on the API's side: the caller hears nothing, and the transcript
            is repeated; requires `resend_after_s`.
        discards_after_final: whether text after the first final of a turn is not heard.
        silence: the transcript that follows an answer when the user stays silent; None sends none.
        silence_after_s: the length of that pause, in seconds.
        growing_parts: the number of shorter transcripts that come before the whole utterance: 0 to 5.
        growing_within_s: the time within which they come, in seconds.
        drop_error: the text of an `error` message before the API drops or resets a connection; empty sends none.
        goodbye: the way in which the caller hangs up.
        malformed: the malformed messages that are sent before a transcript.
        fragment_bytes: send messages in WebSocket fragments of at most this size (real sockets only).
        segment_bytes: send frames in TCP segments of at most this size (real sockets only).
        slow_read_bytes_s: read at most this many bytes a second (real sockets only).
        chance: the probability that a habit shows in a turn; 1 shows it in every turn. Below 1, the seconds and counts
            above are upper bounds of random values.
        seed: the seed of the random decisions, together with the conversation id.

    Raises:
        ValueError: a value is out of its range; the message names it.
    """

    resend_after_s: float | None = None
    max_tries: int = MAX_TRIES
    extra_ids: int = 0
    extra_id_after_s: float = 0.5
    wording: Wording = Wording.PUNCTUATION
    resend_older: Moment | None = None
    interrupt_after_s: float | None = None
    interrupt_after_chars: int | None = None
    interruption: str = "Wait a moment."
    idle_drop_s: float | None = None
    reset: Moment | None = None
    reconnect: bool = False
    reconnect_after_s: float = 0.1
    failed_answers: FailedAnswers = FailedAnswers.NONE
    loses_answer: bool = False
    discards_after_final: bool = False
    silence: Silence | None = None
    silence_after_s: float = 1.0
    growing_parts: int = 0
    growing_within_s: float = 1.0
    drop_error: str = ""
    goodbye: Goodbye = Goodbye.CLOSE
    malformed: tuple[Malformed, ...] = ()
    fragment_bytes: int | None = None
    segment_bytes: int | None = None
    slow_read_bytes_s: int | None = None
    chance: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("resend_after_s", "interrupt_after_s", "interrupt_after_chars", "idle_drop_s"):
            self._check(name, lambda value: value is None or value > 0, "a number above 0")
        for name in ("fragment_bytes", "segment_bytes", "slow_read_bytes_s"):
            self._check(name, lambda value: value is None or (value == int(value) and value > 0), "a whole number")
        self._check("max_tries", lambda value: value == int(value) and value > 0, "a whole number above 0")
        self._check("extra_ids", lambda value: value in (0, 1, 2), "0, 1 or 2")
        self._check("extra_id_after_s", lambda value: 0 < value <= ONE_PAUSE_S / 2, f"at most {ONE_PAUSE_S / 2:g}")
        self._check("reconnect_after_s", lambda value: value >= 0, "a number from 0 on")
        self._check("chance", lambda value: 0 <= value <= 1, "a number from 0 to 1")
        self._check("seed", lambda value: value == int(value), "a whole number")
        self._check("interruption", lambda value: bool(value.strip()), "a text that is not blank")
        self._check("silence_after_s", lambda value: value > 0, "a number above 0")
        self._check("growing_parts", lambda value: value in range(6), "a whole number from 0 to 5")
        self._check("growing_within_s", lambda value: 0 < value <= ONE_PAUSE_S, f"at most {ONE_PAUSE_S:g}")
        self._check("drop_error", lambda value: isinstance(value, str), "a text")
        for name in ("reconnect", "loses_answer", "discards_after_final"):
            self._check(name, lambda value: isinstance(value, bool), "true or false")
        for name, kind in _CHOICES.items():
            if getattr(self, name) is not None or name not in _OPTIONAL:
                object.__setattr__(self, name, _member(name, getattr(self, name), kind))
        if not isinstance(self.malformed, tuple | list):
            raise ValueError(f"malformed is {self.malformed!r}: it must be a list")
        kinds = tuple(_member("malformed", kind, Malformed) for kind in self.malformed)
        object.__setattr__(self, "malformed", kinds)

    @classmethod
    def live(cls) -> Habits:
        """Return the habits that the live API always shows: it asks again, gives up after three tries and drops idle
        connections.
        """
        return cls(resend_after_s=CASCADE_TIMEOUT_S, idle_drop_s=IDLE_DROP_S)

    @classmethod
    def hostile(cls, seed: int = 0) -> Habits:
        """Return all habits at random, each in about a third of the turns; equal seeds give equal habits."""
        return cls(
            resend_after_s=CASCADE_TIMEOUT_S,
            extra_ids=2,
            extra_id_after_s=1.0,
            wording=Wording.ANY,
            resend_older=Moment.ANY,
            interrupt_after_s=1.5,
            interrupt_after_chars=60,
            idle_drop_s=IDLE_DROP_S,
            reset=Moment.ANY,
            reconnect=True,
            loses_answer=True,
            silence=Silence.ANY,
            growing_parts=4,
            drop_error="Speech Engine connection lost",
            goodbye=Goodbye.ANY,
            malformed=tuple(Malformed),
            fragment_bytes=40,
            segment_bytes=64,
            slow_read_bytes_s=65536,
            chance=0.3,
            seed=seed,
        )

    def scaled(self, factor: float) -> Habits:
        """Return the same habits with every time multiplied by `factor`, to test a server in less time."""
        times = {
            field.name: value * factor
            for field in dataclasses.fields(self)
            if field.name.endswith("_s") and field.name != "slow_read_bytes_s"
            if (value := getattr(self, field.name)) is not None
        }
        return dataclasses.replace(self, **times)

    def draw(self, dice: random.Random) -> TurnHabits:
        """Draw the habits that show in the next turn, and their values."""
        return _draw(self, dice)

    def draw_goodbye(self, dice: random.Random) -> Goodbye:
        """Draw the way in which the caller hangs up."""
        return dice.choice(_GOODBYES) if self.goodbye is Goodbye.ANY else self.goodbye

    def _check(self, name: str, is_fine: object, wanted: str) -> None:
        value = getattr(self, name)
        try:
            fine = is_fine(value)  # type: ignore[operator]
        except (TypeError, ValueError, AttributeError):
            fine = False
        if not fine or (isinstance(value, bool) and wanted != "true or false"):
            raise ValueError(f"{name} is {value!r}: it must be {wanted}")


@dataclass(frozen=True, kw_only=True)
class TurnHabits:
    """The habits that show in one turn; the fields are those of `Habits`, with all random values drawn."""

    extra_id_gaps_s: tuple[float, ...] = ()
    wording: Wording = Wording.PUNCTUATION
    resend_older: Moment | None = None
    interrupt_after_s: float | None = None
    interrupt_after_chars: int | None = None
    reset: Moment | None = None
    reconnect: bool = False
    loses_answer: bool = False
    silence: Silence | None = None
    malformed: tuple[Malformed, ...] = ()


_CHOICES: dict[str, type[Enum]] = {
    "wording": Wording,
    "resend_older": Moment,
    "reset": Moment,
    "failed_answers": FailedAnswers,
    "silence": Silence,
    "goodbye": Goodbye,
}
_OPTIONAL = ("resend_older", "reset", "silence")
_SILENCES = (Silence.DOTS, Silence.ELLIPSIS, Silence.DOT, Silence.AGENT_LAST)
_GOODBYES = (Goodbye.CLOSE, Goodbye.DROP, Goodbye.LAST_WORDS)
_MOMENTS = (Moment.BEFORE_ANSWER, Moment.MID_ANSWER, Moment.AFTER_ANSWER)


def _draw(habits: Habits, dice: random.Random) -> TurnHabits:
    is_random = habits.chance < 1

    def shows() -> bool:
        return dice.random() < habits.chance

    def moment(wanted: Moment | None) -> Moment | None:
        chosen = dice.choice(_MOMENTS) if wanted is Moment.ANY else wanted
        return chosen if shows() else None

    # Draw every value in every turn: switching one habit off does not change the others.
    ids = habits.extra_ids and (dice.randint(1, habits.extra_ids) if is_random else habits.extra_ids)
    gaps = tuple(habits.extra_id_after_s * (dice.uniform(0.05, 1) if is_random else 1) for _ in range(ids))
    wording = dice.choice((Wording.PUNCTUATION, Wording.GROWING)) if habits.wording is Wording.ANY else habits.wording
    after_s, after_chars = habits.interrupt_after_s, habits.interrupt_after_chars
    if is_random:
        after_s = after_s and after_s * dice.uniform(0.01, 1)
        after_chars = after_chars and dice.randint(1, after_chars)
    reset = moment(habits.reset)
    if habits.reconnect and habits.reset is None and shows():
        reset = Moment.AFTER_ANSWER
    kinds = habits.malformed
    if is_random and kinds:
        kinds = (dice.choice(kinds),)
    extra_id_gaps_s = gaps if shows() else ()
    more = _further_dice(dice)
    if habits.growing_parts and more.random() < habits.chance:
        parts = more.randint(1, habits.growing_parts) if is_random else habits.growing_parts
        extra_id_gaps_s, wording = (habits.growing_within_s / parts,) * parts, Wording.GROWING
    loses_answer = habits.loses_answer and more.random() < habits.chance
    silence = more.choice(_SILENCES) if habits.silence is Silence.ANY else habits.silence
    return TurnHabits(
        extra_id_gaps_s=extra_id_gaps_s,
        wording=wording,
        resend_older=moment(habits.resend_older),
        interrupt_after_s=after_s if shows() else None,
        interrupt_after_chars=after_chars if shows() else None,
        reset=reset,
        reconnect=habits.reconnect,
        loses_answer=loses_answer,
        silence=silence if more.random() < habits.chance else None,
        malformed=kinds if shows() else (),
    )


def changes(habits: Habits) -> dict[str, Any]:
    """Return the habits that differ from a polite API's, by name, as plain values."""
    polite = Habits()
    return {
        row.name: plain(getattr(habits, row.name))
        for row in dataclasses.fields(Habits)
        if getattr(habits, row.name) != getattr(polite, row.name)
    }


def plain(value: Any) -> Any:
    """Return a habit's value as JSON and TOML have it: the value of an enumeration, a list for a tuple."""
    if isinstance(value, tuple):
        return [plain(item) for item in value]
    return value.value if isinstance(value, Enum) else value


def _further_dice(dice: random.Random) -> random.Random:
    """Return dice that follow from the state of `dice`, which they leave as it is.

    A seed that was in use before a habit existed still gives the same sequence of the other habits.
    """
    state = dice.getstate()[1]
    return random.Random(f"{state[-1]}/{state[0]}")


def _member(name: str, value: object, kind: type[Enum]) -> Enum:
    try:
        return kind(value)
    except ValueError:
        names = ", ".join(repr(member.value) for member in kind)
        raise ValueError(f"{name} is {value!r}: it must be one of {names}") from None
