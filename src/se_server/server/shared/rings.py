"""The rings of events, one for each worker, in a file without a name that supervisor, workers and observer share.

A worker maps its own ring alone and closes the descriptor. Memory is taken as rings are written to: one MiB for each
slot that was ever used.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable, Iterator, Sequence

from se_server.server.shared.former_rings import MAX_FORMER, STRIDE, FormerRings, is_alive, lock_for_reading
from se_server.server.shared.memory import nameless_file
from se_server.server.shared.recording import NO_RECORDING, Recording
from se_server.telemetry._ring import RING_BYTES, Ring, clear
from se_server.telemetry._tape import Tape


class Rings:
    """The rings of all slots.

    Args:
        slots: the maximum number of workers at once.
        recording: what the workers hand over beside their events.
        former: the rings of earlier supervisors, owned from now on.
    """

    def __init__(self, slots: int, recording: Recording = NO_RECORDING, former: Sequence[FormerRings] = ()) -> None:
        self.former = list(former)
        for place, rings in enumerate(self.former, 1):
            rings.base = place * slots
        self._descriptor = nameless_file("rings", slots * STRIDE)
        self._mapped: dict[int, mmap.mmap] = {}
        self._recording = recording
        # Equal texts of all workers have equal hashes.
        self._key = None if recording.level == "off" else os.urandom(16)
        size = recording.tape_bytes
        self._tape_bytes = -(-size // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY
        self._tape_descriptor = nameless_file("rings", slots * self._tape_bytes) if size else -1
        self._tapes: dict[int, mmap.mmap] = {}

    def writer(self, index: int) -> Ring:
        """Worker: return the ring of a slot, for this process to write."""
        for rings in self.former:
            rings.close()
        tape = None
        now = time.monotonic()
        if self._tape_bytes:
            tape = Tape(self._map_tape(index), os.getpid(), now, self._recording.level == "full")
            os.close(self._tape_descriptor)
            self._tape_descriptor = -1
        ring = Ring(self._map(index), os.getpid(), now, self._key, tape)
        os.close(self._descriptor)  # children of user code have no business with it
        self._descriptor = -1
        return ring

    def memory(self, index: int) -> mmap.mmap:
        """Observer: return the memory of a slot's ring."""
        if index not in self._mapped:
            self._mapped[index] = self._map(index)
        return self._mapped[index]

    def tape(self, index: int) -> mmap.mmap | None:
        """Observer: return the memory of a slot's tape; None where no texts are recorded."""
        if not self._tape_bytes:
            return None
        if index not in self._tapes:
            self._tapes[index] = self._map_tape(index)
        return self._tapes[index]

    def begin_reading(self) -> None:
        """Observer: keep the observers of later supervisors from reading while this process lives."""
        lock_for_reading(self._descriptor)

    def of_earlier_supervisors(self) -> Iterator[tuple[int, mmap.mmap, mmap.mmap | None]]:
        """Observer: return the number, the ring and the tape of each worker of earlier supervisors."""
        for rings in self.former:
            yield from rings.memories()

    def forget_ended(self, pid_of: Callable[[int], int]) -> None:
        """Observer: give up the rings of supervisors that are gone with their workers; see `FormerRings.look`."""
        for rings in [rings for rings in self.former if not rings.look(pid_of)]:
            rings.close()
            self.former.remove(rings)

    def handed(self) -> list[FormerRings]:
        """Supervisor: return the rings to hand on to another one, its own last."""
        own = FormerRings(self._descriptor, self._tape_descriptor, self._tape_bytes, os.getpid())
        return [*self.former, own][-MAX_FORMER:]

    def sweep(self) -> None:
        """Supervisor: close the rings of supervisors that are gone; the observer has them open as long as it needs."""
        for rings in [rings for rings in self.former if not is_alive(rings.supervisor)]:
            rings.close()
            self.former.remove(rings)

    def clear(self, index: int) -> None:
        """Supervisor: note in the ring of a slot that its worker was reaped."""
        with self._map(index) as memory:
            clear(memory, time.monotonic())

    def _map_tape(self, index: int) -> mmap.mmap:
        return mmap.mmap(self._tape_descriptor, self._tape_bytes, offset=index * self._tape_bytes)

    def _map(self, index: int) -> mmap.mmap:
        return mmap.mmap(self._descriptor, RING_BYTES, offset=index * STRIDE)
