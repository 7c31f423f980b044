"""Read a file of TOML."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def read_toml(path: str | Path) -> dict[str, Any]:
    """Read a file of TOML.

    Raises:
        OSError: the file cannot be read.
        ValueError, RecursionError: as for `parse_toml`.
    """
    return parse_toml(Path(path).read_bytes())


def parse_toml(content: bytes) -> dict[str, Any]:
    """Read TOML, with or without a byte order mark at its beginning, as editors on Windows write it.

    Raises:
        ValueError: it is not TOML; the message is a clause, with the way out of common mistakes.
        RecursionError: it is nested too deeply.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("it is not a text in UTF-8") from None
    try:
        return tomllib.loads(text)
    except ValueError as error:
        raise ValueError(f"{error}{_way_out(str(error), text)}") from None


def _way_out(message: str, text: str) -> str:
    if text.lstrip().startswith("{"):
        return "; it looks like JSON: write NAME = VALUE, one a line"
    if message.startswith("Expected '='"):
        return "; write NAME = VALUE"
    if message.startswith("Invalid value"):
        return "; texts stand in quotes"
    return "; a name is given twice" if message.startswith("Cannot overwrite") else ""
