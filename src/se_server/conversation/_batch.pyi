from asyncio import AbstractEventLoop
from collections.abc import Callable

from typing_extensions import disjoint_base  # type checkers know it without the package

@disjoint_base
class Due:
    """Something that a batch runs."""

@disjoint_base
class Batch:
    """The turns of one event loop that start in its next step.

    Args:
        loop: whose steps.
        clock: gives seconds that never go back.
    """
    def __init__(self, loop: AbstractEventLoop, clock: Callable[[], float]) -> None: ...
    @property
    def loop(self) -> AbstractEventLoop:
        """The event loop."""
    def __call__(self) -> None:
        """Run what is due now; the loop calls it."""

def batch_of(loop: AbstractEventLoop, clock: Callable[[], float] = ...) -> Batch | None:
    """Return the batch of an event loop, one for all its conversations; None if it has none.

    Args:
        loop: the loop.
        clock: of a batch that is made now; gives seconds that never go back.
    """
