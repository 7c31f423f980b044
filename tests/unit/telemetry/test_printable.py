"""Text of others, escaped and cut."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from se_server.telemetry._printable import cut, printable, text_of

UNPRINTABLE = re.compile(r"[^\t -~\xa0-\U0010ffff]|[\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
ODD = st.text(st.characters() | st.sampled_from("\n\r\t\x00\x1b\x7f\x9b\xa0é\u200e\u2028\u202e\u2066\ud83d😀"))


@given(ODD)
def test_each_odd_character_is_escaped_as_in_python(text: str) -> None:
    expected = UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)
    assert printable(text) == expected
    assert printable(expected) == expected  # a second time changes nothing
    assert expected.isascii() is printable(text).isascii()


@given(ODD, st.integers(0, 40))
def test_a_cut_text_is_a_beginning(text: str, limit: int) -> None:
    whole, short = printable(text), cut(text, limit)
    assert whole.startswith(short)
    assert len(short) <= limit
    assert len(whole) <= limit or len(short) > limit - 6  # the longest escape sequence has six characters
    assert not re.search(r"\\(x.?|u.{0,3})?$", short) or whole == short or "\\" in text


def test_the_result_compares_like_any_text() -> None:
    """A string whose characters are stored wider than necessary would be unequal to its like."""
    assert printable("\x9b") == "\\x9b"
    assert {printable("a\u2028"): 1}["a\\u2028"] == 1


def test_line_feeds_may_stay() -> None:
    assert printable("a\n\tb\r", keep_lines=True) == "a\n\tb\\r"


def test_the_text_of_an_id_is_cut_at_128() -> None:
    assert cut("\x7f" * 1_000_000) == "\\x7f" * 32
    assert cut("x" * 1_000_000) == "x" * 128


class Hostile:
    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __str__(self) -> str:
        raise self.error

    __repr__ = __str__


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        return self


@pytest.mark.parametrize("error", [ValueError(), RecursionError(), SystemExit(), GeneratorExit()])
def test_a_text_that_fails_is_named(error: BaseException) -> None:
    expected = f"<Hostile whose text fails with {type(error).__name__}>"
    assert text_of(Hostile(error)) == text_of(Hostile(error), as_repr=True) == expected


def test_a_subclass_of_text_becomes_text() -> None:
    assert type(text_of(Text("a"))) is str
