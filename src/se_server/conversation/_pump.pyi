from asyncio import Future
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, final

from typing_extensions import disjoint_base  # type checkers know it without the package

from se_server.conversation._clock import Clock
from se_server.protocol.turns import Turn

def buffers_out() -> int:
    """Return how many write buffers outboxes hold: none between two steps of the event loop."""

@disjoint_base
class Outbox:
    """Where a session writes: messages are put one by one and leave together at the flush."""
    @property
    def closed(self) -> bool: ...
    @property
    def writable(self) -> bool: ...
    def is_here(self) -> bool:
        """Whether the caller runs in the thread of the outbox."""
    def send(self, content: str, event_id_json: bytes, is_final: bool, more: bool = False) -> None:
        """Write one `agent_response`; with `more`, another follows at once and the two leave together."""
    def flush(self) -> int:
        """Write what was put."""
    def send_pong(self) -> None:
        """Write one `pong`."""
    def pump(self, iterator: AsyncIterator[object], turn: Turn, clock: Clock) -> Pump:
        """Return what sends an async iterator's texts as the answer of a turn when it is awaited.

        Args:
            iterator: an async iterator of `str` or LLM events. It is not closed here.
            turn: whose texts they are; its id is read at each write, since a turn may be adopted.
            clock: gives the time for the turn.
        """
    def room(self) -> Future[None]:
        """Return a future that is done when the outbox is writable again, or closed."""

@disjoint_base
class MessageOutbox(Outbox):
    """For connections of other libraries: messages are `str`, delivered as a list at each flush."""
    def __init__(self, deliver: Callable[[list[str]], None]) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def shut(self) -> None: ...

@final
class Pump(Awaitable[None]):
    """Send the texts of an async iterator as a turn's answer; await it to run it. `Outbox.pump` makes it.

    It ends when the iterator ends, when the turn is no longer open or when the outbox is closed; an exception of the
    iterator passes through, after the text before it was written. The last texts are left in the outbox unflushed, so
    that the final can leave with them.
    """
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Refuse: `Outbox.pump` makes them."""
    def __await__(self) -> Iterator[Any]: ...  # type: ignore[override]
    def __iter__(self) -> Iterator[Any]: ...
    def __next__(self) -> Any: ...
    def send(self, value: object) -> Any: ...
    def throw(self, kind: BaseException | type[BaseException], value: object = ..., traceback: object = ...) -> Any: ...
    def close(self) -> None: ...
