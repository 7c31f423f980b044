"""The figures that metrics show: counts, and histograms with fixed buckets, in memory that other processes may read."""

from typing import Final, final

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

@final
class Meters:
    """Counts and durations of one process, written by one thread.

    Args:
        memory: writable memory of at least `METERS_BYTES`, with the figures that it has already; None makes memory.
    """

    def __new__(cls, memory: object = None) -> Meters: ...
    def conversation_began(self) -> None:
        """Count a conversation that has begun."""

    def turn_began(self) -> None:
        """Count a turn that has begun."""

    def turn_ended(self, outcome: int, duration_s: float, sent: int) -> None:
        """Count a turn that has ended.

        Args:
            outcome: 0 answered, 1 interrupted, 2 superseded, 3 failed, 4 timed out, 5 empty, 6 closed, 7 silent.
            duration_s: seconds from its transcript.
            sent: characters that were sent.
        """

    def first_text(self, is_filler: bool, after_s: float, wait_s: float, provider_s: float, thinking_s: float) -> None:
        """Count the time to the first text of a turn and its parts, in seconds; a part that is not known is negative.

        Args:
            is_filler: whether that text was none of the handler's own.
            after_s: seconds from the transcript.
            wait_s: seconds from the transcript to the handler's first step.
            provider_s: seconds from there to the first event of the stream.
            thinking_s: seconds from there to the text.
        """

    def gap(self, longest_s: float) -> None:
        """Count the longest silence between two texts of an answer."""

    def yielded(self, after_s: float) -> None:
        """Count the time from an interruption to the end of its handler."""

    def stray_ended(self) -> None:
        """Count a stray handler that has ended."""

    def tokens(self, given: int | None, made: int | None) -> None:
        """Count the tokens of a turn, as far as they are known."""

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
