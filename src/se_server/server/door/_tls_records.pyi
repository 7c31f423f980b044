from typing import final

@final
class RecordLimit:
    """Counts the short records of one connection: one with little text is 1, one without a message is 8.

    Args:
        rate: how many a second.
        burst: how many at once.
        now: the time, in seconds.
    """
    def __init__(self, rate: float, burst: float, now: float) -> None: ...
    def admit(self, data: bytes | bytearray | memoryview, size: int, now: float) -> bool:
        """Count the records that begin in the next bytes of the connection; return whether they are within the limit.

        Args:
            data: begins with these bytes.
            size: how many they are.
            now: the time, in seconds.
        """
