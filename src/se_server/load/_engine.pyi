"""The loop of a load generator: one thread holds many conversations."""

from typing import final

from se_server.load.plan import LoadPlan
from se_server.load.target import Target

COUNTERS: tuple[str, ...]
"""The names of the 64-bit integers at the start of a slot; those from `asked` on start from 0 in each run."""
HISTOGRAMS_AT: int
"""The offset of a slot's histograms: time to the first text, to the final, and of the handshakes."""
SLOT_BYTES: int
"""The size of the memory that an engine writes its figures to."""

@final
class Conversation:
    """One caller's place: its connection, its transcript and its turn."""

@final
class Poller:
    """A poller of sockets."""

    def __new__(cls, is_portable: bool) -> Poller: ...

@final
class Engine:
    """Holds the conversations of a plan.

    Args:
        plan: the plan.
        target: the server.
        memory: writable memory of `SLOT_BYTES` for the figures; other processes may read it at any time.
        control_fd: a descriptor that ends a round early by becoming readable; it is not read.
        is_portable: use Python's `selectors` even where epoll exists.
    """

    errors: dict[str, int]
    """The number of errors of each kind in this round."""
    failures: list[str]
    """The first few of each kind in words."""

    def __new__(
        cls, plan: LoadPlan, target: Target, memory: object, control_fd: int = -1, is_portable: bool = False
    ) -> Engine: ...
    def connect(self, timeout_s: float, per_s: float | None = None, count: int | None = None) -> float:
        """Open all conversations, or the first `count`, that are not open; return the time taken, in seconds."""

    def run(self, seconds: float, turns: int | None = None) -> float:
        """Hold the conversations for a time or a number of turns, let open turns end, and return the time taken."""

    def hang_up(self) -> None:
        """End all conversations as the API does, and wait up to two seconds for the server to close them."""

    def close(self) -> None:
        """Drop all connections."""

def build_frame(opcode: int, payload: bytes, random: int) -> bytes:
    """Return a client's frame; for tests."""

def read_frames(data: bytes) -> tuple[list[tuple[int, bool, bytes]], int]:
    """Return (opcode, is the last fragment, payload) of a server's whole frames, and their size; for tests.

    Raises:
        ValueError: a frame breaks RFC 6455.
    """

def read_messages(messages: list[bytes], event_id: bytes) -> list[str | tuple[bytes, bool, bool] | None]:
    """Return for each message (the content's raw JSON, has it this id, is it final); for tests.

    None stands for a message other than `agent_response`, and a sentence for one that cannot be read.
    """

def cut_text(text: bytes, most: int) -> bytes:
    """Return the inside of a JSON string cut to at most `most` bytes, at the end of a character; for tests."""
