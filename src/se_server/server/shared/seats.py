"""Seats: the conversations that count against `--max-sessions`, over all workers, including those of other supervisors.

During an upgrade the workers of two or more supervisors have conversations at once. The scoreboard belongs to one
supervisor and one version of this program, so seats are kept elsewhere: in a small file without a name that a
supervisor passes to the next one. It has a block for each supervisor, and in the block a line for each worker.

A block belongs to its supervisor and workers as long as one of them lives. Each of them holds a lock on the block,
which the system releases when the process dies. A block without locks is recognised by that, and its seats are freed.
"""

from __future__ import annotations

import fcntl
import logging
import mmap
import os

from se_server.errors import ConfigError
from se_server.server.shared._board import LINE_BYTES, Seats
from se_server.server.shared.memory import nameless_file

logger = logging.getLogger("se_server.server.seats")

MAX_WORKERS = 1024
MAX_SLOTS = 2 * MAX_WORKERS  # old workers may drain for hours while new ones start
BLOCKS = 8  # supervisors at once: after an upgrade the old one remains until its last conversation has ended
_BLOCK_BYTES = (MAX_SLOTS + 1) * LINE_BYTES
_SIZE = BLOCKS * _BLOCK_BYTES + LINE_BYTES
LAYOUT = b"se-server seats 1".ljust(LINE_BYTES, b"\0")  # the last line: other versions may use another layout


class SeatTable:
    """The table of all seats, with the block of this supervisor.

    Args:
        inherited: the descriptor of the previous supervisor's table, owned from now on; None makes a table.

    Raises:
        ConfigError: there are too many supervisors already.
    """

    def __init__(self, inherited: int | None = None) -> None:
        if inherited is not None and not _is_of_this_layout(inherited):
            logger.warning("--max-sessions does not count the conversations that still run on the previous version")
            os.close(inherited)
            inherited = None
        self._descriptor = _make() if inherited is None else inherited
        # Never closed: closing the map closes its copy of the descriptor, and closing any copy drops the locks.
        self._memory = mmap.mmap(self._descriptor, _SIZE)
        self._seats = Seats(self._memory, BLOCKS, MAX_SLOTS + 1)
        self._block = self._take_block()

    def fileno(self) -> int:
        """Return the descriptor, for the next supervisor."""
        return self._descriptor

    # --- for the supervisor ---

    def _take_block(self) -> int:
        for block in range(BLOCKS):
            if self._lock(block, fcntl.LOCK_EX):
                self._seats.clear(block)
                self._lock(block, fcntl.LOCK_SH)
                return block
        raise ConfigError(
            f"{BLOCKS} supervisors have conversations, one for each upgrade: wait until one of them has ended"
        )

    def use(self, index: int) -> None:
        """Give a line to a worker that is about to be forked."""
        self._seats.use(self._block, index)

    def vacate(self, index: int) -> None:
        """Free the seats of a worker that was reaped."""
        self._seats.hold(self._block, index, 0)

    def sweep(self) -> None:
        """Free the seats of supervisors that are gone with all of their workers."""
        for block in range(BLOCKS):
            if block != self._block and self._seats.in_use(block) and self._lock(block, fcntl.LOCK_EX):
                self._seats.clear(block)
                fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, block)

    def sessions(self) -> int:
        """Return the number of conversations of all workers."""
        return self._seats.held()

    # --- for a worker ---

    def join(self) -> None:
        """Keep the block in use while this process lives, even after its supervisor has ended."""
        self._lock(self._block, fcntl.LOCK_SH)

    def claim(self, index: int, limit: int) -> bool:
        """Claim a seat, in a worker's own line; False if `limit` are taken."""
        return self._seats.claim(self._block, index, limit)

    def hold(self, index: int, sessions: int) -> None:
        """Keep a seat for each conversation, and give back seats that were claimed beyond that."""
        self._seats.hold(self._block, index, sessions)

    def taken(self) -> int:
        """Return the number of seats that all workers hold."""
        return self._seats.taken()

    def _lock(self, block: int, how: int) -> bool:
        """Lock a block, or change the kind of its lock; False, without waiting, if another process holds it."""
        try:
            fcntl.lockf(self._descriptor, how | fcntl.LOCK_NB, 1, block)
        except (BlockingIOError, PermissionError):  # POSIX allows either
            return False
        return True


def _make() -> int:
    descriptor = nameless_file("seats", _SIZE)
    os.pwrite(descriptor, LAYOUT, _SIZE - LINE_BYTES)
    return descriptor


def _is_of_this_layout(descriptor: int) -> bool:
    return os.fstat(descriptor).st_size == _SIZE and os.pread(descriptor, LINE_BYTES, _SIZE - LINE_BYTES) == LAYOUT
