from mmap import mmap

from typing_extensions import disjoint_base  # type checkers know it without the package

LINE_BYTES: int
STATE: int
HEARTBEAT: int
IN_USE: int
ACCEPTING: int
LOAD: int

@disjoint_base
class Board:
    """The slots of a scoreboard, read and written with atomic instructions.

    Args:
        memory: the supervisor's slot followed by the workers' slots; kept alive by the board.
        width: the number of 8-byte cells in a slot.
    """

    def __new__(cls, memory: mmap, width: int) -> Board: ...
    def count(self, place: int, value: int) -> int:
        """Return the number of slots that have a value in a cell."""
    def least(self, index: int, fresh_ns: int) -> tuple[int, int]:
        """Return the smallest load among this slot and those of accepting workers, and the index of its slot.

        Args:
            fresh_ns: ignore workers whose last heartbeat is older.
        """

@disjoint_base
class Seats:
    """The seats of all workers, read and written with atomic instructions.

    Args:
        memory: blocks of lines of 64 bytes; kept alive by this object.
        blocks: the number of blocks, one for each supervisor.
        lines: the number of lines in a block. The first line has the number of lines in use; each other line belongs
            to one worker.
    """

    def __new__(cls, memory: mmap, blocks: int, lines: int) -> Seats: ...
    def in_use(self, block: int) -> int:
        """Return the number of workers that have a line in a block."""
    def use(self, block: int, index: int) -> None:
        """Start to use a worker's line, without seats."""
    def clear(self, block: int) -> None:
        """Empty a block."""
    def hold(self, block: int, index: int, sessions: int) -> None:
        """Set the number of conversations, and so of seats, of a worker."""
    def claim(self, block: int, index: int, limit: int) -> bool:
        """Claim a seat for a worker; False if `limit` seats are taken. Only the worker itself may call this.

        In a race for the last seats a claim may fail although a seat stays free; the limit is never exceeded.
        """
    def taken(self) -> int:
        """Return the number of seats claimed by all workers of all blocks."""
    def held(self) -> int:
        """Return the number of conversations of all workers of all blocks."""
