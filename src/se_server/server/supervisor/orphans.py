"""Child processes of a worker that was killed: the supervisor inherits them (Linux).

A worker that ends in order ends its own children. One that is killed cannot. Processes of multiprocessing that were
forked end by a signal of the system; those of `spawn` and `forkserver` run code of their own, and are ended here.
The fork server itself is a helper, which would end by itself once its last user has: the log names its children alone.
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress

from se_server.server.shared.procfs import children_of

logger = logging.getLogger("se_server.server.supervisor")

_PR_SET_CHILD_SUBREAPER, _PR_GET_CHILD_SUBREAPER = 36, 37
_FORK_SERVER = "multiprocessing.forkserver"  # also in the command of the processes that it forks
_OF_MULTIPROCESSING = ("multiprocessing.spawn", _FORK_SERVER)
_ENDS_BY_ITSELF = "multiprocessing.resource_tracker"


@contextmanager
def adopting(adopts: bool) -> Iterator[None]:
    """Adopt orphans, or leave them to the process above this one, until the end of the block (Linux)."""
    libc, before = ctypes.CDLL(None), ctypes.c_int()
    libc.prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(before), 0, 0, 0)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, int(adopts), 0, 0, 0)
    try:
        yield
    finally:
        libc.prctl(_PR_SET_CHILD_SUBREAPER, before.value, 0, 0, 0)


class Orphans:
    """The processes that this supervisor has inherited from workers."""

    def __init__(self) -> None:
        self._known: set[int] = set()
        self._ending: set[int] = set()

    def adopt(self) -> None:
        """Become the parent of processes whose worker ends before them."""
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        # Those that were started beside the server, before its workers, are nobody's orphans.
        self._known.update(pid for pid, _ in children_of(os.getpid()))

    def settle(self, own: Collection[int], *, is_orderly: bool, of_orphan: bool = False) -> None:
        """End or report the processes that a worker, or one of its own processes, has left behind.

        Args:
            own: the pids of the supervisor's own children.
            is_orderly: whether the worker has ended in order, so that it has reported them itself.
            of_orphan: whether an orphan that was ended here has left them, such as a fork server its children.
        """
        left = []
        for pid, command in children_of(os.getpid()):
            if pid in own or pid in self._known or _ENDS_BY_ITSELF in command:
                continue
            self._known.add(pid)
            if any(name in command for name in _OF_MULTIPROCESSING):
                if of_orphan or _FORK_SERVER not in command:
                    logger.warning("process %d (%.200s) has outlived its worker: ended", pid, command)
                self._ending.add(pid)
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
            elif not is_orderly:
                left.append(f"{pid} ({command[:200]})")
        if left:
            logger.warning("processes outlive a worker that has ended abruptly: %s", ", ".join(left))

    def has_ended(self, pid: int) -> bool:
        """Forget a process; return whether it was ended here, so that its own children may be orphans now."""
        self._known.discard(pid)
        if pid not in self._ending:
            return False
        self._ending.remove(pid)
        return True
