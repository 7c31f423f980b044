"""E-mail addresses, written or spoken, digits that are spoken as words, and tokens."""

from __future__ import annotations

import re
from collections.abc import Iterator

from se_server.recordings.numbers import Span, cards, context_of, ibans, is_card, phones

# --- e-mail addresses -------------------------------------------------------------------------------------------------

_BEFORE_AT = re.compile(r"[^\s@<>()\[\]\",;:\\]{1,128}\s?\Z")
_AFTER_AT = re.compile(
    r"\s?[\w-]{1,64}(?:\s(?:\.|dot|punkt|punto|ponto|point)\s[\w-]{1,64}){1,8}|\s?[^\s@<>()\[\]\",;:\\]{1,255}",
    re.IGNORECASE,
)
# Languages have their own words for both signs.
_SAID_AT = re.compile(r"\s(at|\(at\)|\[at\]|at sign|ät|arroba|arobase|chiocciola)\s", re.IGNORECASE)
# A name in two words or three, as "hot mail", has a known domain at its end: "at the red dot there" has none.
_DOMAINS = "com|net|org|edu|gov|info|biz|io|app|dev|co|uk|ie|de|ch|eu|fr|be|nl|pl|pt|br|mx|ar|ca|us|au|nz"
_DOTS = {"arroba": "punto|ponto|dot", "arobase": "point|dot", "chiocciola": "punto|dot"}
_USUAL_DOTS = "dot|punkt"
_SPOKEN_SIGNS = "dot|punkt|punto|ponto|point|underscore|dash|hyphen|minus|plus|unterstrich|guion"
_SAID_BEFORE = re.compile(
    rf"(?:(?:[\w.+-]{{1,64}}\s(?:{_SPOKEN_SIGNS})\s){{1,6}}|(?<!\w)(?:\w[\s-]){{1,30}})?[\w.+-]{{1,128}}\Z",
    re.IGNORECASE,
)


def emails(text: str) -> Iterator[Span]:
    """Yield the e-mail addresses, written or spelt, read from the `@` outwards, since patterns would take long."""
    at = text.find("@")
    while at >= 0:
        before = _BEFORE_AT.search(text, max(0, at - 129), at)
        after = _AFTER_AT.match(text, at + 1)
        if before is not None and after is not None and (" " in after[0].strip() or "." in after[0].strip(" .")):
            yield before.start(), at + 1 + len(after[0].rstrip(".!?")), "[email]"
        at = text.find("@", at + 1)
    for said in _SAID_AT.finditer(text):
        before = _SAID_BEFORE.search(text, max(0, said.start() - 200), said.start())
        after = _said_after(_DOTS.get(said[1].lower(), _USUAL_DOTS)).match(text, said.end())
        if before is not None and after is not None:
            yield before.start(), after.end(), "[email]"


def _said_after(dots: str) -> re.Pattern[str]:
    label = r"(?:\w[\s-]){0,30}[\w-]{1,64}"
    dot = rf"(?:\.|\s{{1,2}}(?:{dots})\s{{1,2}}|\s{{0,2}}[(\[](?:{dots})[)\]]\s{{0,2}})"
    domains = _DOMAINS if dots == _USUAL_DOTS else f"{_DOMAINS}|es|it"  # which are words, in English
    several = rf"[\w-]{{1,64}}(?:\s[\w-]{{1,64}}){{1,2}}(?:{dot}[\w-]{{1,64}}){{0,4}}{dot}(?:{domains})\b"
    return re.compile(rf"\s*(?:{label}(?:{dot}[\w-]{{1,64}}){{1,8}}|{several})", re.IGNORECASE)


# --- digits in words --------------------------------------------------------------------------------------------------

_WORDS = (
    "zero oh o null cero zéro nul",
    "one eins ein uno un um una une",
    "two zwei zwo dos deux due dois duas",
    "three drei tres trois tre três",
    "four vier cuatro quatre quattro quatro",
    "five fünf fuenf cinco cinq cinque",
    "six sechs seis sei meia",
    "seven sieben siete sept sette sete",
    "eight acht ocho huit otto oito",
    "nine neun nueve neuf nove",
)
_DIGIT_OF = {word: str(digit) for digit, words in enumerate(_WORDS) for word in words.split()}
_TIMES = {"double": 2, "doppel": 2, "doble": 2, "triple": 3, "treble": 3, "dreifach": 3}
_DIGIT = "(?:(?:" + "|".join(_TIMES) + r")\s)?(?:" + "|".join(sorted(_DIGIT_OF, key=len, reverse=True)) + r"|\d{1,4})"
_SPOKEN = re.compile(rf"(?<!\w){_DIGIT}(?:[\s,.\-–…]{{1,3}}{_DIGIT}){{3,}}(?!\w)", re.IGNORECASE)
_MIN_SPOKEN, _MIN_WORDS, _MIN_SURE = 7, 4, 9
_HESITATIONS = "uh|uhm|umm|er|erm|eh|ehm|äh|ähm|öh|hm|hmm|euh|mm"
_MIN_CHECKED = 12
_HESITATION = re.compile(rf"(?<!\w)(?:{_HESITATIONS}|um)(?!\w)[\s,.…]*", re.IGNORECASE)
_DIGIT_WORD = (
    r"(?:(?P<times>" + "|".join(_TIMES) + r")\s)?(?P<digit>" + "|".join(sorted(_DIGIT_OF, key=len, reverse=True)) + ")"
)
# "um" is a pause in English, and a digit in Portuguese.
_READINGS = (
    re.compile(rf"(?<!\w)(?:(?:{_HESITATIONS}|um)(?!\w)[\s,.…]*|{_DIGIT_WORD}(?!\w))", re.IGNORECASE),
    re.compile(rf"(?<!\w)(?:(?:{_HESITATIONS})(?!\w)[\s,.…]*|{_DIGIT_WORD}(?!\w))", re.IGNORECASE),
)


def checked_numbers_in_words(text: str) -> Iterator[Span]:
    """Yield cards and IBANs some of whose digits are words, or that have a pause in them ("4242, uh, 4242")."""
    for pattern in _READINGS:
        plain, places = _in_digits(text, pattern)
        if plain != text and sum(map(str.isdigit, plain)) >= _MIN_CHECKED:
            for start, end, name in (*cards(plain), *ibans(plain)):
                yield places[start][0], places[end - 1][1], name


def phones_with_pauses(text: str) -> Iterator[Span]:
    """Yield telephone numbers with a pause in them, if their beginning or a word before them says what they are."""
    plain, places = _in_digits(text, _HESITATION)
    if plain == text:
        return
    for start, end, name in phones(plain):
        begin, stop = places[start][0], places[end - 1][1]
        is_surely = plain.startswith(("+", "0", "("), start) or context_of(plain[:start]) == "phone"
        if is_surely and sum(map(str.isdigit, plain[start:end])) >= _MIN_SURE and _HESITATION.search(text, begin, stop):
            yield begin, stop, name


def _in_digits(text: str, pattern: re.Pattern[str]) -> tuple[str, list[tuple[int, int]]]:
    """Return a text without pauses, with digits for words, and the place of each of its characters in the text."""
    plain, places, at, has_word = "", [], 0, False
    for found in pattern.finditer(text):
        between = text[at : found.start()]
        named = found.groupdict()
        is_word = bool(named.get("digit"))
        if not (has_word and is_word and between in (" ", "-")):
            plain += between
            places += [(place, place + 1) for place in range(at, found.start())]
        if is_word:
            digits = _DIGIT_OF[named["digit"].lower()] * _TIMES.get((named["times"] or "").lower(), 1)
            plain += digits
            places += [found.span()] * len(digits)
        has_word, at = is_word, found.end()
    return plain + text[at:], places + [(place, place + 1) for place in range(at, len(text))]


def spoken_numbers(text: str) -> Iterator[Span]:
    """Yield numbers of seven digits and more that are spoken digit by digit, in words of six languages."""
    for found in _SPOKEN.finditer(text):
        digits, times, words, is_one_by_one = "", 1, 0, True
        for word in re.split(r"[\s,.\-–…]+", found[0].lower()):
            if word in _TIMES:
                times = _TIMES[word]
                continue
            words += word in _DIGIT_OF
            digits += _DIGIT_OF.get(word, word) * times
            is_one_by_one = is_one_by_one and len(_DIGIT_OF.get(word, word)) == 1
            times = 1
        if len(digits) >= _MIN_SPOKEN and words >= (2 if is_one_by_one else _MIN_WORDS):
            yield found.start(), found.end(), "[card]" if 12 <= len(digits) <= 19 and is_card(digits) else "[phone]"


# --- tokens -----------------------------------------------------------------------------------------------------------

_TOKENS = (
    re.compile(
        r"eyJ[\w-]{5,}\.[\w-]+(?:\.[\w-]*)+|\b[sr]k[_-][\w-]{12,}|sk[_-](?=[\w-]*\d|\w{20})[\w-]{12,}|bearer\s+[\w.~+/-]{12,}=*"
        r"|(?:gh[oprsu]|github_pat|gl(?:pat|dt|rt|ptt|ft)|hf|npm|pypi|whsec|dop_v1|shp(?:at|ca|pa|ss)|lin_api|GOCSPX)"
        r"[_-][\w-]{16,}"
        r"|xox[a-z]-[\w-]{10,}|xapp-[\w-]{10,}|AIza[\w-]{30,}|ya29\.[\w-]{16,}|SG\.[\w-]{16,}\.[\w-]{16,}",
        re.IGNORECASE,
    ),
    re.compile(r"(?<![A-Z\d])(?:AKIA|ASIA)[A-Z\d]{16}(?![A-Z\d])|\b(?:AC|SK|dapi)[\da-f]{32}(?![\da-f])"),
    # A key without its end was cut: all that follows belongs to it. Line ends may be written as `\n`.
    re.compile(r"-{5}BEGIN [A-Z\d ]{0,40}PRIVATE KEY(?: BLOCK)?-{5}.*?(?:-{5}END [A-Z\d ]{0,40}-{5}|\Z)", re.DOTALL),
)


def tokens(text: str) -> Iterator[Span]:
    """Yield the keys and tokens of services, JSON Web Tokens, and private keys in PEM."""
    for pattern in _TOKENS:
        for match in pattern.finditer(text):
            yield match.start(), match.end(), "[token]"
