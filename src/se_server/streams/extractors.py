"""The functions that users register to find the text in events of their own classes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

Extractor = Callable[[Any], "str | None"]
"""Returns the text to speak of an event, None for nothing to speak."""

# By the last part of the name, since that is what a class knows of itself.
_extractors: dict[str, dict[str, Extractor]] = {}

on_change: list[Callable[[], None]] = []
"""Called after each registration: `_delta` remembers what it has asked."""


def register_extractor(name: str | type, extractor: Extractor | None) -> None:
    """Have a function find the text in the events of a class, and of its subclasses, in every conversation.

    Args:
        name: the class's dotted name, as `package.module.Class`; nothing is imported for it. The place where a package
            publishes the class will do as well as the one where it is defined. The class itself is taken, too.
        extractor: gets one event and returns the text to speak, or None for nothing to speak. None forgets the one
            that was registered.

    Raises:
        TypeError: `extractor` cannot be called.
        ValueError: `name` is no dotted name.
    """
    if isinstance(name, type):
        name = f"{name.__module__}.{name.__qualname__}"
    if not isinstance(name, str) or not all(part.isidentifier() or part == "<locals>" for part in name.split(".")):
        raise ValueError(f"register_extractor takes a dotted name, such as 'package.module.Class', not {name!r}")
    module, _, last = name.rpartition(".")
    if not module:
        raise ValueError(f"register_extractor takes a class's name with its module, such as 'package.{name}'")
    if extractor is None:
        _extractors.get(last, {}).pop(name, None)
    elif not callable(extractor):
        raise TypeError(f"register_extractor takes a function, not {type(extractor).__name__}")
    else:
        _extractors.setdefault(last, {})[name] = extractor
    for changed in on_change:
        changed()


def registered_modules() -> set[str]:
    """Return the top-level modules of the classes for which a function was registered."""
    return {name.partition(".")[0] for names in _extractors.values() for name in names} if _extractors else set()


def extractor_for(kind: type) -> Extractor | None:
    """Return the function that was registered for a class or for one of its bases, nearest first."""
    if not _extractors:
        return None
    for base in kind.__mro__:
        for name, extractor in _extractors.get(base.__name__, {}).items():
            module, _, last = name.rpartition(".")
            if name == f"{base.__module__}.{base.__qualname__}" or getattr(sys.modules.get(module), last, None) is base:
                return extractor
    return None
