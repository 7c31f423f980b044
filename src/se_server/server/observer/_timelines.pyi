"""Reads rings of events: conversations, their turns part by part, and their events."""

from typing import Any, Final

from typing_extensions import disjoint_base  # type checkers know it without the package

from se_server.telemetry._ring import EVENTS as EVENTS
from se_server.telemetry._ring import KINDS as KINDS
from se_server.telemetry._ring import NO_ID as NO_ID
from se_server.telemetry._ring import RING_BYTES as RING_BYTES

PART_NAMES: Final[tuple[str, ...]]
"""The parts of the time to first text, in order: they add up to it."""

Turn = tuple[int | None, int, int, int, float | None, tuple[float, ...] | None, int, bool, str | None]

@disjoint_base
class Conversation:
    """One conversation, as its events tell it.

    Attributes:
        ring, number: the ring that has its events, and its number there.
        pid: the process id of its worker.
        name: the API's id; None before `init`.
        opened_us, closed_us: when it began and ended, in monotonic microseconds; 0 if that is unknown.
        turns, interruptions: how many turns have ended, and how many of them were interrupted.
        errors, api_errors: how many exceptions user code has raised, and how many errors the API has reported.
        span: the ids of the span of the turn under way; None without traces.
        spans: those of turns that have ended, by the microseconds of their end; the exporter takes them away. Each
            is given to one observer only.
        recent_turns: the last turns that have ended; see `Timelines.read`.
        cause, code: how it ended; -1 while it is open, and where its worker died.
        state: `closed`, `listening`, `waiting`, `thinking` or `speaking`.
        size: the bytes of the events that are kept.
        dropped: how many of its oldest events are not kept any more.
    """

    ring: int
    number: int
    pid: int
    name: str | None
    opened_us: int
    closed_us: int
    turns: int
    interruptions: int
    errors: int
    api_errors: int
    span: str | None
    spans: dict[int, str]
    recent_turns: list[Turn]
    cause: int
    code: int
    @property
    def state(self) -> str:
        """`closed`, `listening`, `waiting`, `thinking` or `speaking`."""

    @property
    def size(self) -> int:
        """The bytes of the events that are kept."""

    @property
    def dropped(self) -> int:
        """The number of its oldest events that are not kept any more."""

    def forget(self) -> None:
        """Forget the events and the turns."""

    def events(self) -> list[tuple[int, str, int | str]]:
        """Return the events: microseconds, the kind's name, and the payload, or the text of those that have one."""

@disjoint_base
class Timelines:
    """All conversations whose events are in the rings.

    Attributes:
        live: those that are open, by ring and number.
    """

    live: dict[int, Conversation]
    def __init__(self) -> None: ...
    def pid_of(self, ring: int) -> int:
        """Return the process id of the worker that writes to a ring; 0 if it is not known."""

    def read(self, ring: int, memory: Any) -> tuple[list[tuple[Conversation, Turn]], list[Conversation]]:
        """Read the new events of a ring.

        Args:
            ring: the number of the ring.
            memory: its memory; the place up to which it was read is written there, for the next observer.

        Returns:
            The turns that have ended, each with its conversation, and the conversations that have ended. A turn is a
            tuple: event id or None, outcome (its place in `OUTCOMES`), arrival and end in microseconds, seconds to the
            first text or None, the parts of that time in the order of `PART_NAMES` or None, texts, whether a filler was
            the first, and the code that blocked the event loop before it or None.
        """

def lost_in(memory: Any) -> int:
    """Return how many events of a ring were overwritten before they were read."""
