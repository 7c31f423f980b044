"""The search for the capacity of a server: the load doubles until it is too much, then the gap is halved."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["MAX_STEPS", "find_capacity"]

MAX_STEPS = 40


def find_capacity(holds: Callable[[int], bool], first: int, most: int, precision: float = 0.05) -> int:
    """Return the largest number of conversations that was seen to hold; 0 if not even one does.

    Args:
        holds: whether the server holds so many conversations within its target.
        first: the number to begin with.
        most: the largest number to try.
        precision: the search ends when good and bad differ by this share of the good number, or by 1.
    """
    good, bad = 0, most + 1
    trial = min(first, most)
    for _ in range(MAX_STEPS):
        if holds(trial):
            good = trial
        else:
            bad = trial
        if bad - good <= max(1, int(good * precision)):
            break
        trial = min(2 * good, most) if bad > most else (good + bad) // 2
    return good
