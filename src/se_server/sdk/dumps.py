"""The options of pydantic's `model_dump` that change what is dumped, for objects that are not pydantic models."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def chosen(value: Any, include: Any, exclude: Any) -> Any:
    """Return the part of a dumped value that `include` and `exclude` leave.

    Args:
        value: plain dicts, lists and scalars.
        include, exclude: None, a set of names or indexes, or a mapping from them to True or to the same for what
            they hold; `"__all__"` stands for every item of a list.
    """
    if include is None and exclude is None:
        return value
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    else:
        return value
    kept = []
    for name, item in items:
        wanted = True if include is None else _choice(include, name)
        unwanted = False if exclude is None else _choice(exclude, name)
        if wanted is False or unwanted is True:
            continue
        kept.append((name, chosen(item, _deeper(wanted), _deeper(unwanted))))
    return dict(kept) if isinstance(value, dict) else [item for _, item in kept]


def _choice(choice: Any, name: Any) -> Any:
    """Return True, False, or the choice inside."""
    if isinstance(choice, Mapping):
        found = choice.get(name, choice.get("__all__", False))
        return True if found is ... else found
    return name in choice or "__all__" in choice


def _deeper(choice: Any) -> Any:
    return None if isinstance(choice, bool) else choice


def without_none(value: Any) -> Any:
    """Return a dumped value without the fields that are None, at any depth."""
    if isinstance(value, dict):
        return {name: without_none(item) for name, item in value.items() if item is not None}
    return [without_none(item) for item in value] if isinstance(value, list) else value


def json_of(value: Any, indent: int | None) -> str:
    """Return JSON as pydantic writes it: compact without `indent`, and never with escapes that UTF-8 does not need."""
    separators = (",", ":") if indent is None else None
    return json.dumps(value, ensure_ascii=False, separators=separators, indent=indent)
