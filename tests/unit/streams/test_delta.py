"""The text of LLM events: spoken are answers, never reasoning, refusals, tool arguments, or a text a second time."""

from __future__ import annotations

import collections
import dataclasses
import enum
import gc
import sys
import types
import weakref
from collections.abc import Callable
from typing import Any

import pydantic
import pytest

from se_server.streams._delta import text_of
from tests.providers import replay
from tests.reference import delta as reference

Json = dict[str, Any]

# --- the streams of the four providers, event by event with what is to be spoken ------------------------------------


def chat_chunk(*deltas: Json, **fields: Any) -> Json:
    choices = [{"index": number, "delta": delta, "finish_reason": None} for number, delta in enumerate(deltas)]
    return {"id": "c", "created": 1, "model": "m", "object": "chat.completion.chunk", "choices": choices, **fields}


TOOL_CALL = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a"'}}
USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
CHAT: list[tuple[Json, str | None]] = [
    (chat_chunk(prompt_filter_results=[{"prompt_index": 0}]), None),  # Azure's first: no choices at all
    (chat_chunk({"role": "assistant", "refusal": None}), None),
    (chat_chunk({"role": "assistant", "content": ""}), ""),
    (chat_chunk({"role": "assistant", "content": None}), None),
    (chat_chunk({"content": "Good"}), "Good"),
    (chat_chunk({"content": " morning 🙂\n"}), " morning 🙂\n"),
    (chat_chunk({"content": "one"}, {"content": "two"}), "one"),
    (chat_chunk({"reasoning_content": "hm"}), None),
    (chat_chunk({"reasoning": "hm", "content": None}), None),
    (chat_chunk({"refusal": "I will not"}), None),
    (chat_chunk({"tool_calls": [TOOL_CALL]}), None),
    (chat_chunk({"content": None, "tool_calls": [TOOL_CALL]}), None),
    (chat_chunk({"function_call": {"name": "f", "arguments": "{"}}), None),
    (chat_chunk({}), None),
    (chat_chunk(usage=USAGE), None),
]


def response_event(kind: str, **fields: Any) -> Json:
    place = {"item_id": "i", "output_index": 0, "content_index": 0, "sequence_number": 1}
    return {"type": f"response.{kind}", **place, **fields}


def response(kind: str, text: str) -> Json:
    content = {"type": "output_text", "text": text, "annotations": []}
    message = {"type": "message", "id": "i", "role": "assistant", "status": "completed", "content": [content]}
    whole = {"id": "r", "object": "response", "created_at": 1, "model": "m", "output": [message] if text else []}
    return {"type": f"response.{kind}", "sequence_number": 0, "response": whole}


RESPONSES: list[tuple[Json, str | None]] = [
    (response("created", ""), None),
    (response("in_progress", ""), None),
    (response_event("output_item.added", item={"type": "reasoning", "id": "i", "summary": []}), None),
    (response_event("reasoning_summary_part.added", part={"type": "summary_text", "text": "hm"}), None),
    (response_event("reasoning_summary_text.delta", delta="hm", summary_index=0), None),
    (response_event("reasoning_summary_text.done", text="hm", summary_index=0), None),
    (response_event("reasoning_text.delta", delta="hm"), None),
    (response_event("content_part.added", part={"type": "output_text", "text": "x", "annotations": []}), None),
    (response_event("output_text.delta", delta="Good", logprobs=[]), "Good"),
    (response_event("output_text.delta", delta=" morning 🙂", logprobs=[]), " morning 🙂"),
    (response_event("output_text.delta", delta="", logprobs=[]), ""),
    (response_event("output_text.annotation.added", annotation={}, annotation_index=0), None),
    (response_event("output_text.done", text="Good morning 🙂", logprobs=[]), None),
    (response_event("content_part.done", part={"type": "output_text", "text": "Good", "annotations": []}), None),
    (response_event("refusal.delta", delta="I will not"), None),
    (response_event("refusal.done", refusal="I will not"), None),
    (response_event("function_call_arguments.delta", delta='{"a"'), None),
    (response_event("function_call_arguments.done", arguments='{"a":1}', name="f"), None),
    (response_event("mcp_call_arguments.delta", delta='{"a"'), None),
    (response_event("code_interpreter_call_code.delta", delta="print("), None),
    (response_event("custom_tool_call_input.delta", delta="x"), None),
    (response_event("audio.transcript.delta", delta="x"), None),
    (response_event("of_next_year.delta", delta="x"), None),
    (response("completed", "Good morning 🙂"), None),
    (response("incomplete", "Good"), None),
]


def block_delta(**delta: Any) -> Json:
    return {"type": "content_block_delta", "index": 0, "delta": delta}


def block_start(**block: Any) -> Json:
    return {"type": "content_block_start", "index": 0, "content_block": block}


MESSAGE = {"id": "m", "type": "message", "role": "assistant", "content": [], "model": "m", "stop_reason": None}
ANTHROPIC: list[tuple[Json, str | None]] = [
    (
        {
            "type": "message_start",
            "message": {**MESSAGE, "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 1}},
        },
        None,
    ),
    (block_start(type="thinking", thinking="", signature=""), None),
    (block_delta(type="thinking_delta", thinking="hm"), None),
    (block_delta(type="signature_delta", signature="c2ln"), None),
    ({"type": "content_block_stop", "index": 0}, None),
    ({**block_start(type="text", text=""), "index": 1}, None),
    ({**block_delta(type="text_delta", text="Good"), "index": 1}, "Good"),
    ({**block_delta(type="text_delta", text=" morning 🙂"), "index": 1}, " morning 🙂"),
    ({**block_delta(type="text_delta", text=""), "index": 1}, ""),
    ({"type": "content_block_stop", "index": 1}, None),
    ({**block_start(type="tool_use", id="t", name="f", input={}), "index": 2}, None),
    ({**block_delta(type="input_json_delta", partial_json='{"a": 1}'), "index": 2}, None),
    ({"type": "content_block_stop", "index": 2}, None),
    (
        {
            "type": "message_delta",
            "delta": {"stop_reason": "tool_use", "stop_sequence": None},
            "usage": {"output_tokens": 2},
        },
        None,
    ),
    ({"type": "message_stop"}, None),
]


def candidate(*parts: Json, **fields: Any) -> Json:
    return {"candidates": [{"content": {"parts": list(parts), "role": "model"}, "index": 0, **fields}]}


GEMINI: list[tuple[Json, str | None]] = [
    (candidate({"text": "hm", "thought": True}), None),
    (candidate({"text": "Good"}), "Good"),
    (
        candidate({"text": "hm", "thought": True}, {"text": " mor"}, {"text": "ning 🙂", "thought": False}),
        " morning 🙂",
    ),
    (candidate({"functionCall": {"name": "f", "args": {"a": "x"}}}), None),
    (candidate({"text": "x"}, {"executableCode": {"code": "print()", "language": "PYTHON"}}), "x"),
    (candidate({"inlineData": {"mimeType": "image/png", "data": "aaaa"}}), None),
    (candidate({"text": ""}, finishReason="STOP"), ""),
    ({"candidates": [{"finishReason": "SAFETY", "index": 0}]}, None),
    ({"candidates": [{"content": {"role": "model"}, "finishReason": "STOP"}]}, None),
    ({"candidates": [*candidate({"text": "one"})["candidates"], *candidate({"text": "two"})["candidates"]]}, "one"),
    ({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"totalTokenCount": 3}}, None),
]

STREAMS = {"chat": CHAT, "responses": RESPONSES, "anthropic": ANTHROPIC, "gemini": GEMINI}
DICTS = [
    pytest.param(event, text, id=f"{name}-{n}") for name, s in STREAMS.items() for n, (event, text) in enumerate(s)
]

SDKS = {
    "chat": replay.openai_chat,
    "responses": replay.openai_responses,
    "anthropic": replay.anthropic_create,
    "gemini": replay.gemini,
}


def as_objects(value: Any) -> Any:
    """The same shape of attributes instead of keys."""
    if isinstance(value, dict):
        return types.SimpleNamespace(**{name: as_objects(entry) for name, entry in value.items()})
    return [as_objects(entry) for entry in value] if isinstance(value, list) else value


@dataclasses.dataclass(slots=True)
class Slotted:
    """An object without a `__dict__`, and with a part that is never filled."""

    type: str
    delta: Any
    choices: Any = None


class Extras(pydantic.BaseModel, extra="allow"):
    """A model that knows no field: every part is an extra."""


class Forbidding(pydantic.BaseModel, extra="forbid"):
    candidates: list[Any]


# --- every documented format ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("event", "text"), DICTS)
def test_text_of_dicts(event: Json, text: str | None) -> None:
    assert text_of(event) == text
    assert reference.text_of(event) == text


@pytest.mark.parametrize(("event", "text"), DICTS)
@pytest.mark.parametrize("wrap", [as_objects, lambda event: Extras(**event), collections.OrderedDict])
def test_text_of_other_objects_of_the_same_shape(event: Json, text: str | None, wrap: Callable[[Json], Any]) -> None:
    assert text_of(wrap(event)) == text


@pytest.mark.parametrize("provider", STREAMS)
def test_text_of_the_sdks_own_events(provider: str) -> None:
    stream = STREAMS[provider]
    events = SDKS[provider]([event for event, _ in stream])
    assert len(events) == len(stream)
    for event, (_, text) in zip(events, stream, strict=True):
        assert not isinstance(event, dict)
        assert (type(event).__name__, text_of(event)) == (type(event).__name__, text)
        assert reference.text_of(event) == text


def test_anthropics_text_event_does_not_repeat_the_delta() -> None:
    events = replay.anthropic_stream([event for event, _ in ANTHROPIC])
    assert {"text", "thinking", "signature", "input_json"} <= {event.type for event in events}
    assert "".join(text_of(event) or "" for event in events) == "Good morning 🙂"


@pytest.mark.parametrize("provider", STREAMS)
def test_no_event_pays_for_a_failing_probe(provider: str) -> None:
    events = SDKS[provider]([event for event, _ in STREAMS[provider]])
    for event in events:
        text_of(event)  # the type is remembered from here on
    called: list[str] = []
    sys.setprofile(lambda frame, kind, _: called.append(frame.f_code.co_name) if kind == "call" else None)
    try:
        for event in events:
            text_of(event)
    finally:
        sys.setprofile(None)
    assert called == []


# --- what is no event -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        1.5,
        b"data: x",
        bytearray(b"x"),
        pytest.param(memoryview(b"x"), id="memoryview"),
        [],
        ["text"],
        ("text",),
        {"text"},
        {},
        {"text": "x"},
        {"content": "x"},
        {"delta": "x"},
        {"type": "text", "text": "x"},
        {"type": "response.output_text.delta"},
        {"type": "response.output_text.delta", "delta": {"text": "x"}},
        {"type": "response.output_text.delta", "delta": b"x"},
        {"type": "content_block_delta", "delta": "x"},
        {"type": "content_block_delta", "delta": {"type": "text_delta", "text": 1}},
        {"type": "content_block_delta", "delta": {"text": "x"}},
        {"type": ["content_block_delta"], "delta": {"type": "text_delta", "text": "x"}},
        {"choices": None},
        {"choices": "x"},
        {"choices": {"0": {"delta": {"content": "x"}}}},
        {"choices": [None]},
        {"choices": ["x"]},
        {"choices": [{"delta": None}]},
        {"choices": [{"delta": "x"}]},
        {"choices": [{"delta": {"content": ["x"]}}]},
        {"candidates": [{"content": "x"}]},
        {"candidates": [{"content": {"parts": "x"}}]},
        {"candidates": [{"content": {"parts": ["x", None, {"text": 1}]}}]},
        pytest.param(object(), id="object()"),
        object,
        Extras,
        types.SimpleNamespace(),
        enum.Enum,
        sys,
    ],
    ids=repr,
)
def test_unknown_shapes_have_no_text(value: Any) -> None:
    assert text_of(value) is None


def test_strings_are_their_own_text() -> None:
    text = "Good morning"
    assert text_of(text) is text
    assert text_of("") == ""
    assert text_of("\ud83d") == "\ud83d"


class Word(str):
    def __str__(self) -> str:
        return "its own idea"


class Greeting(str, enum.Enum):
    HELLO = "hello"


@pytest.mark.parametrize("text", [Word("hello"), Greeting.HELLO])
def test_string_subclasses_become_exact_strings(text: str) -> None:
    for event in (
        text,
        {"choices": [{"delta": {"content": text}}]},
        {"type": "response.output_text.delta", "delta": text},
        {"type": "content_block_delta", "delta": {"type": "text_delta", "text": text}},
        {"candidates": [{"content": {"parts": [{"text": text}]}}]},
        {"candidates": [{"content": {"parts": [{"text": text}, {"text": Word("")}]}}]},
    ):
        spoken = text_of(event)
        assert type(spoken) is str
        assert spoken == "hello"


def test_event_type_may_be_an_enum() -> None:
    class EventType(str, enum.Enum):
        DELTA = "response.output_text.delta"

    assert text_of({"type": EventType.DELTA, "delta": "x"}) == "x"


def test_ambiguous_events_follow_the_published_order() -> None:
    """Event that fits several formats is read in the published order."""
    event: Json = {
        "type": "response.output_text.delta",
        "delta": "responses",
        "choices": [{"delta": {"content": "chat"}}],
        "candidates": [{"content": {"parts": [{"text": "gemini"}]}}],
    }
    assert text_of(event) == text_of(as_objects(event)) == "responses"
    event["delta"] = None
    assert text_of(event) == text_of(as_objects(event)) == "chat"
    event.update(type="content_block_delta", delta={"type": "text_delta", "text": "anthropic"})
    assert text_of(event) == text_of(as_objects(event)) == "chat"
    event["choices"] = ()
    assert text_of(event) == text_of(as_objects(event)) == "anthropic"
    event["delta"]["type"] = "other"
    assert text_of(event) == text_of(as_objects(event)) == "gemini"


# --- remembered types -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [lambda event: types.SimpleNamespace(**event), lambda event: Extras(**event), dict])
def test_one_type_may_carry_another_providers_shape_next(make: Callable[[Json], Any]) -> None:
    expected = [(make(event), text) for stream in STREAMS.values() for event, text in stream]
    for events in (expected, expected[::-1], expected):
        assert [text_of(event) for event, _ in events] == [text for _, text in events]


def test_objects_with_slots_and_attributes_never_set() -> None:
    event = Slotted("response.output_text.delta", "x")
    assert text_of(event) == "x"
    del event.delta, event.choices
    assert text_of(event) is None


def test_models_without_extras_and_half_made_ones() -> None:
    assert text_of(Forbidding(**candidate({"text": "x"}))) == "x"
    assert text_of(Forbidding.model_construct()) is None
    assert text_of(Forbidding.__new__(Forbidding)) is None
    assert text_of(Extras.__new__(Extras)) is None


def test_properties_of_models_are_asked() -> None:
    class Computed(pydantic.BaseModel):
        word: str
        type: str = "response.output_text.delta"

        @property
        def delta(self) -> str:
            return self.word.upper()

    class Inherited(Computed):
        pass

    assert text_of(Computed(word="x")) == text_of(Inherited(word="x")) == "X"


class LazyModel(pydantic.BaseModel):
    def __getattr__(self, name: str) -> Any:
        if name == "choices":
            return [{"delta": {"content": "lazy"}}]
        return super().__getattr__(name)  # type: ignore[misc]


class Proxy:
    def __init__(self, event: Any) -> None:
        self._event = event

    def __getattr__(self, name: str) -> Any:
        return getattr(self._event, name)


class Watching(Extras):
    def __getattribute__(self, name: str) -> Any:
        return "x" if name == "delta" else super().__getattribute__(name)


def test_classes_with_their_own_getattr_are_asked() -> None:
    for _ in range(2):
        assert text_of(LazyModel()) == "lazy"
        assert text_of(Proxy(as_objects(chat_chunk({"content": "x"})))) == "x"
        assert text_of(Proxy(object())) is None
        assert text_of(Watching(type="response.output_text.delta")) == "x"


def test_a_dict_subclass_with_get_is_asked() -> None:
    class Chunk(dict[str, Any]):
        def get(self, key: str, default: Any = None) -> Any:
            return {"type": "response.output_text.delta", "delta": "x"}.get(key, default)

    assert text_of(Chunk()) == "x"


def test_attribute_error_means_missing_and_other_errors_propagate() -> None:
    class Event:
        error: Exception = AttributeError("gone")
        candidates = candidate({"text": "x"})["candidates"]

        @property
        def choices(self) -> Any:
            raise self.error

    class Model(Extras):
        @property
        def choices(self) -> Any:
            raise Event.error

    assert text_of(Event()) == "x"
    assert text_of(Model(**candidate({"text": "x"}))) == "x"
    Event.error = ConnectionError("lost")
    for event in (Event(), Model()):
        with pytest.raises(ConnectionError, match="lost"):
            text_of(event)


def test_unhashable_classes_are_remembered() -> None:
    """Classes that cannot be hashed are remembered all the same."""

    class Unhashable(type):
        def __eq__(cls, other: object) -> bool:
            raise RuntimeError("not comparable")

        __hash__ = None  # type: ignore[assignment]

    class Event(metaclass=Unhashable):
        def __getattr__(self, name: str) -> Any:
            if name == "choices":
                return ({"delta": {"content": "x"}},)
            raise AttributeError(name)

    assert [text_of(Event()) for _ in range(3)] == ["x"] * 3


def test_types_made_on_the_fly_are_freed() -> None:
    """Types made on the fly are not kept alive for ever."""

    def event_of_a_new_type() -> Any:
        return type("Event", (), {"__getattr__": lambda self, name: None})()

    kept = [weakref.ref(type(event)) for event in (event_of_a_new_type() for _ in range(600)) if text_of(event) is None]
    gc.collect()
    assert len(kept) == 600
    assert sum(reference() is not None for reference in kept) <= 256


def parts_of(value: Any) -> list[Any]:
    """An event, and everything in it that an extractor may take into its hands."""
    entries = value if isinstance(value, (list, dict)) else vars(value) if hasattr(value, "__dict__") else ()
    if not isinstance(entries, list):
        entries = dict(entries).values()
    return [value, *(part for entry in entries for part in parts_of(entry))]


@pytest.mark.parametrize("wrap", [dict, as_objects, lambda event: Extras(**event)])
def test_nothing_is_left_behind_by_an_event(wrap: Callable[[Json], Any]) -> None:
    events = [wrap(event) for stream in STREAMS.values() for event, _ in stream]
    watched = [part for event in events for part in parts_of(event)]
    before = list(map(sys.getrefcount, watched))
    for _ in range(20):
        for event in events:
            text_of(event)
    # Small integers and None belong to everybody, and the loop itself holds its last event.
    grown = [part for part, count in zip(watched, before, strict=True) if sys.getrefcount(part) >= count + 20]
    assert [part for part in grown if not (part is None or isinstance(part, int))] == []
