"""When two transcriptions are the same words."""

from __future__ import annotations

import time

import pytest

from se_server.protocol.words import MAX_COMPARED, same_words


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Where is my order?", "where is my order"),
        ("OK — go on…", "ok, go on!"),
        ("  hello\tworld\n", "Hello, world."),
        ("STRASSE", "straße"),
        ("ΟΔΟΣ", "οδος"),
        ("cafe\u0301", "CAFÉ"),
        ("¿Qué tal?", "qué tal"),
        ("你好，世界。", "你好 世界"),
        ("नमस्ते।", "नमस्ते"),
        ("soft\u00adhyphen", "soft hyphen"),
        ("call 5 5 5 1 2", "Call 555 12."),
    ],
)
def test_case_punctuation_and_white_space_do_not_count(one: str, other: str) -> None:
    assert same_words(one, other)
    assert same_words(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("where is my order", "where is my other order"),
        ("send 3.5 euros", "send 35 euros"),
        ("कि", "की"),  # Hindi vowel signs are neither letters nor punctuation
        ("5 + 3", "5 3"),
        ("10²", "102"),
        ("resume", "résumé"),
        ("", ""),
        ("...", "?"),
    ],
)
def test_everything_else_counts(one: str, other: str) -> None:
    assert not same_words(one, other)
    assert not same_words(other, one)


def test_a_huge_text_costs_no_time() -> None:
    huge = "a" * 1_000_000
    started = time.thread_time()
    assert not same_words(huge, huge + "!")
    assert time.thread_time() - started < 0.01
    assert same_words("a" * (MAX_COMPARED - 1), "A" * (MAX_COMPARED - 1) + ".")
