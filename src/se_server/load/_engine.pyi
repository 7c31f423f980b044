"""The loop of a load generator: one thread that holds many conversations, from bytes to figures."""

from typing import final

from se_server.load.plan import LoadPlan
from se_server.load.target import Target

COUNTERS: tuple[str, ...]
"""The 64-bit integers at the start of a slot, by name; those from `asked` on begin anew with each run."""
HISTOGRAMS_AT: int
"""Where a slot has its histograms: to the first text, to the final, of the handshakes."""
SLOT_BYTES: int
"""The memory that an engine writes its figures to."""

@final
class Conversation:
    """One caller's place: its connection, its transcript, its turn."""

@final
class Poller:
    """Which sockets are ready."""

    def __new__(cls, is_portable: bool) -> Poller: ...

@final
class Engine:
    """Holds the conversations of a plan.

    Args:
        plan: what to do.
        target: whom to call.
        memory: writable memory of `SLOT_BYTES`, where the figures go; others may read it meanwhile.
        control_fd: a descriptor that ends a round early by becoming readable; it is not read.
        is_portable: wait by Python's `selectors` although there is epoll.
    """

    errors: dict[str, int]
    """How often what went wrong, in this round."""
    failures: list[str]
    """The first few of every kind in words."""

    def __new__(
        cls, plan: LoadPlan, target: Target, memory: object, control_fd: int = -1, is_portable: bool = False
    ) -> Engine: ...
    def connect(self, timeout_s: float, per_s: float | None = None, count: int | None = None) -> float:
        """Open all conversations, or the first so many, that are not open; return how long it took, in seconds."""

    def run(self, seconds: float, turns: int | None = None) -> float:
        """Hold the conversations for so long or so many turns, let every open turn end, and return how long it took."""

    def hang_up(self) -> None:
        """End all conversations as the API does, and wait for the server to close them, two seconds at most."""

    def close(self) -> None:
        """Drop everything."""

def build_frame(opcode: int, payload: bytes, random: int) -> bytes:
    """Return a client's frame; for tests."""

def read_frames(data: bytes) -> tuple[list[tuple[int, bool, bytes]], int]:
    """Return (opcode, is the last fragment, payload) of a server's whole frames, and their bytes; for tests.

    Raises:
        ValueError: a frame breaks RFC 6455.
    """

def read_messages(messages: list[bytes], event_id: bytes) -> list[str | tuple[bytes, bool, bool] | None]:
    """Return of each message (the content's raw JSON, has it this id, is it final); for tests.

    None stands for one that is no `agent_response`, and a sentence for one that cannot be read.
    """

def cut_text(text: bytes, most: int) -> bytes:
    """Return the inside of a JSON string cut to so many bytes, at the end of a character; for tests."""
