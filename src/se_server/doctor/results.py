"""What se-doctor found: of the set-up and of each case a state, and sentences for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


class State(str, Enum):
    """How a check or a case came out."""

    PASS = "pass"
    FAIL = "fail"
    WARNING = "warning"  # it works, and somebody should know
    NOT_TESTED = "not tested"  # this server or this agent gave no occasion to


@dataclass(frozen=True)
class Finding:
    """One step of the set-up.

    Attributes:
        name: what was looked at.
        state: how it came out.
        why: one sentence.
        way_out: what to do about it; empty when nothing is to be done.
    """

    name: str
    state: State
    why: str
    way_out: str = ""


@dataclass(frozen=True)
class Result:
    """One case.

    Attributes:
        name: the case's.
        group: what it belongs to.
        title: what a good server does, in half a sentence.
        state: how it came out.
        heard: the words that the caller heard; empty when there were none.
        why: one sentence.
        duration_s: how long the case took, in seconds.
    """

    name: str
    group: str
    title: str
    state: State
    heard: str
    why: str
    duration_s: float


class CaseFailed(Exception):
    """The server did something wrong; the text says what."""

    def __init__(self, why: str, heard: str = "") -> None:
        super().__init__(why)
        self.heard = heard


class NotTested(Exception):
    """The case could not be decided; the text says why."""


class Warned(Exception):
    """What was seen is allowed, and somebody should know of it; the text says why."""


def shown_s(seconds: float) -> str:
    """Return a time for people."""
    return f"{seconds * 1000:.0f} ms" if seconds < 0.1 else f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"


def shown_count(number: int, what: str) -> str:
    """Return a number of things for people."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def count(results: Sequence[Result | Finding]) -> dict[State, int]:
    """Count the states that occur."""
    return {state: found for state in State if (found := sum(result.state is state for result in results))}
