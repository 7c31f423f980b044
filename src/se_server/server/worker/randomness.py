"""Random numbers of forked workers: those that nobody has seeded differ from worker to worker.

Python seeds the functions of `random` again after a fork, and OpenSSL does so for itself. Generators that libraries
made before the fork, and numpy's, would give all workers the same numbers.
"""

from __future__ import annotations

import random
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_DRAWN_BITS = 64  # numpy draws 128 bits where no seed is given; seeds of programs are shorter

_unseeded: weakref.WeakSet[random.Random] = weakref.WeakSet()
_numpy: list[Any] = []


@contextmanager
def noting_generators() -> Iterator[None]:
    """Note the generators that are made without a seed in this block."""
    seed = random.Random.seed

    def noting_seed(self: random.Random, a: Any = None, version: int = 2) -> None:
        (_unseeded.add if a is None else _unseeded.discard)(self)
        seed(self, a, version)

    random.Random.seed = noting_seed  # type: ignore[method-assign]
    try:
        yield
    finally:
        if random.Random.seed is noting_seed:  # else a library has wrapped it
            random.Random.seed = seed  # type: ignore[method-assign]


def find_numpy_generators(objects: list[Any]) -> None:
    """Note the generators of numpy among objects that were made without a seed."""
    module = sys.modules.get("numpy.random")
    kind = getattr(module, "Generator", None)
    if isinstance(kind, type):
        _numpy[:] = [each for each in objects if type(each) is kind and _was_drawn(each)]


def _was_drawn(generator: Any) -> bool:
    entropy = getattr(getattr(generator.bit_generator, "seed_seq", None), "entropy", None)
    return isinstance(entropy, int) and entropy.bit_length() > _DRAWN_BITS


def renew_random_state() -> None:
    """Seed the noted generators again, and numpy's functions; called in a forked worker."""
    for generator in list(_unseeded):
        generator.seed()
    for each in _numpy:
        each.bit_generator.state = type(each.bit_generator)().state
    module = sys.modules.get("numpy.random")
    if module is not None:
        module.seed()
