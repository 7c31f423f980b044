"""Growing texts and raw lines: what is held back is never lost, and ordinary text stays as it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from se_server.streams.growing import Growing
from se_server.streams.sniffing import Sniffing, is_surely_raw

WORDS = st.text("ab ", min_size=1, max_size=6)


def spoken(texts: list[str]) -> str:
    growing = Growing(texts[0])
    return texts[0] + "".join(growing.add(text) if not growing.is_over else text for text in texts[1:]) + growing.end()


@given(st.lists(WORDS, min_size=1, max_size=8))
def test_texts_of_few_letters_are_never_taken_for_growing(texts: list[str]) -> None:
    assert spoken(texts) == "".join(texts)


@given(st.lists(st.text(max_size=8), min_size=1, max_size=8))
def test_broken_chains_lose_nothing(texts: list[str]) -> None:
    chain = ["".join(texts[: n + 1]) for n in range(len(texts))]
    assert spoken([*chain[:2], "!"]).endswith("!")


def test_a_text_that_grows_is_spoken_once() -> None:
    words = ["Good", "morning!", "It", "is", "21", "degrees", "in", "the", "city", "today."]
    chain = [" ".join(words[: n + 1]) for n in range(len(words))]
    assert spoken(chain) == chain[-1]


@pytest.mark.parametrize(
    "chain", [["I", "I am", "I am here"], ["H", "He", "Hel", "Hello"], ["1", "1, 2", "1, 2, 3", "1, 2, 3."]]
)
def test_short_text_that_grows_is_spoken_once(chain: list[str]) -> None:
    assert spoken(chain) == chain[-1]


@pytest.mark.parametrize("texts", [["ha", "haha", "hahaha"], ["no", "no no", "no no no"], ["Good", "Good day"]])
def test_short_texts_that_repeat_are_spoken_in_full(texts: list[str]) -> None:
    assert spoken(texts) == "".join(texts)


def test_a_known_growing_text_may_repeat_and_restart() -> None:
    growing = Growing("Good", is_known=True)
    assert [growing.add(text) for text in ("Good", "Good day", "Good", "Good day!")] == ["", " day", "", "!"]
    assert growing.add("Another text") == "Another text"


@given(st.lists(st.text('dat:ev{}"\n x', max_size=6), min_size=1, max_size=6))
def test_sniffing_holds_every_text(texts: list[str]) -> None:
    sniffing = Sniffing()
    for number, text in enumerate(texts, 1):
        verdict = sniffing.add(text)
        assert sniffing.held == texts[:number]
        if verdict != "maybe":
            return


def test_lines_in_the_midst_of_text_need_json() -> None:
    assert is_surely_raw('data: {"choices": []}')
    assert is_surely_raw('{"message": {"content": "x"}, "done": false}')
    assert not is_surely_raw("data: the new oil")
    assert not is_surely_raw('{"answer": "yes"}')
