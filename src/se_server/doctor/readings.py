"""The readings of the API: what it may do where the field reports disagree or nothing is documented."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from se_server.simulator.habits import FailedAnswers


@dataclass(frozen=True)
class Reading:
    """One way to read the field reports.

    Attributes:
        name: the name, one word.
        condition: the behaviour of the API, as half a sentence that follows "if".
        switches: the simulator's habits that play it.
        way_out: advice for a server that fails only if the API behaves so; empty if the server itself is at fault.
    """

    name: str
    condition: str
    switches: Mapping[str, object] = field(default_factory=dict)
    way_out: str = ""


EMPTY = Reading("empty", "empty answers count as failed", {"failed_answers": FailedAnswers.EMPTY})
WORDLESS = Reading(
    "wordless",
    "answers without a letter count as failed",
    {"failed_answers": FailedAnswers.WORDLESS},
    "only words help: se-server speaks some with --empty-answer-text, --failure-text and --first-word-after-s",
)
AFTER_FINAL = Reading("after-final", "text after the first final is not heard", {"discards_after_final": True})

READINGS = {reading.name: reading for reading in (EMPTY, WORDLESS, AFTER_FINAL)}
"""All readings by name. Without a reading the API takes every answer, and plays all text."""
