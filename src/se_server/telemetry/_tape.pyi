"""A worker's tape: messages of its conversations, in memory that the observer reads."""

from typing import Any, Final, final

HEAD_BYTES: Final[int]
"""The bytes of a tape that hold no records."""
BORN: Final[int]
"""A worker begins to write; in place of the conversation stands its process id."""
OPEN: Final[int]
"""The upgrade request, as JSON."""
IN: Final[int]
"""A message of the API: see `se_server.server.observer.messages`."""
OUT: Final[int]
"""Frames that were written."""
STREAM: Final[int]
"""A stream of events begins, with the event id of its turn as JSON."""
EVENT: Final[int]
"""An event of a stream, as JSON."""
ERROR: Final[int]
"""An exception of user code."""
TEXT: Final[int]
"""An event of a stream that is a text, as it is."""

@final
class Tape:
    """The writing end of a tape.

    Args:
        memory: writable memory, all zeros at first, in whole words.
        pid: the process id of the worker that writes.
        now_s: monotonic seconds, as in all methods.
        has_events: whether the events of streams are written, too.
    """

    has_events: bool
    def __new__(cls, memory: Any, pid: int = 0, now_s: float = 0.0, has_events: bool = False) -> Tape: ...
    def note(self, kind: int, conversation: int, data: bytes, now_s: float) -> bool:
        """Put a record; return whether there was room."""

def begin_reading(memory: Any) -> None:
    """Note in a tape that it has a new reader."""

def read_tape(memory: Any) -> list[tuple[int, int, int, int, bytes]]:
    """Return the new records of a tape, `(pid, kind, conversation, microseconds, bytes)`, and make room for others."""

def lost_records(memory: Any) -> int:
    """Return how many records did not fit into a tape."""
