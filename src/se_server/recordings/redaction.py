"""Redaction: card numbers, e-mail addresses, telephone numbers, IBANs and tokens, replaced in the texts of recordings.

A pattern may be split over the chunks of an answer, so an answer is read as one text, and what is found is taken out of
each of its chunks.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import accumulate

Redactor = Callable[[str], str]
"""The user's own function: takes a text, and returns it without what is private."""

FAILED = "[redaction failed]"
Span = tuple[int, int, str]

# Between two digits: blanks of any kind, invisible characters, dots, slashes, and hyphens of any kind.
_GAP = r"[\s\u00ad\u200b-\u200f\u2010-\u2015\u2060\u2212\ufeff._/\-]{0,3}"
_BEFORE_AT = re.compile(r"[^\s@<>()\[\]\",;:\\]{1,128}\s?\Z")
_AFTER_AT = re.compile(r"\s?[^\s@<>()\[\]\",;:\\]{1,255}")
_SAID_AT = re.compile(r"\s(?:at|\(at\)|\[at\])\s", re.IGNORECASE)
_BEFORE_SAID_AT = re.compile(r"[\w.+-]{1,128}\Z")
_AFTER_SAID_AT = re.compile(
    r"\s*[\w-]{1,64}(?:(?:\.|\s{1,2}dot\s{1,2}|\s{0,2}[(\[]dot[)\]]\s{0,2})[\w-]{1,64}){1,8}", re.IGNORECASE
)
_CARD = re.compile(rf"(?<!\d)\d(?:{_GAP}\d){{11,}}")
_IBAN = re.compile(rf"(?=[^\W\d_]{{2}}\d\d|(?<![^\W_])[^\W\d_]{_GAP}[^\W\d_]{_GAP}\d{_GAP}\d)")
_IBAN_RUN = re.compile(rf"[^\W_](?:{_GAP}[^\W_]){{14,33}}")
_PHONE = re.compile(rf"(?<!\d)(?:\+\s?)?\(?\+?\d(?:[()]?{_GAP}[()]?{_GAP}\d){{5,}}")
_DATE = re.compile(r"\d{4}[-./]\d{1,2}[-./]\d{1,2}|\d{1,2}[-./]\d{1,2}[-./]\d{4}")
_TOKEN = re.compile(
    r"eyJ[\w-]{5,}\.[\w-]+\.[\w-]*|\bsk[_-][\w-]{12,}|sk[_-](?=[\w-]*\d|\w{20})[\w-]{12,}|bearer\s+[\w.~+/-]{12,}=*",
    re.IGNORECASE,
)
_SUREST = ("[iban]", "[card]", "[token]", "[email]", "[phone]")
_MIN_CARD, _MAX_CARD = 12, 19
_MIN_PHONE = 7
_MIN_IBAN = 15
_MIN_IBAN_DIGITS = 5
"""The digits behind the check digits: words of a sentence have the right check digits now and then."""


def redact(text: str, own: Redactor | None = None) -> str:
    """Return a text in which private values are replaced, such as a card number by `[card]`."""
    return redact_parts([text], own)[0]


def redact_parts(parts: Sequence[str], own: Redactor | None = None) -> list[str]:
    """Redact a text that is in several parts, such as the chunks of an answer.

    Args:
        parts: the parts, in order.
        own: the user's function, called with the whole text; a text at which it fails is replaced as a whole.
    """
    whole = "".join(parts)
    made = _replaced(list(parts), _spans(whole))
    whole = "".join(made)
    if own is None or not whole.strip():
        return made
    try:
        result = own(whole)
        if not isinstance(result, str):
            raise TypeError
    except Exception:
        result = FAILED
    return _replaced(made, [] if result == whole else [_difference(whole, result)])


def redact_utterances(texts: Sequence[str], own: Redactor | None = None) -> list[str]:
    """Redact the utterances of one speaker. A number with check digits is found although pauses have split it."""
    joined: list[str] = []
    found: list[Span] = []
    at = 0
    for text in texts:
        # Both readings are of the text as it was said: what one takes out must not hide a part of the other's.
        found += ((at + start, at + stop, name) for start, stop, name in _spans(text))
        joined += (text, " ")
        at += len(text) + 1
    split = _replaced(joined, _joined([*found, *_checked_spans("".join(joined))]))
    return [redact(text, own) for text in split[::2]]


@lru_cache(maxsize=4096)
def _spans(text: str) -> tuple[Span, ...]:
    """Return the private parts of a text, in order and without overlaps."""
    found = [*_checked_spans(text)]
    found += _emails(text)
    found += [(match.start(), match.end(), "[token]") for match in _TOKEN.finditer(text)]
    for match in _PHONE.finditer(text):
        digits = sum(character.isdigit() for character in match[0])
        if digits >= _MIN_PHONE and not _DATE.fullmatch(match[0]):
            found.append((match.start(), match.end(), "[phone]"))
    return tuple(_joined(found))


def forget_texts() -> None:
    """Forget the texts that were read lately."""
    _spans.cache_clear()
    _checked_spans.cache_clear()


def _emails(text: str) -> Iterator[Span]:
    """Yield the e-mail addresses, written or spelt, read from the `@` outwards, since patterns would take long."""
    at = text.find("@")
    while at >= 0:
        before = _BEFORE_AT.search(text, max(0, at - 129), at)
        after = _AFTER_AT.match(text, at + 1)
        if before is not None and after is not None and "." in after[0].strip(" ."):
            yield before.start(), at + 1 + len(after[0].rstrip(".!?")), "[email]"
        at = text.find("@", at + 1)
    for said in _SAID_AT.finditer(text):
        before = _BEFORE_SAID_AT.search(text, max(0, said.start() - 128), said.start())
        after = _AFTER_SAID_AT.match(text, said.end())
        if before is not None and after is not None:
            yield before.start(), after.end(), "[email]"


@lru_cache(maxsize=1024)
def _checked_spans(text: str) -> tuple[Span, ...]:
    """Return the numbers with check digits: cards and IBANs."""
    found: list[Span] = []
    for match in _CARD.finditer(text):
        found += _cards_in(text, match.start(), match.end())
    for match in _IBAN.finditer(text):
        run = _IBAN_RUN.match(text, match.start())
        end = 0 if run is None else _iban_end(text, run.start(), run.end())
        if end:
            found.append((match.start(), end, "[iban]"))
    return tuple(_joined(found))


def _cards_in(text: str, start: int, end: int) -> list[Span]:
    """Return the card numbers in a run of digits: others may stand before and behind one.

    The last digit of a card number checks the others (ISO/IEC 7812-1).
    """
    places = [place for place in range(start, end) if text[place].isdigit()]
    # Sums of all digits before a place, in which those at even or at odd places count double.
    sums: tuple[list[int], list[int]] = ([0], [0])
    for place, digit in enumerate(unicodedata.digit(text[place], 0) for place in places):
        double = digit * 2 - 9 * (digit > 4)
        sums[0].append(sums[0][-1] + (digit if place % 2 == 0 else double))
        sums[1].append(sums[1][-1] + (digit if place % 2 == 1 else double))
    found = []
    for first in range(len(places) - _MIN_CARD + 1):
        for size in range(min(_MAX_CARD, len(places) - first), _MIN_CARD - 1, -1):
            own = sums[(first + size - 1) % 2]
            total = own[first + size] - own[first]
            if total and total % 10 == 0:
                found.append((places[first], places[first + size - 1] + 1, "[card]"))
                break
    return found


def _iban_end(text: str, start: int, end: int) -> int:
    """Return the end of an IBAN that begins at `start`; 0 if its check digits are wrong for every length."""
    places = [place for place in range(start, end) if text[place].isalnum()]
    for size in range(len(places), _MIN_IBAN - 1, -1):
        word = "".join(unicodedata.normalize("NFKC", text[place]) for place in places[:size]).upper()
        is_long = sum(map(str.isdigit, word[4:])) >= _MIN_IBAN_DIGITS
        if (
            is_long
            and word.isascii()
            and int("".join(str(int(letter, 36)) for letter in word[4:] + word[:4])) % 97 == 1
        ):
            return places[size - 1] + 1
    return 0


def _joined(found: list[Span]) -> list[Span]:
    """Return spans in order; overlapping ones become one, whose name is that of the surest."""
    result: list[Span] = []
    for start, end, name in sorted(found, key=lambda span: (span[0], -span[1])):
        if result and start < result[-1][1]:
            surest = min(name, result[-1][2], key=_SUREST.index)
            result[-1] = (result[-1][0], max(end, result[-1][1]), surest)
        else:
            result.append((start, end, name))
    return result


def _difference(before: str, after: str) -> Span:
    """Return the part of `before` whose replacement makes `after`."""
    most = min(len(before), len(after))
    start = 0
    while start < most and before[start] == after[start]:
        start += 1
    tail = 0
    while tail < most - start and before[len(before) - 1 - tail] == after[len(after) - 1 - tail]:
        tail += 1
    return start, len(before) - tail, after[start : len(after) - tail]


def _replaced(parts: list[str], spans: Sequence[Span]) -> list[str]:
    """Return the parts of a text with spans of the whole replaced: each replacement is in the part where it begins."""
    if not spans:
        return parts
    whole = "".join(parts)
    ends = list(accumulate(map(len, parts)))
    made = [""] * len(parts)

    def keep(start: int, stop: int) -> None:
        while start < stop:
            place = bisect_right(ends, start)
            until = min(stop, ends[place])
            made[place] += whole[start:until]
            start = until

    at = 0
    for start, stop, name in spans:
        keep(at, start)
        made[min(bisect_right(ends, start), len(parts) - 1)] += name
        at = stop
    keep(at, len(whole))
    return made
