"""Hints about an answer that would go wrong on the live API or in a caller's ear."""

from __future__ import annotations

import re
from collections.abc import Iterable

CHARS_PER_S = 15.0
"""The pace of speech, in characters a second: about 150 English words a minute."""
LONG_S = 60.0
_SEEN = 24

_MARKDOWN = (
    ("a code block", re.compile(r"```")),
    ("a heading", re.compile(r"^ {0,3}#{1,6} +\S", re.MULTILINE)),
    ("a table", re.compile(r"^ *\|.*\| *$", re.MULTILINE)),
    ("a link", re.compile(r"\[[^\]\n]+\]\([^)\s]+\)")),
    ("bold text", re.compile(r"\*\*(?=\S)[^*\n]+?(?<=\S)\*\*|(?<!\w)__(?=\S)[^_\n]+?(?<=\S)__(?!\w)")),
    ("a list", re.compile(r"^ {0,3}(?:[-*+•]|\d{1,2}[.)]) +\S[^\n]*\n+ {0,3}(?:[-*+•]|\d{1,2}[.)]) +\S", re.MULTILINE)),
    ("emphasis", re.compile(r"(?<![\w*])\*(?=[^\s*])[^*\n]+?(?<=[^\s*])\*(?![\w*])")),
    ("code", re.compile(r"`[^`\n]+`")),
)


def speech_s(text: str) -> float:
    """Return how long a voice takes to speak a text, in seconds, estimated."""
    return len(" ".join(text.split())) / CHARS_PER_S


def markdown_in(text: str) -> str:
    """Return the name of the first kind of Markdown in a text, and an example; empty if there is none."""
    for name, pattern in _MARKDOWN:
        if found := pattern.search(text):
            example = " ".join(found[0].split())
            return f"{name} ({example if len(example) <= _SEEN else example[: _SEEN - 1] + '…'})"
    return ""


def hints_of(
    text: str, *, first_word_s: float | None, is_complete: bool, is_silence: bool, cascade_timeout_s: float
) -> Iterable[str]:
    """Yield one sentence for each thing that would go wrong, with the way out.

    Args:
        text: the answer as far as it has arrived.
        first_word_s: the time to the first word, or the time waited so far without one, in seconds.
        is_complete: whether the answer is complete.
        is_silence: whether it answers a pause without words, where an answer without words is proper.
        cascade_timeout_s: the engine's `cascade_timeout_seconds`.
    """
    words = any(character.isalnum() for character in text)
    if first_word_s is not None and first_word_s > cascade_timeout_s and not (is_complete and not words):
        yield (
            f"The first word took longer than {cascade_timeout_s:g} s (cascade_timeout_seconds): the API asks again by"
            " then, and gives up after three tries. Stream the answer, or speak a filler with --first-word-after-s."
        )
    if is_complete and not words and not is_silence:
        yield (
            "The answer has no words: the caller hears nothing, and the API may count it as a failed try. Set"
            " --failure-text or --empty-answer-text, or answer with a sentence."
        )
    if found := markdown_in(text):
        yield f"The answer has Markdown, which a voice reads aloud: {found}. Ask the model for plain sentences."
    if (long_s := speech_s(text)) > LONG_S:
        yield f"The answer takes some {long_s:.0f} s to speak, and callers rarely listen to more than 60: shorten it."
