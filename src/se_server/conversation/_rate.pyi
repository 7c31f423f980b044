from typing import final

@final
class Rate:
    """The rate limit of one connection: a bucket of tokens, one a message, refilled as time passes.

    Args:
        rate: how many tokens come a second.
        burst: how many are there at the start, and are kept at most.
        now: the time, in seconds.
    """
    def __init__(self, rate: float, burst: float, now: float) -> None: ...
    def take(self, now: float) -> bool:
        """Take one token; return whether there was one."""

@final
class Budget:
    """The work that one peer may make: `rate` units a second, and those of two seconds at once.

    Args:
        rate: units a second.
        patience_s: how long the budget may be used up before the peer has gone too far.
        now: the time, in seconds.
    """
    def __init__(self, rate: float, patience_s: float, now: float) -> None: ...
    def take(self, units: float, now: float) -> float:
        """Count work that was done.

        Returns:
            The seconds for which nothing more should be read; negative if the budget was used up for too long.
        """

def work_of(size: int, entries: int) -> int:
    """Return the units of work of a message.

    Args:
        size: its bytes.
        entries: the entries of its transcript that were decoded.
    """

@final
class Unfinished:
    """The unfinished messages of all connections of a loop, which share a bound on their bytes."""
    def __new__(cls, max_message_bytes: int) -> Unfinished: ...
