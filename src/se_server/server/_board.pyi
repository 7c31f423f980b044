from mmap import mmap

STATE: int
SESSIONS: int
HEARTBEAT: int
IN_USE: int
ACCEPTING: int
LOAD: int
SEATS: int

class Board:
    """The slots of a scoreboard, read and written with atomic instructions.

    Args:
        memory: the supervisor's slot and then the workers', kept for as long as the board lives.
        width: 8-byte cells of a slot.
    """

    def __new__(cls, memory: mmap, width: int) -> Board: ...
    def seats(self) -> int:
        """Return how many seats are claimed, by all workers."""
    def count(self, place: int, value: int) -> int:
        """Return how many slots hold a value at a place."""
    def claim(self, index: int, limit: int) -> bool:
        """Claim a seat for a slot, called by its owner alone; False if all `limit` of them are taken.

        In a race for the last seats a claim may fail although one is free in the end; never are too many given.
        """
    def least(self, index: int, fresh_ns: int) -> tuple[int, int]:
        """Return the smallest load among a slot's own and those of accepting workers, and the slot it stands in.

        Args:
            fresh_ns: workers whose last heartbeat is older are passed over.
        """
