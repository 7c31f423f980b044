"""Compare two texts by their words: a user's speech that is transcribed twice differs in case and punctuation."""

from __future__ import annotations

from unicodedata import category, normalize

MAX_COMPARED = 4096
"""Characters of a text that is compared; longer ones differ. Longer than anybody speaks in one turn."""


def same_words(one: str, other: str) -> bool:
    """Whether two texts differ in case, punctuation and white space only, in any script.

    Punctuation between two digits counts, since "3.5" is not "35". Texts without any word are not the same words.
    """
    if max(len(one), len(other)) > MAX_COMPARED:
        return False
    words = words_of(one)
    return bool(words) and words == words_of(other)


def is_spoken(text: str) -> bool:
    """Return whether a voice says anything for a text: white space, punctuation and control characters are silent."""
    return any(kind[0] in "LN" or kind in ("Sm", "Sc", "So") for kind in map(category, text))


def words_of(text: str) -> str:
    """Return what of a text is compared."""
    # Twice: folding the case may take a character apart.
    text = normalize("NFC", normalize("NFC", text).casefold())
    return "".join(character for index, character in enumerate(text) if _counts(character, text, index))


def _counts(character: str, text: str, index: int) -> bool:
    kind = category(character)
    if kind[0] == "P":
        return _stands_between_digits(text, index)
    return not (character.isspace() or kind[0] == "Z" or kind in ("Cc", "Cf"))


def _stands_between_digits(text: str, index: int) -> bool:
    return 0 < index < len(text) - 1 and text[index - 1].isdigit() and text[index + 1].isdigit()
