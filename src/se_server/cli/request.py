"""Options of se-chat, se-doctor and se-bench for the upgrade request: headers and key."""

from __future__ import annotations

import os
from pathlib import Path

import click

from se_server.demo import DEMO_API_KEY
from se_server.errors import ConfigError
from se_server.options import read_lines
from se_server.simulator.headers import check_header


def read_headers(_context: click.Context, _option: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    """Read `Name: value` options; a click callback."""
    headers = {}
    for header in given:
        name, colon, value = header.partition(":")
        name, value = name.strip(" \t"), value.strip(" \t")
        if not colon or not name:
            raise click.BadParameter(f"{header!r} is not a header: write 'Name: value'")
        try:
            check_header(name, value)
        except ValueError as wrong:
            raise click.BadParameter(str(wrong)) from None
        headers[name] = value
    return headers


def signing_key(given: str | None, file: Path | None = None) -> tuple[str, str]:
    """Return the key that signs the token, and its origin in words.

    Args:
        given: the key of the command line.
        file: a file with one key a line, as for se-server; its first key is used. Without both, the key of the
            environment or the demo agent's is used.

    Raises:
        ConfigError: the file has no key.
    """
    if given:
        return given, "the key of --api-key"
    if file is not None:
        return _first_key(file), f"the key of {file}"
    # se-server accepts several keys there, while one replaces another.
    keys = (key.strip() for key in os.environ.get("ELEVENLABS_API_KEY", "").split(","))
    key = next(filter(None, keys), None)
    return (key, "the key of ELEVENLABS_API_KEY") if key else (DEMO_API_KEY, "the demo key")


def _first_key(file: Path) -> str:
    try:
        keys = read_lines(file)
    except ValueError as wrong:
        raise ConfigError(str(wrong)) from None
    if not keys:
        raise ConfigError(f"{file} has no key; expected one a line")
    return keys[0]
