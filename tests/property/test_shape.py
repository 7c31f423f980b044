"""Shaping for speech: no mark is spoken, any cutting of the text gives the same speech, and plain text is unchanged."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from se_server.streams._shape import Shaper
from se_server.streams.shaping import read_shape

MARKS = [
    *(
        "*",
        "**",
        "***",
        "_",
        "__",
        "`",
        "```",
        "~~",
        "~~~",
        "#",
        "## ",
        "- ",
        "* ",
        "+ ",
        "> ",
        "| ",
        "|",
        "---",
        "===",
    ),
    *(
        "[",
        "](",
        "]",
        ")",
        "(",
        "![",
        "[^1]",
        "[1]",
        "http://",
        "https://www.",
        "www.",
        "/path?x=1",
        "<b>",
        "</b>",
        "<",
    ),
    *(">", "<br/>", "<think>", "</think>", "<!--", "-->", "&amp;", "&", "\\", "😀", "👍🏽", "❤️", "🇩🇪", "1️⃣", "→", "->"),
    *(
        "•",
        "\u200d",
        "\ufe0f",
        "【4:0†source】",
        "\ue200cite\ue201",
        "=",
        '<a href="x">',
        "<j@x.org>",
        "\n",
        "\n\n",
        " ",
    ),
]
WORDS = [
    "-",
    "+",
    "Hello",
    "world",
    "h",
    "ht",
    "w",
    "x",
    "3",
    "3.5",
    ".",
    "!",
    "?",
    ",",
    ":",
    "Dr.",
    "e.g.",
    "はい。",
    "naïve",
]
texts = st.lists(st.sampled_from(MARKS + WORDS), max_size=14).map("".join)
shapes = st.sampled_from(["plain", "sentences", "plain, sentences", "plain, 2 words", "3 words", "1 word"])


def spoken(text: str, shape: str = "plain", cuts: list[int] | None = None) -> list[str]:
    shaper = Shaper(shape)
    chunks, before = [], 0
    for cut in [*sorted(min(cut, len(text)) for cut in cuts or []), len(text)]:
        chunks += shaper.feed(text[before:cut])
        before = cut
    return chunks + shaper.finish()


@pytest.mark.parametrize(
    ("text", "speech"),
    [
        ("Hello **world**, *it* is `user_id` or snake_case.", "Hello world, it is user id or snake_case."),
        ("# Title\n- one\n- [x] two\n  * three\n1. four", "Title\none\ntwo\nthree\n1. four"),
        ("See [the docs](https://x.y/z_(a)) and ![pic](p.png)!", "See the docs and pic!"),
        ("Visit https://www.example.com/help?x=1. Or (http://a.b:80/c), ok", "Visit example.com. Or (a.b), ok"),
        ("Look:\n```python\nprint('x')\n```\nDone.", "Look:\n\nDone."),
        ("Hi 😀. Great 👍🏽 job ❤️!", "Hi. Great job!"),
        ("| a | b |\n|---|---|\n| 1 | 2 |\nend", "a, b\n1, 2\nend"),
        ("a < b and <b>bold</b><br>new <think>secret</think>x", "a < b and bold\nnew x"),
        ("Paris[1][2] is nice [^3].【4:0†source】", "Paris is nice."),
        ("2 * 3 = 6, 2**8, -5 degrees, 50%, $5, C#", "2 * 3 = 6, 2**8, -5 degrees, 50%, $5, C#"),
        ("A → B -> C", "A, B, C"),
        ("AT&amp;T and R&D", "AT&T and R&D"),
        ("half **bo", "half bo"),
        ("half [link](http://", "half link"),
        ("half ```py\nx = 1", "half py\nx = 1"),
        ("all\n```py\nx = 1", "all "),
        ("Use `**kwargs` and a\\*b", "Use kwargs and a*b"),
        ("> quote\n> - item\n\n---\n\nnext", "quote\nitem\n\nnext"),
        ("فارسی می\u200cخواهم and क्\u200dष", "فارسی می\u200cخواهم and क्\u200dष"),
    ],
)
def test_marks_are_not_spoken(text: str, speech: str) -> None:
    assert "".join(spoken(text)) == speech


def test_chunks_are_sentences_or_words() -> None:
    text = 'Hello there. Dr. Smith, e.g., said 3.5! "Really?" Yes.\n1. One thing\n日本。語です'
    assert spoken(text, "sentences") == [
        "Hello there. ",
        "Dr. Smith, e.g., said 3.5! ",
        '"Really?" ',
        "Yes.\n",
        "1. One thing\n",
        "日本。",
        "語です",
    ]
    assert spoken("one two  three four five", "2 words") == ["one two ", " three four ", "five"]
    assert spoken("**One** two *three*", "plain, 2 words") == ["One two ", "three"]


@settings(max_examples=1500)
@given(texts, shapes, st.lists(st.integers(0, 80), max_size=12))
def test_any_cutting_gives_the_same_speech(text: str, shape: str, cuts: list[int]) -> None:
    found = spoken(text, shape, cuts)
    whole = spoken(text, shape)
    assert "".join(found) == "".join(whole)
    if shape != "plain":
        assert found == whole


@settings(max_examples=1000)
@given(texts)
def test_one_character_at_a_time_is_no_different(text: str) -> None:
    assert "".join(spoken(text, "plain", list(range(len(text))))) == "".join(spoken(text))


@settings(max_examples=1000)
@given(texts)
def test_no_half_mark_is_ever_spoken(text: str) -> None:
    speech = "".join(spoken(re.sub(r"[\\&]", "", text)))
    for mark in (
        "```",
        "](",
        "![",
        "[",
        "]",
        "|",
        "😀",
        "👍",
        "❤",
        "\ufe0f",
        "†",
    ):
        assert mark not in speech, (text, speech)
    assert not re.search(r"(?<!\w)https?:", speech), (text, speech)


@given(st.text("abc XYZ.,?:;'\n0%$äñ中é", max_size=40), shapes)
def test_text_without_marks_is_unchanged(text: str, shape: str) -> None:
    assert "".join(spoken(text, shape)) == text


@given(st.text(max_size=60), shapes, st.lists(st.integers(0, 60), max_size=6))
def test_any_text_is_taken(text: str, shape: str, cuts: list[int]) -> None:
    assert "".join(spoken(text, shape, cuts)) == "".join(spoken(text, shape))


@pytest.mark.parametrize(
    ("raw", "shape"),
    [
        *(
            ("plain", "plain"),
            (True, "plain"),
            ("true", "plain"),
            ("off", None),
            (False, None),
            (None, None),
            ("", None),
        ),
        *(("Sentences", "sentences"), ("sentences,plain", "plain, sentences"), ("8 words", "8 words")),
        *(("words=8", "8 words"), ("plain + 8words", "plain, 8 words"), ("1 word", "1 words")),
    ],
)
def test_a_shape_is_read(raw: object, shape: str | None) -> None:
    assert read_shape(raw) == shape


@pytest.mark.parametrize(
    "raw", ["markdown", "plain plain", "plain, plain", "0 words", "101 words", "8", 8, "sentences, 8 words"]
)
def test_another_shape_is_an_error(raw: object) -> None:
    with pytest.raises(ValueError, match=r"plain, which leaves out|from 1 to 100 words"):
        read_shape(raw)


def test_a_long_sentence_is_cut_at_a_blank() -> None:
    chunks = spoken("word " * 200, "sentences")
    assert max(map(len, chunks)) <= 290
    assert "".join(chunks) == "word " * 200
