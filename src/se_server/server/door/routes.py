"""The options of the one route that a server has, unless it has several: its path and its keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import quote

from se_server.auth import TokenVerifier
from se_server.options import flag, option, text
from se_server.server.listen.listening import LISTENING

ACCESS = "Access"
KEY_VARIABLE = "ELEVENLABS_API_KEY"
HEALTH_PATH = "/healthz"
LIVE_PATH = "/livez"
READY_PATH = "/readyz"
AVAILABLE_PATH = "/available"
OWN_PATHS = (HEALTH_PATH, LIVE_PATH, READY_PATH, AVAILABLE_PATH)
"""Paths of the door itself, which no route may have."""


def path(raw: object) -> str:
    """Read the path of a URL."""
    if isinstance(raw, str) and not raw.isascii():
        # Requests carry paths in this form, and are compared as they come.
        raise ValueError(f"non-ASCII letters percent-encoded, as in {quote(raw, safe='/%', errors='replace')}")
    if not isinstance(raw, str) or not raw.startswith("/"):
        raise ValueError("a path that starts with a slash, such as /ws")
    if raw in OWN_PATHS:
        raise ValueError(f"another path, such as /ws, because {raw} answers health checks")
    if "?" in raw or "#" in raw:
        raise ValueError("a path without a query and a fragment, which follow ? and #")
    if " " in raw or not raw.isprintable():
        raise ValueError(f"blanks percent-encoded, as in {quote(raw, safe='/%{}*', errors='replace')}")
    return raw


def keys(raw: object) -> tuple[str, ...]:
    """Read API keys: one text with commas between them, or several texts."""
    texts = [raw] if isinstance(raw, str) else raw
    if not isinstance(texts, list | tuple) or not all(isinstance(item, str) for item in texts):
        raise ValueError("a key, or several with commas between them")
    found = tuple(key(part) for item in texts for part in _without_marks(item).split(",") if part.strip())
    if not found:
        raise ValueError("a key without blanks, or several with commas between them")
    return tuple(dict.fromkeys(found))


def key(text: str) -> str:
    """Read one API key. The quotes, byte order mark and line end that files and shells leave around it are removed.

    Raises:
        ValueError: it is not a key; the text does not show it.
    """
    found = _without_marks(text)
    if not found or not found.isprintable() or not found.isascii() or set(found) & set(" \"'`"):
        raise ValueError("a key without blanks, quotes and non-ASCII characters")
    name, equals, _ = found.partition("=")
    if equals and name in (KEY_VARIABLE, "SE_SERVER_API_KEY"):
        raise ValueError(f"the key alone, without {name}=")
    return found


def _without_marks(text: str) -> str:
    text = text.strip().strip("\ufeff").strip()
    while len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1].strip().strip("\ufeff")
    return text


@dataclass(frozen=True)
class RouteOptions:
    """Path and keys of the route that a server has.

    Attributes:
        path: the only path that conversations may use; None for any.
        api_key: the keys in force.
        api_key_file: the file that they, or some of them, come from.
        disable_auth: whether conversations need no token.
    """

    HEADING: ClassVar[str] = ACCESS

    path: str | None = option(
        None,
        path,
        "The only path that conversations may use.",
        "PATH",
        default_text="any path",
        group=LISTENING,
    )
    api_key: tuple[str, ...] = option(
        (),
        keys,
        "The ElevenLabs API key that signs the tokens; may be given several times while keys are rotated. "
        "Other users of this machine can read it in the process list: prefer --api-key-file or the environment.",
        "KEY",
        default_text=f"${KEY_VARIABLE}",
        secret=True,
        repeatable=True,
    )
    api_key_file: str | None = option(None, text, "A file with one API key a line.", "FILE")
    disable_auth: bool = option(False, flag, "Accept conversations without a token. For tests and closed networks.")

    def verifier(self, more_keys: Sequence[str] = ()) -> TokenVerifier | None:
        """Make the verifier of tokens; None if authentication is off.

        Args:
            more_keys: the keys to use if no option gives one.
        """
        return None if self.disable_auth else TokenVerifier(self.api_key or more_keys)
