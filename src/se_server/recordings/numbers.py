"""Private numbers: cards and IBANs by their check digits, telephone numbers by their form and the words before them.

A number is read in groups of digits. Up to three signs that are no letters may separate the groups of a card; blanks,
dots, slashes and hyphens those of a telephone number. Dates, times, prices, versions and IP addresses are neither.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import pairwise

Span = tuple[int, int, str]
"""Start, end, and the replacement."""

_ANY_GAP = r"(?:\W|_){0,3}"
_PHONE_GAP = r"[\s\u00ad\u200b-\u200f\u2010-\u2015\u2060\u2212\ufeff._/\-]{0,3}"
_RUN = re.compile(rf"\d(?:{_ANY_GAP}\d){{11,}}")
_GROUP = re.compile(r"\d+")
_MIN_CARD, _MAX_CARD = 12, 19
_MIN_PHONE, _MAX_LOCAL, _MAX_PHONE = 7, 12, 17
_ISSUERS = re.compile(r"[3-6]|2[2-7]|8[12]|9792")
"""The beginnings of card numbers. They are asked for where the form of a number says little."""

# --- cards ------------------------------------------------------------------------------------------------------------


def cards(text: str) -> Iterator[Span]:
    """Yield the card numbers. The last digit of one checks the others (ISO/IEC 7812-1)."""
    for run in _RUN.finditer(text):
        if _IP.fullmatch(run[0]):
            continue
        groups = [(run.start() + group.start(), run.start() + group.end()) for group in _GROUP.finditer(run[0])]
        numbers = [_plain(text[start:end]) for start, end in groups]
        gaps = [text[left[1] : right[0]] for left, right in pairwise(groups)]
        for first, last in _windows(numbers, gaps):
            some = numbers[first : last + 1]
            if is_card("".join(some)) and not all(map(_is_year, some)):
                yield groups[first][0], groups[last][1], "[card]"
        for (start, end), number in zip(groups, numbers, strict=True):
            size = 15 if number.startswith(("34", "37")) else 16
            if len(number) > _MAX_CARD and _ISSUERS.match(number) and is_card(number[:size]):
                yield start, end, "[card]"  # its date and its code follow without a blank


def is_card(digits: str) -> bool:
    """Whether the last digit checks the others."""
    total = sum(
        int(digit) if place % 2 == 0 else sum(divmod(2 * int(digit), 10)) for place, digit in enumerate(digits[::-1])
    )
    return total > 0 and total % 10 == 0


def _plain(digits: str) -> str:
    return "".join(str(unicodedata.digit(digit, 0)) for digit in digits)


def _windows(numbers: Sequence[str], gaps: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield the first and the last group of what has the form of a card number."""
    count = len(numbers)
    for first, number in enumerate(numbers):
        if _MIN_CARD <= len(number) <= _MAX_CARD:
            yield first, first
        if tuple(map(len, numbers[first : first + 3])) in ((4, 6, 5), (4, 6, 4)):
            yield first, first + 2
        size, total, last = len(number), len(number), first
        is_known = bool(_ISSUERS.match("".join(numbers[first : first + 4])))
        while last + 1 < count and len(numbers[last + 1]) <= size <= 8 and total < _MAX_CARD:
            last += 1
            total += len(numbers[last])
            is_last = last + 1 == count or len(numbers[last]) < size
            is_clear = size == 1 or (size == 4 and (is_known or total == 16))
            is_even = is_known and len(set(gaps[first:last])) == 1 and (is_last or total == 16)
            if _MIN_CARD <= total <= _MAX_CARD and (is_clear or is_even):
                yield first, last
            if len(numbers[last]) < size:
                break
    total = sum(map(len, numbers))
    is_even = len(set(gaps)) == 1 or min(map(len, numbers)) > 2
    if is_even and _MIN_CARD < total <= _MAX_CARD and _ISSUERS.match("".join(numbers)):
        yield 0, count - 1
    for first in range(count):  # other groups, as "4111 11111111 1111"
        for last in range(first + 1, min(first + 5, count)):
            some = numbers[first : last + 1]
            if 15 <= sum(map(len, some)) <= 16 and min(map(len, some)) > 2 and _ISSUERS.match("".join(some)):
                yield first, last


def _is_year(number: str) -> bool:
    return len(number) == 4 and number.startswith(("19", "20"))


# --- IBANs ------------------------------------------------------------------------------------------------------------

_IBAN = re.compile(rf"(?=[^\W\d_]{{2}}\d\d|(?<![^\W_])[^\W\d_]{_ANY_GAP}[^\W\d_]{_ANY_GAP}\d{_ANY_GAP}\d)")
_IBAN_RUN = re.compile(rf"[^\W_](?:{_ANY_GAP}[^\W_]){{14,33}}")
# The length of each country's, by the registry of ISO 13616.
_COUNTRIES = {
    15: "NO",
    16: "BE",
    18: "DK FI FK FO GL NL SD",
    19: "MK SI",
    20: "AT BA EE KZ LT LU MN XK",
    21: "CH HR LI LV",
    22: "BG BH CR DE GB GE IE ME RS VA",
    23: "AE GI IL IQ OM SO TL",
    24: "AD CZ DZ ES MD PK RO SA SE SK TN VG",
    25: "LY PT ST",
    26: "IS TR",
    27: "BI DJ FR GR IT MC MR SM",
    28: "AL AZ BY CY DO GT HN HU LB NI PL SV",
    29: "BR EG PS QA UA",
    30: "JO KW MU YE",
    31: "MT SC",
    32: "LC",
    33: "RU",
}
_LENGTHS = {country: length for length, countries in _COUNTRIES.items() for country in countries.split()}


def ibans(text: str) -> Iterator[Span]:
    """Yield the IBANs: their country has a length, and the third and fourth sign check the others."""
    for match in _IBAN.finditer(text):
        run = _IBAN_RUN.match(text, match.start())
        if run is None:
            continue
        places = [place for place in range(run.start(), run.end()) if text[place].isalnum()]
        word = "".join(unicodedata.normalize("NFKC", text[place]) for place in places).upper()
        length = _LENGTHS.get(word[:2], 0)
        if not length or len(word) != len(places) or len(places) < length or not word[:length].isascii():
            continue
        if int("".join(str(int(letter, 36)) for letter in word[4:length] + word[:4])) % 97 == 1:
            yield match.start(), places[length - 1] + 1, "[iban]"


# --- telephone numbers ------------------------------------------------------------------------------------------------

_PHONE = re.compile(rf"(?<!\d)(?:\+\s?)?\(?\+?\d(?:(?:[()]?{_PHONE_GAP}[()]?{_PHONE_GAP}|,\s?)\d){{5,}}")
_BYTE = r"(?:25[0-5]|2[0-4]\d|1?\d?\d)"
_IP = re.compile(rf"(?<![\d.])(?:{_BYTE}\.){{3}}{_BYTE}(?!\.?\d)")
_YEAR, _MONTH, _DAY = r"(?:1[89]|20)\d\d", r"(?:1[0-2]|0?[1-9])", r"(?:3[01]|[12]\d|0?[1-9])"
_DATE = (
    rf"(?:{_YEAR}[-./]{_MONTH}[-./]{_DAY}|{_DAY}[-./]{_MONTH}[-./]{_YEAR}|{_MONTH}[-./]{_DAY}[-./]{_YEAR}"
    rf"|{_DAY}[-./]{_MONTH}[-./]\d\d(?=,?\s+\d{{1,2}}[:.h]\d\d)"
    rf"|{_YEAR}(?:1[0-2]|0[1-9])(?:3[01]|[12]\d|0[1-9])(?:T?(?:2[0-3]|[01]\d)[0-5]\d(?:[0-5]\d)?)?)"
)
_TIME = r"(?:\d{1,2}:\d\d(?::\d\d(?:[.,]\d{1,9})?)?(?:[+-]\d\d:?\d\d)?)"
_NUMBER = r"\d{1,3}(?:[.,'’ \u00a0\u202f]\d{3})+(?:[.,]\d{1,2})?|\d+(?:[.,]\d{1,2})?"
_NO_PHONES = [
    _IP,
    re.compile(rf"(?<![\d+])(?<!\d[-./])(?:{_DATE}|{_TIME})(?:Z|T(?={_TIME})|(?![-./]?\d))"),
    re.compile(rf"(?<!\d)(?<!\d[-./]){_YEAR}\s?[-–/]\s?{_YEAR}(?![-./]?\d)"),
    re.compile(rf"[€$£¥]\s?(?:{_NUMBER})(?!\d)"),
    re.compile(
        rf"(?<![\d.,+])(?:{_NUMBER})\s?(?:[€$£¥%]|(?:eur|usd|gbp|chf|euros?|dollars?|pounds?|cents?|francs?)\b)",
        re.IGNORECASE,
    ),
    re.compile(r"(?<![\d.])-?(?!0\d)\d{1,3}\.\d{3,},?\s+-?(?!0\d)\d{1,3}\.\d{3,}(?![\d.])"),  # coordinates
    re.compile(r"(?<![\d.+])(?!0\d)\d{1,3}[.,]\d{1,2}(?:\s+(?!0\d)\d{1,3}[.,]\d{1,2})+(?![\d.])"),  # decimal numbers
    re.compile(r"(?<![\d.+])\d{1,2}\.\d\d\s?[-–]\s?\d{1,2}\.\d\d(?=\s?(?:uhr|h\b|o'clock|[ap]m\b))", re.IGNORECASE),
    re.compile(r"\b(?:v|version|release|build)\.?\s?\d+(?:[.-]\d+)*", re.IGNORECASE),
    re.compile(r"\b[\da-f]{8}-(?:[\da-f]{4}-){3}[\da-f]{12}\b", re.IGNORECASE),
]
_QUARTER_HOUR = r"(?:[01]\d|2[0-4])(?:00|15|30|45)"
_SHORT_DATE = rf"{_DAY}[-./]{_MONTH}[-./]\d\d"
_NO_PHONES_ALONE = re.compile(
    r"(?<![\d+(])(?<!\d[-./\s])(?:"
    rf"{_DAY}(?:\.\s|\s){_MONTH}(?:\.\s|\s){_YEAR}|{_MONTH}\s{_DAY}\s{_YEAR}|{_YEAR}\s{_MONTH}\s{_DAY}"
    rf"|{_SHORT_DATE}\s?[-–]\s?{_SHORT_DATE}|{_QUARTER_HOUR}\s?[-–]\s?{_QUARTER_HOUR}"
    r")(?![-./]?\d|\s\d{3})"
)
"""Dates and times that are telephone numbers behind a word such as "call"."""
_NO_PHONE_BEFORE = (
    r"\b(?:order|invoice|ticket|booking|reservation|reference|ref|case|item|article|part|serial|model|tracking|flight"
    r"|confirmation|isbn|bestell\w*|auftrags?\w*|rechnungs?\w*|artikel\w*|buchungs?\w*)"
    r"(?:\s*(?:number|code|no\b|nr\b|nummer|id\b))?|\bid\b"
)
_PHONE_BEFORE = (
    r"call|phone|\btel\b|\btel\.|mobile|\bcell|number|reach|\bdial|\bring\b|\btext\b|\bsms\b|whatsapp|\bfax\b|contact"
    r"|handy|telefon|nummer|anrufen|m[oó]vil|tel[eé]f|t[eé]l[eé]ph|portable|num[eé]ro|n[uú]mero|cellulare"
)
_CONTEXT = re.compile(rf"(?P<other>{_NO_PHONE_BEFORE})|(?P<phone>{_PHONE_BEFORE})", re.IGNORECASE)
_CONTEXT_CHARACTERS = 40
_CODE = re.compile(r"(?:(?<![a-z])[A-Z]{1,5}[-_/#]?|[A-Za-z][-_#]|#\s?)\Z")


def phones(text: str) -> Iterator[Span]:
    """Yield the telephone numbers."""
    masked = text
    for pattern in _NO_PHONES:
        masked = pattern.sub(lambda found: "\0" * len(found[0]), masked)
    for match in _NO_PHONES_ALONE.finditer(masked):
        if context_of(masked[: match.start()]) != "phone":
            masked = masked[: match.start()] + "\0" * len(match[0]) + masked[match.end() :]
    for match in _PHONE.finditer(masked):
        context = context_of(masked[: match.start()])
        for start, end in _pieces(masked, match.start(), match.end(), context):
            yield start, end, "[phone]"


def context_of(before: str) -> str:
    """Return `phone` or `other` by the last words before a number; empty where they say nothing."""
    if _CODE.search(before):
        return "other"
    last = ""
    for found in _CONTEXT.finditer(before, max(0, len(before) - _CONTEXT_CHARACTERS)):
        last = str(found.lastgroup)
    return last


def _pieces(text: str, start: int, end: int, context: str) -> Iterator[tuple[int, int]]:
    """Yield the telephone numbers of a run of digits: several may follow each other."""
    groups = [(found.start(), found.end()) for found in _GROUP.finditer(text, start, end)]
    if _count(groups) <= (_MAX_PHONE if text.startswith(("+", "(+", "0"), start) else 15):
        is_glued = text[start - 1 : start].isalpha() and _count(groups) < 9  # as in "h264 1920"
        if is_phone(text[start:end], context) and not is_glued:
            yield start, end
        return
    sizes = [stop - begin for begin, stop in groups]
    if _is_like_a_card(sizes):
        return
    gaps = [text[left[1] : right[0]] for left, right in pairwise(groups)]
    has_others = any(not gap.isspace() for gap in gaps)
    begin = start
    pieces = []
    for (_, stop), (following, _), gap in zip(groups, groups[1:], gaps, strict=False):
        is_national = text[following] == "0" and not text[following + 1 : following + 2].isspace()
        if is_national or (has_others and gap.isspace()) or "," in gap:
            pieces.append((begin, stop))
            begin = following
    pieces.append((begin, end))
    if len(pieces) == 1 and len(groups) > 1 and (max(sizes) < 5 or all(9 < size < 13 for size in sizes)):
        yield start, end  # several, and nothing says where one ends
        return
    for begin, stop in pieces:
        if len(pieces) > 1 and is_phone(text[begin:stop], context):
            yield begin, stop


def _count(groups: Sequence[tuple[int, int]]) -> int:
    return sum(stop - begin for begin, stop in groups)


def _is_like_a_card(sizes: Sequence[int]) -> bool:
    """Whether a number would be a card's, were its check digit right."""
    return tuple(sizes) in ((4, 6, 5), (4, 6, 4)) or (sum(sizes) > 12 and sizes[0] == 4 and set(sizes[:-1]) == {4})


def is_phone(run: str, context: str) -> bool:
    """Whether digits, with what stands between them, are a telephone number.

    Args:
        run: the digits.
        context: as `context_of` returns it.
    """
    numbers = _GROUP.findall(run)
    sizes = list(map(len, numbers))
    total = sum(sizes)
    if not _MIN_PHONE <= total <= _MAX_PHONE:
        return False
    if "+" in run or context == "phone" or ("(" in run and ")" in run):
        return True
    if context == "other" or _is_like_a_card(sizes) or "," in run:
        return False
    is_national = _plain(numbers[0][:2]).startswith("0") and sizes[0] > 1
    if len(sizes) == 1:
        return total > 8 if is_national else 10 <= total <= _MAX_LOCAL
    gaps = set(re.sub(r"\d+", "", run))
    if gaps <= {".", " ", "\u00a0", "\u202f"} and not is_national and sizes[0] < 3 and set(sizes[1:]) == {3}:
        return False  # thousands
    if gaps == {"."} and not is_national and (len(sizes) == 2 or 1 in sizes or (set(sizes) == {3} and total > 9)):
        return False  # a decimal number, or a version
    return is_national or total <= _MAX_LOCAL
