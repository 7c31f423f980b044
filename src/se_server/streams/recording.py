"""The events of a stream as JSON, for recordings: whatever their class, as far as they can be shown, and bounded."""

from __future__ import annotations

import dataclasses
from typing import Any

import orjson

MAX_EVENT_BYTES = 16 * 1024
_MAX_DEPTH = 12
_OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY


def dump_event(event: object) -> bytes:
    """Return an event as JSON; never an exception, and `null` for what is too large."""
    try:
        data = orjson.dumps(event, _plain, _OPTIONS)
    except Exception:  # user code may run, and lone surrogates are no JSON
        try:
            data = orjson.dumps(_cut(event, _MAX_DEPTH), option=_OPTIONS)
        except Exception:
            return b"null"
    return data if len(data) <= MAX_EVENT_BYTES else b"null"


def _plain(value: Any) -> object:
    """Return a value that JSON has no form for as one that it has."""
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        return dump(exclude_none=True)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: getattr(value, item.name) for item in dataclasses.fields(value)}
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, set | frozenset):
        return list(value)
    fields = getattr(value, "__dict__", None)
    if isinstance(fields, dict) and not callable(value):
        return {name: item for name, item in fields.items() if not name.startswith("_")}
    return f"<{type(value).__name__}>"


def _cut(value: Any, depth: int) -> object:
    """Return a value as JSON has it, without what is deeper than `depth`."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if value is None or isinstance(value, bool | int | float):
        return value if not isinstance(value, int) or abs(value) < 2**63 else str(value)
    if depth == 0:
        return None
    if isinstance(value, dict):
        return {str(key): _cut(item, depth - 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_cut(item, depth - 1) for item in value]
    return _cut(_plain(value), depth - 1)
