"""The cells of `Counters`: 8-byte integers with one writer, in memory that other processes may read."""

from typing import Any

from typing_extensions import disjoint_base  # type checkers know it without the package

from se_server.telemetry._meters import Meters
from se_server.telemetry._ring import Ring

@disjoint_base
class Counts:
    """The memory of counters. Compiled code adds to its `cells` by name.

    Args:
        meters: the figures of metrics, counted beside these; None: its own.
        ring: the events of turns, for the observer; None without one.
        memory: writable memory for the counters, with whatever they are already; None: its own.
    """

    meters: Meters
    ring: Ring | None
    cells: Any

    def __new__(cls, meters: Meters | None = None, ring: Ring | None = None, memory: object = None) -> Counts: ...
    def value(self, place: int) -> int:
        """Return a counter."""

    def put(self, place: int, value: int) -> None:
        """Set a counter."""
