"""Seats: what a conversation takes of `--max-sessions`, counted over all workers, those of another supervisor included.

During an upgrade the workers of two supervisors or more have conversations at once. So seats are not kept on the
scoreboard, which belongs to one supervisor and one version of this program, but in a small file without a name that a
supervisor hands to the next one: a block for each, and in it a line for each of its workers.

A block is its supervisor's and its workers' as long as one of them lives. Each holds a lock on it, which the system
takes back from whoever dies: so a block whose processes are all gone can be told, and its seats come back.
"""

from __future__ import annotations

import fcntl
import logging
import mmap
import os
import tempfile

from se_server.errors import ConfigError
from se_server.server.shared._board import LINE_BYTES, Seats

logger = logging.getLogger("se_server.server.seats")

MAX_WORKERS = 1024
MAX_SLOTS = 2 * MAX_WORKERS  # old workers may drain for hours while new ones start
BLOCKS = 8  # supervisors at once: an upgrade leaves one behind until its last conversation has ended
_BLOCK_BYTES = (MAX_SLOTS + 1) * LINE_BYTES
_SIZE = BLOCKS * _BLOCK_BYTES + LINE_BYTES
LAYOUT = b"se-server seats 1".ljust(LINE_BYTES, b"\0")  # the last line: other versions may count otherwise


class SeatTable:
    """The seats of this supervisor's workers, among those of all.

    Args:
        inherited: the descriptor of the table of the supervisor before this one, owned from now on; None makes one.

    Raises:
        ConfigError: there are too many supervisors already.
    """

    def __init__(self, inherited: int | None = None) -> None:
        if inherited is not None and not _is_of_this_layout(inherited):
            logger.warning("--max-sessions does not count what still runs on the version before this one")
            os.close(inherited)
            inherited = None
        self._descriptor = _make() if inherited is None else inherited
        # Kept to the end: its own copy of the descriptor is closed with it, and any such close drops the locks.
        self._memory = mmap.mmap(self._descriptor, _SIZE)
        self._seats = Seats(self._memory, BLOCKS, MAX_SLOTS + 1)
        self._block = self._take_block()

    def fileno(self) -> int:
        """Return the descriptor, for the next supervisor."""
        return self._descriptor

    # --- a supervisor's ---

    def _take_block(self) -> int:
        for block in range(BLOCKS):
            if self._lock(block, fcntl.LOCK_EX):
                self._seats.clear(block)
                self._lock(block, fcntl.LOCK_SH)
                return block
        raise ConfigError(f"{BLOCKS} supervisors have conversations, one for each upgrade: wait until one has ended")

    def use(self, index: int) -> None:
        """Give a line to a worker that is about to be forked."""
        self._seats.use(self._block, index)

    def vacate(self, index: int) -> None:
        """Free what a worker has held that was reaped."""
        self._seats.hold(self._block, index, 0)

    def sweep(self) -> None:
        """Free what workers have held that are gone together with their supervisor."""
        for block in range(BLOCKS):
            if block != self._block and self._seats.in_use(block) and self._lock(block, fcntl.LOCK_EX):
                self._seats.clear(block)
                fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, block)

    def sessions(self) -> int:
        """Return how many sessions all workers have."""
        return self._seats.held()

    # --- a worker's ---

    def join(self) -> None:
        """Keep the block for as long as this process lives, whatever becomes of its supervisor."""
        self._lock(self._block, fcntl.LOCK_SH)

    def claim(self, index: int, limit: int) -> bool:
        """Claim a seat, in a worker's own line; False if `limit` are taken."""
        return self._seats.claim(self._block, index, limit)

    def hold(self, index: int, sessions: int) -> None:
        """Keep as many seats as there are sessions, and give back what was claimed beyond that."""
        self._seats.hold(self._block, index, sessions)

    def taken(self) -> int:
        """Return how many seats all workers hold."""
        return self._seats.taken()

    def _lock(self, block: int, how: int) -> bool:
        """Lock a block for this process, or change the lock it has; False, without waiting, if somebody else has it."""
        try:
            fcntl.lockf(self._descriptor, how | fcntl.LOCK_NB, 1, block)
        except (BlockingIOError, PermissionError):  # POSIX allows either
            return False
        return True


def _make() -> int:
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("se-server seats")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, _SIZE)  # pages take memory when they are written to
    os.pwrite(descriptor, LAYOUT, _SIZE - LINE_BYTES)
    return descriptor


def _is_of_this_layout(descriptor: int) -> bool:
    return os.fstat(descriptor).st_size == _SIZE and os.pread(descriptor, LINE_BYTES, _SIZE - LINE_BYTES) == LAYOUT
