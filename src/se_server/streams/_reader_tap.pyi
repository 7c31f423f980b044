from typing import Any, Protocol, final, type_check_only

from se_server.streams._takeover import Takeover
from se_server.streams._tap import Client, Tap

@type_check_only
class ReaderClient(Client, Protocol):
    """The parts of aiohttp that hold a connection."""

    time_out: bool
    """Whether the connection is given back since a read took too long."""
    @property
    def content(self) -> Any:
        """The reader of the body."""
    def is_read(self) -> bool:
        """Return whether the reader has nothing left, and can go on."""
    def has_counted_chunk(self) -> bool:
        """Return whether the last thing that the reader has counted is the end of a chunk."""
    def wait(self, waiter: Any) -> Any:
        """Return an awaitable that is done with a future, within the limit of the request."""
    def stop_timeout(self) -> None:
        """Stop the timer of reads."""
    def start_timeout(self) -> None:
        """Start it again, or end it at once with `time_out`."""
    def end_reader(self) -> None:
        """End a reader whose connection is lost, if aiohttp itself does not."""

@final
class ReaderTap(Tap):
    """Reads the chunks of a response's body by callbacks of aiohttp's transport.

    Args:
        takeover: gets the body.
        client: the parts of aiohttp.
    """
    def __new__(cls, takeover: Takeover, client: ReaderClient) -> ReaderTap: ...
    def may_begin(self) -> bool:
        """Return whether all that was received is read, and the next bytes are those of a chunk's size."""
    def fail(self, error: Exception) -> None:
        """Give the connection back, and have the package get an exception."""
