"""Durations, counted in the buckets of HdrHistogram: 1 microsecond to 1 hour, each to three significant digits."""

from collections.abc import Mapping
from typing import Any, final

HISTOGRAM_BYTES: int
"""The memory that a histogram takes."""

@final
class Histogram:
    """Counts durations, in seconds.

    Args:
        memory: writable memory of at least `HISTOGRAM_BYTES`, with whatever it counts already; None takes its own.
    """

    def __new__(cls, memory: object = None) -> Histogram: ...
    def record(self, duration_s: float) -> None:
        """Count a duration; those above an hour count as an hour."""

    def merge(self, other: Histogram) -> None:
        """Count what another one has counted."""

    def copy(self) -> Histogram:
        """Return what was counted so far, in memory of its own."""

    def since(self, before: Histogram) -> Histogram:
        """Return what was counted after `before`, an earlier copy; its `max_s` is good to three digits."""

    def clear(self) -> None:
        """Forget everything."""

    @property
    def count(self) -> int:
        """The number of durations counted."""

    @property
    def max_s(self) -> float:
        """The longest duration; 0 if there is none."""

    @property
    def mean_s(self) -> float:
        """The mean; 0 if there is none."""

    def percentile(self, percent: float) -> float:
        """Return the duration that `percent` of all do not exceed, in seconds; 0 if there is none."""

    def buckets(self) -> list[tuple[float, int]]:
        """Return (the longest duration of a bucket, how many) for those that are not empty, the shortest first."""

    def to_dict(self) -> dict[str, Any]:
        """Return it in terms of JSON."""

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> Histogram:
        """Make one of what `to_dict` returned."""

    def __eq__(self, other: object, /) -> bool: ...
