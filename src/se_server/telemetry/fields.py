"""`Fields`: the named values of a log record."""

from __future__ import annotations

import json
import re

from se_server.telemetry._printable import text_of

_BARE = re.compile(r"\w[\w.:+-]*", re.ASCII)


class Fields(dict[str, object]):
    """The named values of a log record: `name=value` in a line of text, keys of an object in JSON.

    Texts other than plain words are quoted, so that no text looks like another field.
    """

    def __str__(self) -> str:
        return " ".join(f"{name}={_quoted(value)}" for name, value in self.items())


def _quoted(value: object) -> str:
    if value is None:
        return "-"
    text = " ".join(map(text_of, value)) if isinstance(value, list) else text_of(value)
    return text if _BARE.fullmatch(text) else json.dumps(text)
