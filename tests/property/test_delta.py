"""The compiled extractor equals its reference on invented events: known shapes grafted onto one another."""

from __future__ import annotations

import types
from typing import Any

import pydantic
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from se_server.streams._delta import text_of
from tests.reference import delta as reference


class Model(pydantic.BaseModel, extra="allow"):
    type: Any = None


class Slots:
    __slots__ = (
        *("candidates", "choices", "content", "delta", "parts", "text", "thought", "type"),
        *("content_delta", "done", "event_kind", "message", "part", "part_delta_kind", "part_kind", "response"),
    )


class Hooked:
    """An object whose `__getattr__` reports missing attributes from Python code."""

    def __init__(self, parts: dict[str, Any]) -> None:
        self._parts = parts

    def __getattr__(self, name: str) -> Any:
        try:
            return self._parts[name]
        except KeyError:
            raise AttributeError(name) from None


class Word(str):
    def __str__(self) -> str:
        return "its own idea"


def slots(parts: dict[str, Any]) -> Slots:
    event = Slots()
    for name, value in parts.items():
        setattr(event, name, value)
    return event


# The names of the formats whose order is promised.
NAMES = st.sampled_from(Slots.__slots__[:8])
WRAPPERS = st.sampled_from([dict, lambda p: types.SimpleNamespace(**p), lambda p: Model(**p), slots, Hooked])
TYPES = st.sampled_from(["response.output_text.delta", "content_block_delta", "text_delta", "text", "thinking_delta"])
TEXTS = st.text(st.characters(exclude_categories=()), max_size=5)
LEAVES = st.none() | st.booleans() | st.integers() | TEXTS | TYPES | TEXTS.map(Word) | st.binary(max_size=2)


def wrapped(entries: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[Any]:
    return st.builds(lambda wrap, parts: wrap(parts), WRAPPERS, entries)


def listed(entries: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(entries, max_size=3) | st.lists(entries, max_size=3).map(tuple)


ANYTHING = st.recursive(
    LEAVES, lambda inner: listed(inner) | wrapped(st.dictionaries(NAMES, inner, max_size=4)), max_leaves=12
)


def almost(**parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """An object with these parts, each of them sometimes missing or replaced."""
    return wrapped(st.fixed_dictionaries({}, optional={name: part | part | ANYTHING for name, part in parts.items()}))


DELTAS = almost(type=TYPES, text=TEXTS, content=TEXTS)
PARTS = almost(text=TEXTS | TEXTS.map(Word), thought=st.booleans())
EVENTS = almost(
    type=TYPES,
    delta=TEXTS | DELTAS,
    choices=listed(almost(delta=DELTAS)),
    candidates=listed(almost(content=almost(parts=listed(PARTS)))),
)


@settings(max_examples=2000)
@given(EVENTS | ANYTHING)
def test_text_of_equals_the_reference(event: Any) -> None:
    expected = reference.text_of(event)
    text = text_of(event)
    assert text == expected
    assert text is None or type(text) is str


CONTENTS = TEXTS | listed(TEXTS | almost(type=TYPES, text=TEXTS))
OTHER_EVENTS = {
    "cohere": almost(type=st.just("content-delta"), delta=almost(message=almost(content=almost(text=TEXTS)))),
    "openai helper": almost(type=st.just("content.delta"), delta=TEXTS),
    "mistral": almost(type=st.just("message.output.delta"), content=CONTENTS | almost(type=TYPES, text=TEXTS)),
    "langchain": almost(type=st.sampled_from(["AIMessageChunk", "ai", "human", "tool"]), content=CONTENTS),
    "ollama": almost(done=st.booleans(), message=almost(content=TEXTS), response=TEXTS),
    "pydantic-ai": almost(
        event_kind=st.sampled_from(["part_start", "part_delta", "part_end"]),
        part=almost(part_kind=TYPES, content=TEXTS),
        delta=almost(part_delta_kind=TYPES, content_delta=TEXTS),
    ),
}


@pytest.mark.parametrize("name", OTHER_EVENTS)
@settings(max_examples=300)
@given(st.data())
def test_other_formats_equal_the_reference(name: str, data: st.DataObject) -> None:
    event = data.draw(OTHER_EVENTS[name])
    # With this type it is an event of the Responses API, whatever else it has.
    kind = event.get("type") if isinstance(event, dict) else getattr(event, "type", None)
    assume(kind != "response.output_text.delta")
    assert text_of(event) == reference.OTHERS[name](event)
