from collections.abc import Callable
from typing import final

@final
class Clock:
    """The clock of the times of turns."""
    def now(self) -> float:
        """Return seconds that never go back."""

def clock_of(source: Callable[[], float]) -> Clock:
    """Return the clock that a function reads; that of `time.monotonic` is the same for all."""
