from typing import Any, Protocol, type_check_only

from typing_extensions import disjoint_base

from se_server.streams._takeover import Takeover

@type_check_only
class Client(Protocol):
    """The parts of an HTTP client that hold a connection."""
    @property
    def transport(self) -> Any:
        """The transport of the connection."""
    @property
    def protocol(self) -> Any:
        """Its protocol."""
    @property
    def tls(self) -> Any:
        """The TLS object with its buffers `incoming` and `outgoing`; None without TLS."""
    @property
    def read_timeout_s(self) -> float | None:
        """The time that may pass between two reads."""
    def received(self) -> list[bytes]:
        """Return what was received and not read."""
    def receive(self, data: bytes) -> None:
        """Take bytes of the body's framing, decrypted."""
    def restore(self, pauses: bool) -> None:
        """Take the connection back; with `pauses` its reading is paused."""
    def timeout(self) -> Exception:
        """Return the exception of a read that took too long."""

@disjoint_base
class Tap:
    """Reads the chunks of a response's body by callbacks of its transport.

    Args:
        takeover: gets the body.
        client: the parts of the HTTP client.
    """
    def __new__(cls, takeover: Takeover, client: Client) -> Tap: ...
    def skip(self, data: bytes) -> int:
        """Read what the client has received already; return the size of the body in it, -1 if it ends in a chunk."""
    def begin(self) -> None:
        """Take the connection over."""
    def resume(self) -> None:
        """Read on: the task waits for texts."""
    def wait(self, waiter: Any) -> Any:
        """Return the iterator of the wait for a future."""
    def leave(self) -> None:
        """Give the connection back as it is, for it to be closed."""
    def fail(self, error: Exception) -> None:
        """Raise an exception that came while the task waited."""
    def look(self) -> None:
        """Have the client's timeout raised if nothing was received for so long."""
    def connection_made(self, transport: Any) -> None:
        """Do nothing: the connection was made long before."""
    def data_received(self, data: bytes) -> None:
        """Take bytes of the transport."""
    def eof_received(self) -> bool | None:
        """Give the connection back: the server has closed it."""
    def connection_lost(self, error: Exception | None) -> None:
        """Give the connection back: it is lost."""
    def pause_writing(self) -> None:
        """Pass it on to the client."""
    def resume_writing(self) -> None:
        """Pass it on to the client."""
