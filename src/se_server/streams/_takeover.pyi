from collections.abc import AsyncIterator, Awaitable, Generator
from typing import Any, Protocol, final, type_check_only

from se_server.streams._source import Source

@type_check_only
class Body(Protocol):
    """The body of a package's response."""
    @property
    def ends_empty(self) -> bool:
        """Whether `read` gives an empty piece at the end; else it raises StopAsyncIteration."""
    def read(self) -> Awaitable[bytes]:
        """Return an awaitable of the next piece."""
    def give_back(self, rest: bytes, error: Exception | None) -> AsyncIterator[Any]:
        """Have the package read the rest of the body, of which `rest` was read already, and return its events.

        Args:
            rest: the bytes before all that is still to be read.
            error: raised after them, if it is not None.
        """
    def close(self, rest: AsyncIterator[Any] | None) -> Awaitable[None]:
        """Close what reads the body, and the events that `give_back` returned."""

@final
class Takeover(Source, AsyncIterator[Any]):
    """The events of a stream: lists of texts, and the package's own events after the first that was no text.

    Args:
        body: reads the response.
        watch: the kind of event stream: 1: events may have names; 2: those without a name are skipped; 3: those with
            a name are read differently; 4: all lines but data are errors; 5: all events but chat chunks are errors.
    """
    def __new__(cls, body: Body, watch: int) -> Takeover: ...
    @property
    def is_tapped(self) -> bool:
        """Whether the connection is read by callbacks."""
    def set_tap(self, tap: Any, after_bytes: int) -> None:
        """Have the body read by a tap once so many bytes of it were read; -2: once the tap is ready."""
    def __aiter__(self) -> Takeover: ...
    def __anext__(self) -> Any: ...
    def __await__(self) -> Generator[Any, Any, list[str]]: ...
    def __iter__(self) -> Generator[Any, Any, list[str]]: ...
    def __next__(self) -> Any: ...
    def failed(self) -> list[str]:
        """Take the exception that a C function has left."""
    def send(self, value: object) -> Any:
        """Run to the next suspension, as a coroutine does."""
    def throw(self, kind: BaseException | type[BaseException], value: object = ..., traceback: object = ...) -> Any:
        """Raise an exception at the suspension, as a coroutine does."""
    def close(self) -> None:
        """Close the awaitable in progress, as `close` of a coroutine does."""
    def aclose(self) -> Awaitable[None]:
        """Give the connection back, and close what reads the body."""
