"""The texts of conversations that the observer keeps: bounded, the oldest are given up first."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from se_server.recordings.writing import Expander, Taped
from se_server.telemetry._tape import IN, OPEN

MAX_OF_ONE = 4 * 1024 * 1024
"""The bytes of one conversation."""
RECORD_BYTES = 120
"""The memory of a record besides its bytes."""

Key = tuple[int, int]
"""A conversation: the process id of its worker, and its number there."""


class Kept:
    """The records of one conversation.

    Attributes:
        size: the bytes of memory that they take.
        cut: how many messages were given up.
    """

    def __init__(self) -> None:
        self.size = 0
        self.cut = 0
        self._records: deque[Taped] = deque()

    @property
    def records(self) -> Sequence[Taped]:
        """The records, oldest first."""
        return list(self._records)

    def add(self, when_us: int, kind: int, data: bytes) -> None:
        """Add a record."""
        self._records.append((when_us, kind, data))
        self.size += len(data) + RECORD_BYTES
        if self.size > MAX_OF_ONE:
            self.halve()

    def halve(self) -> None:
        """Give up the older half, but for the upgrade request. The first transcript that stays is made whole."""
        kept: deque[Taped] = deque()
        expander = Expander()
        target = self.size // 2
        is_whole = False
        while self._records and self.size > target:
            when_us, kind, data = self._records.popleft()
            if kind == OPEN:
                kept.append((when_us, kind, data))
                continue
            self.size -= len(data) + RECORD_BYTES
            self.cut += 1
            if kind == IN:
                expander.whole(data)
        for when_us, kind, data in self._records:
            if kind == IN and not is_whole:
                whole = expander.whole_record(data)
                is_whole = whole is not None
                self.size += len(whole or data) - len(data)
                data = whole or data
            kept.append((when_us, kind, data))
        self._records = kept


class Texts:
    """The records of all conversations.

    Args:
        max_bytes: the memory that they may take.

    Attributes:
        size: the memory that they take.
        cut: how many messages were given up for want of memory.
    """

    def __init__(self, max_bytes: int) -> None:
        self.size = 0
        self.cut = 0
        self._max_bytes = max_bytes
        self._open: dict[Key, Kept] = {}  # in the order in which something was last added
        self._ended: dict[Key, Kept] = {}
        self._forgotten: set[Key] = set()

    def add(self, key: Key, when_us: int, kind: int, data: bytes) -> None:
        """Add a record of a conversation."""
        if key in self._forgotten:
            return
        kept = self._ended.get(key) or self._open.pop(key, None) or Kept()
        if key not in self._ended:
            self._open[key] = kept
        before = kept.size
        kept.add(when_us, kind, data)
        self.size += kept.size - before
        while self.size > self._max_bytes and self._give_up():
            pass

    def of(self, key: Key) -> Kept:
        """Return the records of a conversation; none of one that is not known."""
        return self._open.get(key) or self._ended.get(key) or Kept()

    def end(self, key: Key) -> None:
        """Note that a conversation has ended: it is given up before those that go on."""
        if (kept := self._open.pop(key, None)) is not None:
            self._ended[key] = kept

    def drop(self, key: Key) -> None:
        """Give up a conversation that nobody can ask for any more."""
        kept = self._ended.pop(key, None) or self._open.pop(key, None)
        self.size -= 0 if kept is None else kept.size
        self._forgotten.discard(key)

    def forget(self, key: Key) -> None:
        """Give up a conversation, and take nothing more of it."""
        self.drop(key)
        self._forgotten.add(key)

    def _give_up(self) -> bool:
        """Give something up; return whether there was something."""
        if self._ended:
            kept = self._ended.pop(next(iter(self._ended)))
            self.size -= kept.size
            self.cut += len(kept.records)
            return True
        for key in list(self._open):
            kept = self._open[key]
            before, cut_before = kept.size, kept.cut
            kept.halve()
            self.size += kept.size - before
            self.cut += kept.cut - cut_before
            if kept.size < before:
                self._open[key] = self._open.pop(key)
                return True
        return False
