"""The observer gives way to the workers: a caller does not wait while the events of many turns are read.

A worker that wakes on the observer's core waits until the scheduler takes the core from the observer, which may be some
milliseconds. So the observer reads in pieces of some 50 microseconds, and offers its core after each.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TypeVar

__all__ = ["give_way", "in_pieces", "lower_priority"]

PIECE = 50
"""Records of a tape between two offers."""

_Item = TypeVar("_Item")

give_way = os.sched_yield
"""Let a process that waits for this core run first."""


def lower_priority() -> None:
    """Give this process less of a core that is wanted, and let it interrupt no other when it wakes."""
    with suppress(OSError):  # a sandbox may refuse either: the observer works without them
        os.nice(5)
        if sys.platform == "linux":
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def in_pieces(items: Iterable[_Item], piece: int = PIECE) -> Iterator[_Item]:
    """Return the items, and give way after every `piece` of them."""
    for number, item in enumerate(items, 1):
        yield item
        if number % piece == 0:
            give_way()
