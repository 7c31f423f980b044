from asyncio import Future

from typing_extensions import disjoint_base  # type checkers know it without the package

@disjoint_base
class Sink:
    """The receiver of an answer's messages, which are put one by one and leave together at the flush."""
    @property
    def closed(self) -> bool:
        """Whether nothing may be written any more."""
    @property
    def writable(self) -> bool:
        """Whether the peer reads fast enough; a stream waits for `room` when it does not."""
    def flush(self) -> int:
        """Write what was put."""
    def room(self) -> Future[None]:
        """Return a future that is done when the sink is writable again, or closed."""
