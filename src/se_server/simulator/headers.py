"""Check the headers and the query that an upgrade request shall carry, before they reach a client library."""

from __future__ import annotations

import re

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110, 5.6.2


def check_header(name: str, value: str) -> None:
    """Check one header.

    Raises:
        ValueError: no request can carry it; the text says why.
    """
    if _TOKEN.fullmatch(name) is None:
        raise ValueError("this is not a header name: it has letters, digits and hyphens")
    if not value.isprintable() or not value.isascii():
        raise ValueError(f"the value of {name} has a line end or a letter that no header can carry")


def check_query(query: str) -> None:
    """Check the query of a URL, without its question mark.

    Raises:
        ValueError: it has a character that must be percent-encoded.
    """
    if not query.isascii() or not query.isprintable() or set(query) & set(' #"<>\\^`{|}'):
        raise ValueError(
            "the query has a blank or another character that has to be percent-encoded, as in name=J%20Doe"
        )
