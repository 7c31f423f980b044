"""The paths of routes: exact ones, templates with parameters, and prefixes.

A path is compared as the request carries it: nothing is decoded, joined or resolved before a route is chosen, so that
`//`, `.` and `..` are segments like others. Only the value of a parameter is decoded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum
from urllib.parse import unquote_to_bytes

from se_server.errors import ConfigError
from se_server.server.door.routes import OWN_PATHS

MAX_SEGMENTS = 16
MAX_VALUE_CHARS = 256
_PARAMETER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_ESCAPES = re.compile(r"%(?![0-9A-Fa-f]{2})")
_FORBIDDEN = frozenset("/\\")


class Kind(IntEnum):
    """The kinds of paths, in the order in which they are tried."""

    EXACT = 0
    TEMPLATE = 1
    PREFIX = 2
    ANY = 3


@dataclass(frozen=True)
class Pattern:
    """The path of a route.

    Attributes:
        text: the path as it was written; None for every path.
        kind: how it is compared.
        segments: the parts between its slashes; of a prefix without the `*`. The name of a parameter stands for its
            segment in `names`.
        names: the name of each parameter, by the index of its segment.
    """

    text: str | None
    kind: Kind
    segments: tuple[str, ...] = ()
    names: tuple[tuple[int, str], ...] = ()

    @classmethod
    def of(cls, path: str | None) -> Pattern:
        """Read a path: `/ws`, `/ws/{tenant}`, `/ws/*`; None or `/*` for every path.

        Raises:
            ConfigError: no request can match it, or it is malformed; one sentence with the way out.
        """
        if path is None or path == "/*":
            return cls(path, Kind.ANY)
        _check(path)
        segments = tuple(path.split("/")[1:])
        if segments[-1] == "*":
            _refuse_marks(path, segments[:-1], "*{}", "a prefix is literal up to its /*")
            _check_length(path, segments)
            return cls(path, Kind.PREFIX, segments[:-1])
        _refuse_marks(path, segments, "*", "a * stands alone after the last slash, as in /ws/*")
        names = tuple((place, found[1]) for place, part in enumerate(segments) if (found := _PARAMETER.fullmatch(part)))
        others = [part for place, part in enumerate(segments) if place not in dict(names)]
        _refuse_marks(path, others, "{}", "a parameter is a whole segment with a name, as in /ws/{tenant}")
        if not names:
            return cls(path, Kind.EXACT, segments)
        _check_length(path, segments)
        if len({name for _, name in names}) < len(names):
            raise ConfigError(f"path {path!r} has two parameters of the same name: give each its own")
        return cls(path, Kind.TEMPLATE, segments, names)

    @property
    def literals(self) -> int:
        """The number of segments that are compared; of two templates that match, the one with more of them wins."""
        return len(self.segments) - len(self.names)

    def values(self, segments: list[str]) -> dict[str, str] | None:
        """Return the values of the parameters; None if one of them is not acceptable."""
        found = {}
        for place, name in self.names:
            value = _value_of(segments[place])
            if value is None:
                return None
            found[name] = value
        return found


def _check(path: str) -> None:
    if not path.startswith("/"):
        raise ConfigError(f"path {path!r} can never match a request: begin it with a slash, as in '/{path}'")
    if not path.isascii() or not path.isprintable() or set(path) & set(" ?#"):
        raise ConfigError(
            f"path {path!r} can never match a request: leave the query out, and percent-encode non-ASCII characters"
        )
    if path in OWN_PATHS:
        raise ConfigError(f"path {path!r} belongs to health checks: choose another one, such as '/ws'")


def _check_length(path: str, segments: tuple[str, ...]) -> None:
    if len(segments) > MAX_SEGMENTS:
        raise ConfigError(
            f"path {path!r} has {len(segments)} segments: a template or prefix has {MAX_SEGMENTS} at most"
        )


def _refuse_marks(path: str, segments: tuple[str, ...] | list[str], marks: str, rule: str) -> None:
    if any(mark in part for part in segments for mark in marks):
        raise ConfigError(f"path {path!r}: {rule}")


def _value_of(segment: str) -> str | None:
    """Decode a parameter; None if it is empty or long, or could be mistaken by code that uses it as a name.

    Those are `.` and `..`, slashes and backslashes, control and format characters, and what is not valid UTF-8.
    """
    if "%" not in segment and segment.isascii():
        text = segment  # printable, as the handshake has checked
    else:
        if _ESCAPES.search(segment):
            return None
        try:
            text = unquote_to_bytes(segment.encode("latin-1")).decode()
        except UnicodeDecodeError:
            return None
    if not text or text in (".", "..") or len(text) > MAX_VALUE_CHARS or not _FORBIDDEN.isdisjoint(text):
        return None
    return text if text.isprintable() else None
