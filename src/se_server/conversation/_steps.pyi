from asyncio import AbstractEventLoop
from typing import final

@final
class Steps:
    """The steps of one event loop, in which large messages are read in turn.

    Args:
        loop: whose steps.
        work_rate: units of work a second that one conversation may make.
    """
    def __init__(self, loop: AbstractEventLoop, work_rate: float) -> None: ...
    def __len__(self) -> int:
        """Return the number of conversations that wait to be read."""
