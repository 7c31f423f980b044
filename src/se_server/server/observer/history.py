"""The figures of the last hour, sampled: what the page draws. Bounded, whatever the load."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from se_server.telemetry.families import OUTCOMES, Distribution, Reading

INTERVAL_S = 10.0
SAMPLES = 360
"""An hour of samples."""
COUNTED = ("fillers", "failure_texts", "late_texts", "stutters", "refusals")
STUTTER_S = 1.28
"""A longer silence between two texts of an answer counts as a stutter; one of the histogram's bounds."""


@dataclass(frozen=True)
class Sample:
    """The figures of one interval.

    Attributes:
        time_s: its end, in seconds since 1970.
        conversations: those that were open at its end.
        outcomes: how many turns ended in it, in the order of `OUTCOMES`.
        counts: the figures of `COUNTED` in it.
        first_text: how many turns there were in each bucket of the time to first text.
    """

    time_s: float
    conversations: int
    outcomes: tuple[int, ...]
    counts: tuple[int, ...]
    first_text: tuple[int, ...]


class History:
    """Keeps an hour of samples, and the readings from which the next sample is made."""

    def __init__(self) -> None:
        self.samples: deque[Sample] = deque(maxlen=SAMPLES)
        self._former: Reading | None = None
        # Five minutes back: quantiles and means of now are made of what was counted since.
        self._recent: deque[Reading] = deque(maxlen=int(300 / INTERVAL_S))

    def add(self, reading: Reading, time_s: float) -> Sample | None:
        """Add the sample of the interval that ends now; None for the first reading, which begins one."""
        former, self._former = self._former, reading
        self._recent.append(reading)
        if former is None:
            return None
        sample = Sample(
            time_s,
            reading.conversations,
            _difference(_outcomes(reading), _outcomes(former)),
            _difference(_counts(reading), _counts(former)),
            _difference(_first_text(reading), _first_text(former)),
        )
        self.samples.append(sample)
        return sample

    def recent(self, name: str, reading: Reading) -> Distribution:
        """Return what a histogram has counted in the last five minutes."""
        now = reading.histogram(name)
        if not self._recent:
            return now
        before = self._recent[0].histogram(name)
        return Distribution(now.bounds, _difference(now.counts, before.counts), max(0.0, now.total - before.total))


def _outcomes(reading: Reading) -> tuple[int, ...]:
    return tuple(reading.count(name) for name in OUTCOMES)


def _counts(reading: Reading) -> tuple[int, ...]:
    gaps = reading.histogram("longest_gap")
    stutters = sum(gaps.counts[gaps.bounds.index(STUTTER_S) + 1 :])
    counters = reading.counters
    return (
        counters["first_words_sent"],
        counters["failure_texts_sent"],
        counters["late_texts"],
        stutters,
        sum(reading.refusals().values()),
    )


def _first_text(reading: Reading) -> tuple[int, ...]:
    own, filler = reading.histogram("first_text"), reading.histogram("first_filler")
    return tuple(one + other for one, other in zip(own.counts, filler.counts, strict=True))


def _difference(now: Sequence[int], before: Sequence[int]) -> tuple[int, ...]:
    return tuple(max(0, late - early) for late, early in zip(now, before, strict=True))
