"""Reads the value of `shape`: how the text of an answer is shaped for speech."""

from __future__ import annotations

import functools
import re

BY_SENTENCE = -1
MAX_WORDS = 100

_PART = re.compile(r"(plain)|(sentences?)|(?:(\d{1,3}) ?words?|words?[=: ](\d{1,3}))")
_OFF = ("off", "none", "false", "")
_EXPECTED = (
    "plain, which leaves out Markdown, links, code and emoji; sentences or '8 words', which is how much a chunk has; "
    "two of them with a comma, such as 'plain, sentences'; or off"
)


def read_shape(raw: object) -> str | None:
    """Read the value of the option; `true` is `plain`, and `off` is None.

    Raises:
        ValueError: it is not valid; the message follows the word "expected".
    """
    if raw is None or raw is False:
        return None
    if raw is True:
        return "plain"
    if not isinstance(raw, str):
        raise ValueError(_EXPECTED)
    found: dict[str, str] = {}
    text = raw.strip().lower()
    if text in _OFF:
        return None
    if text == "true":
        return "plain"
    for part in re.split(r"\s*[,+]\s*", text):
        match = _PART.fullmatch(part)
        if match is None:
            raise ValueError(_EXPECTED)
        words = match[3] or match[4]
        if words and not 1 <= int(words) <= MAX_WORDS:
            raise ValueError(f"from 1 to {MAX_WORDS} words in a chunk")
        kind = "plain" if match[1] else "by"
        if kind in found:
            raise ValueError(_EXPECTED)
        found[kind] = "plain" if match[1] else "sentences" if match[2] else f"{int(words)} words"
    return ", ".join(found[kind] for kind in ("plain", "by") if kind in found)


def parts_of(shape: str | bool | None) -> tuple[bool, int] | None:
    """Return whether marks are left out, and the words of a chunk: 0 for chunks as they come, or `BY_SENTENCE`.

    Raises:
        ValueError: the shape is not valid.
    """
    # Other types may have no hash, or that of another value: 1 equals True.
    return _parts_of(shape) if shape is None or isinstance(shape, str | bool) else _read_parts(shape)


def _read_parts(shape: str | bool | None) -> tuple[bool, int] | None:
    try:
        text = read_shape(shape)
    except ValueError as wrong:
        raise ValueError(f"shape={shape!r} is not valid: expected {wrong}") from None
    if text is None:
        return None
    by = 0
    if "words" in text:
        by = int(re.findall(r"\d+", text)[0])
    elif "sentences" in text:
        by = BY_SENTENCE
    return "plain" in text, by


_parts_of = functools.lru_cache(maxsize=64)(_read_parts)
