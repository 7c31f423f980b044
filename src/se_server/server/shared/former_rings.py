"""The rings of earlier supervisors, whose workers drain after an upgrade: the newest observer reads them too.

A supervisor hands the descriptors of its rings on, with those that it was given itself. An earlier observer may still
run when the next one begins, and a ring has one reader: it holds a lock on the file, which the system releases when it
ends.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from se_server.server.shared.seats import MAX_SLOTS
from se_server.telemetry._ring import KINDS, RING_BYTES, clear
from se_server.telemetry._tape import HEAD_BYTES

LAYOUT = f"1 {RING_BYTES} {len(KINDS)} {HEAD_BYTES}"
"""Rings of another layout, which another version has made, are not read."""
STRIDE = -(-RING_BYTES // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY
MAX_FORMER = 8
LOOK_S = 1.0


def lock_for_reading(descriptor: int) -> bool:
    """Take the one place of a reader for this process; False if another process has it."""
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # POSIX allows either
        return False
    return True


@dataclass
class FormerRings:
    """The rings of one earlier supervisor.

    Attributes:
        descriptor: the file of the rings, owned by this object.
        tapes: the file of the tapes, owned too; -1 without texts.
        tape_bytes: the size of a tape, in the file.
        supervisor: the process id of the supervisor.
        base: the number of the first ring, for the observer.
    """

    descriptor: int
    tapes: int
    tape_bytes: int
    supervisor: int
    base: int = 0
    _mapped: list[tuple[mmap.mmap, mmap.mmap | None]] = field(default_factory=list)
    _is_locked: bool = False
    _look_at: float = 0.0

    @classmethod
    def take(cls, given: Mapping[str, Any]) -> FormerRings | None:
        """Return the rings that another supervisor has handed on; None, and they are closed, if they are of no use.

        Raises:
            KeyError, TypeError: they were not handed on by a supervisor.
            OSError: a descriptor is not open.
        """
        former = cls(given["rings"], given["tapes"], given["tape_bytes"], given["supervisor"])
        for descriptor in former.descriptors():
            os.set_inheritable(descriptor, False)
        if given["layout"] != LAYOUT:
            former.close()
            return None
        return former

    def handed(self) -> dict[str, object]:
        """Return what `take` makes the rings of, in another supervisor."""
        return {
            "rings": self.descriptor,
            "tapes": self.tapes,
            "tape_bytes": self.tape_bytes,
            "supervisor": self.supervisor,
            "layout": LAYOUT,
        }

    def descriptors(self) -> list[int]:
        """Return the open descriptors."""
        return [descriptor for descriptor in (self.descriptor, self.tapes) if descriptor >= 0]

    def memories(self) -> Iterator[tuple[int, mmap.mmap, mmap.mmap | None]]:
        """Observer: return the number, the ring and the tape of each worker; none while another observer reads them."""
        self._is_locked = self._is_locked or lock_for_reading(self.descriptor)
        if not self._is_locked:
            return
        while len(self._mapped) < MAX_SLOTS and self._is_written(len(self._mapped)):
            index = len(self._mapped)
            ring = mmap.mmap(self.descriptor, RING_BYTES, offset=index * STRIDE)
            tape = None
            if self.tapes >= 0:
                tape = mmap.mmap(self.tapes, self.tape_bytes, offset=index * self.tape_bytes)
            self._mapped.append((ring, tape))
        for index, (ring, tape) in enumerate(self._mapped):
            yield self.base + index, ring, tape

    def _is_written(self, index: int) -> bool:
        """Whether a worker has used a ring; workers get the first that is free."""
        head = os.pread(self.descriptor, 8, index * STRIDE)
        return len(head) == 8 and struct.unpack("Q", head) != (0,)

    def look(self, pid_of: Callable[[int], int]) -> bool:
        """Observer: return whether anything may still be written; called at each reading.

        A supervisor that was killed notes the end of no worker. It is noted here, once the worker is gone too.

        Args:
            pid_of: returns the process id of the worker that writes to a ring, by its number; 0 for none.
        """
        now = time.monotonic()
        if not self._is_locked or now < self._look_at:
            return True
        self._look_at = now + LOOK_S
        if is_alive(self.supervisor):
            return True
        writers = {index: pid_of(self.base + index) for index in range(len(self._mapped))}
        for index, pid in writers.items():
            if pid and not is_alive(pid):
                clear(self._mapped[index][0], now)
        return any(writers.values())

    def close(self) -> None:
        """Close the descriptors."""
        for descriptor in self.descriptors():
            with suppress(OSError):
                os.close(descriptor)
        self.descriptor = self.tapes = -1


def is_alive(pid: int) -> bool:
    """Whether there is a process with an id."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
