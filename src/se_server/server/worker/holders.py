"""Names the variable that holds an object: `agent.client._pool`, for errors about what an import leaves open."""

from __future__ import annotations

import gc
import sys
from collections import deque
from types import ModuleType
from typing import Any

MAX_SEEN = 200_000
MAX_PARTS = 4
_PARTS = (dict, list, tuple, set, frozenset)


def holder_of(item: object) -> str:
    """Return `, held by NAME`, the shortest name that leads from a module to an object; empty if none is found."""
    if item is None:
        return ""
    own = (__name__.partition(".")[0], *sys.stdlib_module_names)
    waiting: deque[tuple[Any, str, int]] = deque()
    for name, module in list(sys.modules.items()):
        if isinstance(module, ModuleType) and name.partition(".")[0] not in own:
            waiting += [(value, f"{name}.{key}", 1) for key, value in list(vars(module).items())]
    seen: set[int] = set()
    while waiting and len(seen) < MAX_SEEN:
        value, name, parts = waiting.popleft()
        if value is item:
            return f", held by {name}"
        if id(value) in seen or isinstance(value, ModuleType | type) or not gc.is_tracked(value):
            continue
        seen.add(id(value))
        if parts < MAX_PARTS:
            waiting += [(inner, name + suffix, parts + 1) for inner, suffix in _inside(value)]
    return ""


def _inside(value: object) -> list[tuple[object, str]]:
    if type(value) is dict:
        return [(inner, f"[{key!r}]") for key, inner in list(value.items())]
    if type(value) in _PARTS:
        return [(inner, "[...]") for inner in list(value)]  # type: ignore[call-overload]
    try:
        attributes = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return []
    return [(inner, f".{key}") for key, inner in list(attributes.items())] if type(attributes) is dict else []
