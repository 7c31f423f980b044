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
