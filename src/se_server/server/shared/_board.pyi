from mmap import mmap

LINE_BYTES: int
STATE: int
HEARTBEAT: int
IN_USE: int
ACCEPTING: int
LOAD: int

class Board:
    """The slots of a scoreboard, read and written with atomic instructions.

    Args:
        memory: the supervisor's slot and then the workers', kept for as long as the board lives.
        width: 8-byte cells of a slot.
    """

    def __new__(cls, memory: mmap, width: int) -> Board: ...
    def count(self, place: int, value: int) -> int:
        """Return how many slots hold a value at a place."""
    def least(self, index: int, fresh_ns: int) -> tuple[int, int]:
        """Return the smallest load among a slot's own and those of accepting workers, and the slot it stands in.

        Args:
            fresh_ns: workers whose last heartbeat is older are passed over.
        """

class Seats:
    """The seats of all workers, read and written with atomic instructions.

    Args:
        memory: blocks of lines of 64 bytes each, kept for as long as the seats live.
        blocks: how many, one for each supervisor.
        lines: of a block; the first one says how many of the others are in use, one for each worker.
    """

    def __new__(cls, memory: mmap, blocks: int, lines: int) -> Seats: ...
    def in_use(self, block: int) -> int:
        """Return how many workers a block has lines for."""
    def use(self, block: int, index: int) -> None:
        """Take a worker's line into use, empty."""
    def clear(self, block: int) -> None:
        """Empty a block."""
    def hold(self, block: int, index: int, sessions: int) -> None:
        """Write how many sessions a worker has: so many seats it keeps."""
    def claim(self, block: int, index: int, limit: int) -> bool:
        """Claim a seat for a worker, called by itself alone; False if all `limit` of them are taken.

        In a race for the last seats a claim may fail although one is free in the end; never are too many given.
        """
    def taken(self) -> int:
        """Return how many seats are claimed, by all workers of all blocks."""
    def held(self) -> int:
        """Return how many sessions all workers of all blocks have."""
