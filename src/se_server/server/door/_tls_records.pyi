from asyncio import AbstractEventLoop
from collections.abc import Callable
from typing import final

@final
class RecordLimit:
    """The work that the short records of one connection make, in the units of `Budget`.

    A record with little text is 128, as a fragment; one without room for a message is 65,536.

    Args:
        rate: units a second; those of two seconds may come at once.
        loop: the running loop.
    """
    def __init__(self, rate: float, loop: AbstractEventLoop) -> None: ...
    def admit(self, data: bytes | bytearray | memoryview, size: int, now: float) -> bool:
        """Count the records that begin in the next bytes of the connection; return whether they are within the limit.

        Args:
            data: begins with these bytes.
            size: how many they are.
            now: the time, in seconds.
        """
    def charge(self, size: int, go_on: Callable[[], None]) -> bool:
        """Count a large read as work of this step of the loop.

        Args:
            size: its bytes.
            go_on: called in a later step if this one has enough work.

        Returns:
            Whether nothing more should be read until then.
        """
