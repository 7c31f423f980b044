"""Redaction: card numbers, e-mail addresses, telephone numbers, IBANs and tokens, replaced in the texts of recordings.

A pattern may be split over the chunks of an answer, so an answer is read as one text, and what is found is taken out of
each of its chunks.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import accumulate

from se_server.recordings.addresses import checked_numbers_in_words, emails, phones_with_pauses, spoken_numbers, tokens
from se_server.recordings.numbers import Span, cards, context_of, ibans, phones

Redactor = Callable[[str], str]
"""The user's own function: takes a text, and returns it without what is private."""

FAILED = "[redaction failed]"
_SUREST = ("[iban]", "[card]", "[token]", "[email]", "[phone]")
_JUNCTION = 200
"""The characters at the end and at the beginning of two utterances that are read as one text."""
_HALF_NAME = re.compile(r"(?:[._+-]|\w[._+\d-]\w*)\Z")


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
    """Redact the utterances of one speaker: pauses may have split a number or an e-mail address."""
    found: list[Span] = []
    starts = [0, *accumulate(map(len, texts))]
    for at, text in zip(starts, texts, strict=False):
        # All readings are of the text as it was said: what one takes out must not hide a part of another's.
        found += ((at + start, at + stop, name) for start, stop, name in _spans(text))
    found += _checked_spans("".join(texts))
    # A blank between two utterances keeps the groups of a number apart. Its places are those of the text without them.
    spaced = " ".join(texts)
    ends = [start + place for place, start in enumerate(starts[1:-1])]
    for start, stop, name in _checked_spans(spaced):
        found.append((start - bisect_left(ends, start), stop - bisect_left(ends, stop), name))
    for at, before, after in zip(starts[1:], texts, texts[1:], strict=False):
        found += _over_a_pause(at, before, after)
    return [redact(text, own) for text in _replaced(list(texts), _joined(found))]


def _over_a_pause(at: int, before: str, after: str) -> Iterator[Span]:
    """Yield an e-mail address or a telephone number of which one part ends an utterance, and another begins the next.

    Args:
        at: the place of the second utterance.
        before, after: the utterances.
    """
    head, tail = before[-_JUNCTION:].rstrip(), after[:_JUNCTION]
    skipped = len(before[-_JUNCTION:]) - len(head)
    for gap in (" ", ""):
        for start, stop, name in _spans(head + gap + tail):
            if not start < len(head) or not stop > len(head) + len(gap):
                continue
            whole = (head + gap + tail)[start:stop]
            if name == "[phone]" and not _is_surely_a_phone(head[:start], head[start:], whole):
                continue
            if name == "[email]" and _is_whole(head, tail):
                continue
            if name in ("[phone]", "[email]"):
                yield at - skipped - len(head) + start, at + stop - len(head) - len(gap), name


def _is_whole(head: str, tail: str) -> bool:
    """Whether an e-mail address is in one of two utterances as a whole: the words beside it are none of it."""
    if any(end >= len(head) and name == "[email]" for _, end, name in _spans(head)):
        return True
    begins = any(start == 0 and name == "[email]" for start, _, name in _spans(tail))
    return begins and _HALF_NAME.search(head) is None


def _is_surely_a_phone(before: str, first: str, whole: str) -> bool:
    """Whether digits that end an utterance, and those that begin the next, are one number: they may be two answers."""
    if any(map(str.isalpha, whole)):  # in words
        return 1 < len(first.split()) < len(whole.split()) - 1
    digits = sum(map(str.isdigit, whole))
    begins = first.startswith(("+", "0", "(")) or context_of(before) == "phone"
    return digits >= 9 and begins and digits - sum(map(str.isdigit, first)) >= 2


@lru_cache(maxsize=4096)
def _spans(text: str) -> tuple[Span, ...]:
    """Return the private parts of a text, in order and without overlaps."""
    found = [*_checked_spans(text)]
    for reading in (emails, tokens, spoken_numbers, phones, phones_with_pauses):
        found += reading(text)
    return tuple(_joined(found))


def forget_texts() -> None:
    """Forget the texts that were read lately."""
    _spans.cache_clear()
    _checked_spans.cache_clear()


@lru_cache(maxsize=1024)
def _checked_spans(text: str) -> tuple[Span, ...]:
    """Return the numbers with check digits: cards and IBANs."""
    return tuple(_joined([*cards(text), *ibans(text), *checked_numbers_in_words(text)]))


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
