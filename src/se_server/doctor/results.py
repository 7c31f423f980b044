"""The results of se-doctor: a state for each check and case, with sentences for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


class State(str, Enum):
    """The outcome of a check or a case."""

    PASS = "pass"
    FAIL = "fail"
    WARNING = "warning"  # it works, with a reservation
    NOT_TESTED = "not tested"  # this server or this agent gave no opportunity


@dataclass(frozen=True)
class Finding:
    """The result of one check of the set-up.

    Attributes:
        name: the subject of the check.
        state: the outcome.
        why: the reason, one sentence.
        way_out: advice for the user; empty when there is nothing to do.
    """

    name: str
    state: State
    why: str
    way_out: str = ""


@dataclass(frozen=True)
class Result:
    """The result of one case.

    Attributes:
        name: the case's name.
        group: the case's heading on the scorecard.
        title: the behaviour of a good server, as half a sentence.
        state: the outcome.
        heard: the words that the caller heard; empty when there were none.
        why: the reason, one sentence.
        duration_s: the duration of the case, in seconds.
        reading: the reading of the API under which alone the case did not pass; empty for all readings.
    """

    name: str
    group: str
    title: str
    state: State
    heard: str
    why: str
    duration_s: float
    reading: str = ""


class CaseFailed(Exception):
    """The server misbehaved; the text describes the fault."""

    def __init__(self, why: str, heard: str = "") -> None:
        super().__init__(why)
        self.heard = heard


class NotTested(Exception):
    """The case could not be decided; the text gives the reason."""


class Warned(Exception):
    """The behaviour is allowed but deserves attention; the text gives the reason."""


def shown_s(seconds: float) -> str:
    """Format a duration for people."""
    return f"{seconds * 1000:.0f} ms" if seconds < 0.1 else f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"


def shown_count(number: int, what: str) -> str:
    """Format a number of things for people."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def count(results: Sequence[Result | Finding]) -> dict[State, int]:
    """Count the results in each state that occurs."""
    return {state: found for state in State if (found := sum(result.state is state for result in results))}
