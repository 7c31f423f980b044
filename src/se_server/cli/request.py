"""What an upgrade request of se-chat and se-doctor carries, as their options say it."""

from __future__ import annotations

import os
import re

import click

from se_server.demo import DEMO_API_KEY

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110, 5.6.2


def read_headers(_context: click.Context, _option: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    """Read `Name: value` options; a click callback."""
    headers = {}
    for header in given:
        name, colon, value = header.partition(":")
        name, value = name.strip(" \t"), value.strip(" \t")
        if not colon or not name:
            raise click.BadParameter(f"{header!r} is no header: write 'Name: value'")
        if _TOKEN.fullmatch(name) is None:
            raise click.BadParameter(f"{name!r} is no header's name: it has letters, digits and hyphens")
        if not value.isprintable() or not value.isascii():
            raise click.BadParameter(f"the value of {name} holds a line end or a letter that no header can carry")
        headers[name] = value
    return headers


def signing_key(given: str | None) -> tuple[str, str]:
    """Return the key that signs the token, and where it comes from, for people.

    Args:
        given: the key of the command line; None takes it from the environment, or else the demo agent's.
    """
    if given:
        return given, "the key of --api-key"
    # se-server takes several keys there, while one replaces another.
    keys = (key.strip() for key in os.environ.get("ELEVENLABS_API_KEY", "").split(","))
    key = next(filter(None, keys), None)
    return (key, "the key of ELEVENLABS_API_KEY") if key else (DEMO_API_KEY, "the demo key")
