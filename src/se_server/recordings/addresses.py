"""E-mail addresses, written or spoken, digits that are spoken as words, and tokens."""

from __future__ import annotations

import re
from collections.abc import Iterator

from se_server.recordings.numbers import Span, is_card

# --- e-mail addresses -------------------------------------------------------------------------------------------------

_BEFORE_AT = re.compile(r"[^\s@<>()\[\]\",;:\\]{1,128}\s?\Z")
_AFTER_AT = re.compile(r"\s?[\w-]{1,64}(?:\s\.\s[\w-]{1,64}){1,8}|\s?[^\s@<>()\[\]\",;:\\]{1,255}")
# Languages have their own words for both signs.
_SAID_AT = re.compile(r"\s(at|\(at\)|\[at\]|at sign|ät|arroba|arobase|chiocciola)\s", re.IGNORECASE)
_DOTS = {"arroba": "punto|ponto|dot", "arobase": "point|dot", "chiocciola": "punto|dot"}
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
        if before is not None and after is not None and "." in after[0].strip(" ."):
            yield before.start(), at + 1 + len(after[0].rstrip(".!?")), "[email]"
        at = text.find("@", at + 1)
    for said in _SAID_AT.finditer(text):
        before = _SAID_BEFORE.search(text, max(0, said.start() - 200), said.start())
        after = _said_after(_DOTS.get(said[1].lower(), "dot|punkt")).match(text, said.end())
        if before is not None and after is not None:
            yield before.start(), after.end(), "[email]"


def _said_after(dots: str) -> re.Pattern[str]:
    label = r"(?:\w[\s-]){0,30}[\w-]{1,64}"
    return re.compile(
        rf"\s*{label}(?:(?:\.|\s{{1,2}}(?:{dots})\s{{1,2}}|\s{{0,2}}[(\[](?:{dots})[)\]]\s{{0,2}})[\w-]{{1,64}}){{1,8}}",
        re.IGNORECASE,
    )


# --- digits in words --------------------------------------------------------------------------------------------------

_WORDS = (
    "zero oh o null cero zéro nul",
    "one eins ein uno un um una une",
    "two zwei zwo dos deux due dois duas",
    "three drei tres trois tre três",
    "four vier cuatro quatre quattro quatro",
    "five fünf fuenf cinco cinq cinque",
    "six sechs seis sei",
    "seven sieben siete sept sette sete",
    "eight acht ocho huit otto oito",
    "nine neun nueve neuf nove",
)
_DIGIT_OF = {word: str(digit) for digit, words in enumerate(_WORDS) for word in words.split()}
_TIMES = {"double": 2, "doppel": 2, "doble": 2, "triple": 3, "treble": 3, "dreifach": 3}
_DIGIT = "(?:(?:" + "|".join(_TIMES) + r")\s)?(?:" + "|".join(sorted(_DIGIT_OF, key=len, reverse=True)) + r"|\d{1,4})"
_SPOKEN = re.compile(rf"(?<!\w){_DIGIT}(?:[\s,.\-–…]{{1,3}}{_DIGIT}){{3,}}(?!\w)", re.IGNORECASE)
_MIN_SPOKEN, _MIN_WORDS = 7, 4


def spoken_numbers(text: str) -> Iterator[Span]:
    """Yield numbers of seven digits and more that are spoken digit by digit, in words of six languages."""
    for found in _SPOKEN.finditer(text):
        digits, times, words = "", 1, 0
        for word in re.split(r"[\s,.\-–…]+", found[0].lower()):
            if word in _TIMES:
                times = _TIMES[word]
                continue
            words += word in _DIGIT_OF
            digits += _DIGIT_OF.get(word, word) * times
            times = 1
        if len(digits) >= _MIN_SPOKEN and words >= _MIN_WORDS:
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
