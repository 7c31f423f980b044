"""Hints: what would go wrong on the live API, and what would not."""

from __future__ import annotations

from typing import Any

import pytest

from se_server.playground.hints import hints_of, markdown_in


def hints(text: str, **given: Any) -> str:
    """Return the hints about a complete answer that came at once."""
    options = {"first_word_s": 0.2, "is_complete": True, "is_silence": False, "cascade_timeout_s": 4.0, **given}
    return " ".join(hints_of(text, **options))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("This is **important**.", "bold text (**important**)"),
        ("It is __really__ so.", "bold text"),
        ("# Opening hours\nWe open at nine.", "a heading"),
        ("You need:\n- milk\n- eggs", "a list"),
        ("First:\n1. Stir.\n2. Bake.", "a list"),
        ("See [our site](https://example.com).", "a link"),
        ("Run `pip install` first.", "code"),
        ("```\nprint()\n```", "a code block"),
        ("| a | b |\n|---|---|", "a table"),
        ("That is *very* good.", "emphasis"),
    ],
)
def test_markdown_is_named_with_an_example(text: str, kind: str) -> None:
    assert markdown_in(text).startswith(kind)
    assert "Markdown" in hints(text)


@pytest.mark.parametrize(
    "text",
    [
        "Plain words, and 2 * 3 * 4 is 24.",
        "Well - I think so.",
        "It costs 5 # no, 6.",
        "snake_case_names and file__name__ are names.",
        "1. is a number, and so is 2.",
        "A * B",
    ],
)
def test_plain_words_are_not_markdown(text: str) -> None:
    assert markdown_in(text) == ""
    assert hints(text) == ""


def test_a_late_first_word_is_held_against_cascade() -> None:
    assert "cascade_timeout_seconds" in hints("At last.", first_word_s=4.2)
    assert "4 s" in hints("", first_word_s=4.2, is_complete=False)
    assert hints("In time.", first_word_s=4.2, cascade_timeout_s=8.0) == ""


def test_an_answer_without_words_may_fail() -> None:
    assert "no words" in hints(" ", first_word_s=None)
    assert "no words" in hints("...", first_word_s=0.1)
    assert hints("", first_word_s=None, is_silence=True) == ""
    assert hints("", first_word_s=None, is_complete=False) == ""


def test_an_answer_beyond_a_minute_is_long() -> None:
    assert "to speak" in hints("word " * 200)
    assert hints("word " * 150) == ""
