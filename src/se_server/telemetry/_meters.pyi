"""The figures that metrics show: counts, and histograms with fixed buckets, in memory that other processes may read."""

from typing import Final

BOUNDS: Final[int]
"""The number of a histogram's finite bounds. Its row has a count for each, one beyond them, and the sum in µs."""
COUNT_NAMES: Final[tuple[str, ...]]
"""The names of the counts, which are the first cells."""
HISTOGRAM_NAMES: Final[tuple[str, ...]]
"""The names of the histograms, in the order of their rows."""
HISTOGRAM_UNITS_S: Final[tuple[float, ...]]
"""The first bound of each histogram; each further one is twice the one before."""
CAUSES: Final[tuple[str, ...]]
"""The causes of a conversation's end; the last is that of any other."""
CODES: Final[tuple[int, ...]]
"""The codes of CLOSE frames that are counted one by one; all others are counted together."""
REFUSALS: Final[tuple[str, ...]]
"""The reasons of refusals that are counted one by one, as the log names them; all others are counted together."""
RESTARTS: Final[tuple[str, ...]]
"""The causes for which a worker is replaced."""
UPGRADES: Final[tuple[str, ...]]
"""The results of upgrades."""
HISTOGRAMS_AT: Final[int]
CLOSES_AT: Final[int]
REFUSALS_AT: Final[int]
RESTARTS_AT: Final[int]
UPGRADES_AT: Final[int]
CELLS: Final[int]
"""The number of cells, and the places at which their groups begin."""
METERS_BYTES: Final[int]
"""The memory that the cells take."""

class Meters:
    """Counts and durations of one process, written by one thread.

    Args:
        memory: writable memory of at least `METERS_BYTES`, with the figures that it has already; None makes memory.
    """

    def __new__(cls, memory: object = None) -> Meters: ...
    def conversation_began(self) -> None:
        """Count a conversation that has begun."""

    def count(self, name: str, amount: int = 1) -> None:
        """Add to the count of a name in `COUNT_NAMES`.

        Raises:
            ValueError: there is no such count.
        """

    def record(self, name: str, value: float) -> None:
        """Count a value, in seconds or in turns, in the histogram of a name in `HISTOGRAM_NAMES`.

        Raises:
            ValueError: there is no such histogram.
        """

    def handshake_ended(self, duration_s: float) -> None:
        """Count an accepted upgrade, and its time since the connection was accepted."""

    def conversation_ended(self, cause: str, code: int | None, duration_s: float, turns: int) -> None:
        """Count a conversation that has ended, its time and its turns."""

    def closed(self, cause: str, code: int | None) -> None:
        """Count the close of a conversation alone."""

    def refused(self, reason: str) -> None:
        """Count a refused connection or request."""

    def cells(self) -> list[int]:
        """Return a copy of all cells."""
