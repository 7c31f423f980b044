"""A worker's ring of events, in memory that the observer reads: one writer, one reader, no lock."""

from collections.abc import Mapping
from typing import Any, Final, final

from se_server.telemetry._tape import Tape

EVENTS: Final[int]
"""The number of events that a ring holds."""
RING_BYTES: Final[int]
"""The memory that a ring takes."""
NO_ID: Final[int]
"""The payload of a transcript without an id, or with one that is not a small integer."""
KINDS: Final[Mapping[int, str]]
"""The names of events."""
NAMED: Final[int]
BEGAN: Final[int]
ASKED: Final[int]
EVENT: Final[int]
READY: Final[int]
TEXTS: Final[int]
FILLER: Final[int]
FAILURE: Final[int]
LATE: Final[int]
ENDED: Final[int]
GONE: Final[int]
CLOSED: Final[int]
AGAIN: Final[int]
BLOCKED: Final[int]
ERROR: Final[int]
API_ERROR: Final[int]
SPAN: Final[int]

def clear(memory: Any, now_s: float) -> None:
    """Note in a ring that its worker was reaped. Called by the supervisor, when no worker writes."""

def waited_s(fd: int) -> float:
    """Return the seconds since the kernel received the last data of a TCP connection; 0 if that is not known.

    Args:
        fd: the descriptor of the connection; -1 without one.
    """

@final
class Ring:
    """The writing end of a ring.

    Args:
        memory: writable memory of at least `RING_BYTES`, all zeros at first.
        pid: the process id of the worker that writes.
        now_s: monotonic seconds, as in all methods.
        key: 16 secret bytes that texts are hashed with; None writes neither lengths nor hashes.
        tape: receives the texts; None for none.

    Attributes:
        tape: receives the texts; None for none.
        tracer: begins the spans of turns; None without traces.
        has_shapes: whether lengths and hashes of texts are written.
    """

    tape: Tape | None
    tracer: Any
    has_shapes: bool
    def __new__(
        cls, memory: Any, pid: int = 0, now_s: float = 0.0, key: bytes | None = None, tape: Tape | None = None
    ) -> Ring: ...
    def note(self, kind: int, conversation: int, payload: int, now_s: float) -> None:
        """Put an event."""

    def opened(self, now_s: float) -> int:
        """Put the beginning of a conversation, and return its number."""

    def text(self, kind: int, conversation: int, text: str, now_s: float) -> None:
        """Put an event with a text, which is cut to 150 bytes."""

    def transcript(self, conversation: int, event_id: object, now_s: float, fd: int) -> float:
        """Put a transcript, and the time at which the kernel had received its last byte.

        Args:
            event_id: the API's id of the turn.
            fd: the descriptor of the TCP connection; -1 without one.

        Returns:
            The seconds between the two.
        """

    def said(self, conversation: int, text: str | None, now_s: float) -> None:
        """Put the length and the hash of the user's last words."""

    def spoken(self, conversation: int, texts: list[str] | None, characters: int, now_s: float) -> None:
        """Put the length and the hash of an answer."""
