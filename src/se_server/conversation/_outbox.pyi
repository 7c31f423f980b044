from collections.abc import Callable

from typing_extensions import disjoint_base  # type checkers know it without the package

from se_server.streams._sink import Sink

def buffers_out() -> int:
    """Return how many write buffers outboxes hold: none between two steps of the event loop."""

@disjoint_base
class Outbox(Sink):
    """The writing side of a session: messages are put one by one and leave together at the flush."""
    @property
    def fd(self) -> int:
        """The descriptor of the socket, if it may be written to; else -1."""
    def is_here(self) -> bool:
        """Whether the caller runs in the thread of the outbox, or the outbox has none yet."""
    def belong(self, here: bool) -> None:
        """Belong to the caller's thread, or to none until the next call."""
    def send(self, content: str, event_id_json: bytes, is_final: bool, more: bool = False) -> None:
        """Write one `agent_response`; with `more`, another follows at once and the two leave together."""
    def send_pong(self) -> None:
        """Write one `pong`."""

@disjoint_base
class MessageOutbox(Outbox):
    """An outbox over a connection of another library: messages are `str`.

    Args:
        deliver: called at each flush with a list of messages and the number of their bytes.
    """
    def __init__(self, deliver: Callable[[list[str], int], None]) -> None: ...
    def pause(self) -> None:
        """Note that the connection holds more unsent bytes than it should."""
    def resume(self) -> None:
        """Note that the connection takes more."""
    def shut(self) -> None:
        """Note that nothing may be written any more."""
