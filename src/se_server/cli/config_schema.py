"""`se-server --print-schema`: the JSON Schema of the configuration file, with which editors complete and check it."""

from __future__ import annotations

import inspect
import json
from typing import Any

from se_server.conversation.settings import SessionSettings
from se_server.options import Option, options_of
from se_server.server.config.options import BY_NAME, OPTIONS
from se_server.server.config.routes import KEY as ROUTES
from se_server.server.config.routes import OF_ROUTES

_TEXT: dict[str, Any] = {"type": "string"}
_NUMBER: dict[str, Any] = {"type": "number", "minimum": 0}
_SIZE: dict[str, Any] = {
    "anyOf": [
        {"type": "integer", "minimum": 1},
        {"type": "string", "pattern": r"^\s*\d+(\.\d+)?\s*([KkMmGg]([Ii]?[Bb])?|[Bb])?\s*$"},
    ]
}
_BY_READER: dict[str, dict[str, Any]] = {
    "address": _TEXT,
    "choice": {"type": "boolean"},
    "count": {"type": "integer", "minimum": 1},
    "descriptors": {"type": "integer", "minimum": 3},
    "duration": _NUMBER,
    "file_mode": {"type": "string", "pattern": r"^(0o)?[0-7]{1,4}$"},
    "flag": {"type": "boolean"},
    "interval": {"type": "number", "exclusiveMinimum": 0},
    "interval_or_off": {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"enum": ["off", False]}]},
    "memory": _SIZE,
    "number": {"type": "integer", "minimum": 1},
    "path": {"type": "string", "pattern": r"^/[^?#\s]*$"},
    "port": {"type": "integer", "minimum": 0, "maximum": 65535},
    "rate": {"type": "number", "exclusiveMinimum": 0},
    "size": _SIZE,
    "size_or_off": {"anyOf": [*_SIZE["anyOf"], {"enum": ["off", False]}]},
}
"""The schema of a value by the name of its reader; any other reader takes texts."""


def schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 7, which editors of TOML know) of the configuration file."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Configuration of se-server",
        "type": "object",
        "additionalProperties": False,
        "properties": {**{option.name: _described(option) for option in OPTIONS}, ROUTES: _routes()},
    }


def _routes() -> dict[str, Any]:
    own = {
        "name": {"description": "Its name in logs, metrics and errors. Default: its path.", **_TEXT},
        "max_sessions": {"description": "Conversations at once, over all workers.", **_BY_READER["number"]},
        "host": {"description": "The name in the requests' Host header. Default: every name.", **_TEXT},
    }
    options = {name: _described(BY_NAME[name]) for name in OF_ROUTES}
    options["path"] = {"description": "/ws, /ws/{tenant} or /ws/*. Default: every path.", **_TEXT}
    route = {"type": "object", "additionalProperties": False, "properties": {**own, **options}}
    return {"description": "Several engines in one server, see docs/routes.md.", "type": "array", "items": route}


def print_schema() -> None:
    """Print the schema."""
    print(json.dumps(schema(), indent=2, ensure_ascii=False))


def _described(option: Option) -> dict[str, Any]:
    value = _value(option)
    if option.repeatable:
        value = {"anyOf": [value, {"type": "array", "items": value}]}
    found: dict[str, Any] = {"description": option.help, **value}
    if isinstance(option.default, bool | int | float | str):
        found["default"] = option.default
    elif option.default_text:
        found["description"] += f" Default: {option.default_text}."
    if option.name in options_of(SessionSettings):
        found["description"] += " Also a keyword of serve()."
    return found


def _value(option: Option) -> dict[str, Any]:
    words = inspect.getclosurevars(option.parse).nonlocals.get("words")
    if words is not None:
        return {"enum": list(words)}
    return _BY_READER.get(option.parse.__name__, _TEXT)
