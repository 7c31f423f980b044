"""Figures of one conversation's turns, for the log line at its end. Bounded: nothing grows with the turns."""

from __future__ import annotations

SAMPLE = 64
"""Times kept for the median: all of them in usual conversations, a fair sample in those of more turns."""


class Pace:
    """Counts turns, and keeps how long they took to their first text. `pace.pxd` makes a C array of the list.

    The sample is a reservoir (Vitter's algorithm R): each time has the same chance to be in it.

    Attributes:
        turns: turns that have ended.
        interruptions: those that a newer transcript ended after some of the answer had been sent.
        slowest_s: the longest time to a first text, in seconds; 0 if no turn had any.
    """

    _times_s: list[float]

    def __init__(self) -> None:
        self.turns = 0
        self.interruptions = 0
        self.slowest_s = 0.0
        self._spoken = 0
        self._random = 1

    def add(self, interrupted: bool) -> None:
        """Count a turn that has ended."""
        self.turns += 1
        if interrupted:
            self.interruptions += 1

    def add_first_chunk(self, after_s: float) -> None:
        """Note how long a turn took to its first text."""
        place = self._spoken
        size = SAMPLE
        self._spoken += 1
        if after_s > self.slowest_s:
            self.slowest_s = after_s
        if place >= size:
            # Lehmer's generator. A user who predicts it can only distort the log line of their own conversation.
            self._random = self._random * 48271 % 2147483647
            place = self._random % self._spoken
            if place >= size:
                return
        self._times_s[place] = after_s

    def median_s(self) -> float | None:
        """Return the median time to a first text, in seconds; None if no turn had any."""
        kept = min(self._spoken, SAMPLE)
        if not kept:
            return None
        times_s = sorted([self._times_s[place] for place in range(kept)])
        return times_s[(kept - 1) // 2]
