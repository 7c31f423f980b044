"""The scanner equals its reference on every provider's events, damaged ones and random bytes, however they are cut."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.scan import compare

TEXTS = st.text(st.characters(exclude_categories=()), max_size=8) | st.sampled_from(
    ["Hello", "\ud83d", "\ude00", "\ud83d\ude00", "a\ud83d", "\ude00b", 'q"\\/\n', "\u2028é", ""]
)
COUNTS = st.integers(-2, 10**16) | st.floats(allow_nan=False, allow_infinity=False) | st.none()
# fmt: off
TYPES = st.sampled_from([
    "response.output_text.delta", "response.refusal.delta", "response.completed", "response.failed",
    "response.incomplete", "response.reasoning_text.delta", "error", "ping", "message", "message_start",
    "message_delta", "message_stop", "content_block_start", "content_block_delta", "content-delta", "message-end",
    "message-start", "text_delta", "thinking_delta", "text", "thinking", "strange",
])
WORDS = st.sampled_from([
    "content_filter", "stop", "SAFETY", "STOP", "OTHER", "refusal", "ERROR", "TIMEOUT", "COMPLETE", "max_output_tokens",
])
NAMES = st.sampled_from([
    "type", "delta", "choices", "candidates", "message", "error", "usage", "usageMetadata", "promptFeedback",
    "response", "done", "code", "content", "parts", "text", "thought", "index", "finish_reason", "finishReason",
    "refusal", "tokens", "reason", "x_groq", "id",
])
# fmt: on
LEAVES = st.none() | st.booleans() | COUNTS | TEXTS | TYPES | WORDS
ANYTHING = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | TEXTS, inner, max_size=4), max_leaves=8
)


def almost(**parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """An object with these members, each of them missing or something else now and then."""
    whole = st.fixed_dictionaries(parts)
    return whole | st.fixed_dictionaries({}, optional={name: part | part | ANYTHING for name, part in parts.items()})


ERRORS = almost(message=TEXTS, type=TEXTS, code=TEXTS | COUNTS, status=WORDS)
USAGE = almost(prompt_tokens=COUNTS, completion_tokens=COUNTS) | almost(
    input_tokens=COUNTS, output_tokens=COUNTS, cache_read_input_tokens=COUNTS, cache_creation_input_tokens=COUNTS
)
CONTENTS = TEXTS | st.lists(almost(type=TYPES, text=TEXTS), max_size=3)
MESSAGES = almost(content=CONTENTS, refusal=TEXTS)
EVENTS = st.one_of(
    almost(
        id=TEXTS,
        choices=st.lists(almost(index=st.integers(-1, 1), delta=MESSAGES, finish_reason=WORDS), max_size=3),
        usage=USAGE,
    ),
    almost(choices=st.lists(almost(message=MESSAGES, text=TEXTS), max_size=2), x_groq=almost(usage=USAGE)),
    almost(type=TYPES, delta=TEXTS),
    almost(
        type=TYPES,
        response=almost(error=ERRORS, usage=USAGE, incomplete_details=almost(reason=WORDS)),
    ),
    almost(type=TYPES, delta=almost(type=TYPES, text=TEXTS, stop_reason=WORDS), usage=USAGE),
    almost(type=TYPES, message=almost(usage=USAGE), content=CONTENTS, code=TEXTS, error=ERRORS),
    almost(
        type=TYPES,
        delta=almost(
            message=almost(content=almost(text=TEXTS)),
            finish_reason=WORDS,
            error=TEXTS,
            usage=almost(tokens=USAGE),
        ),
    ),
    almost(
        candidates=st.lists(
            almost(
                content=almost(parts=st.lists(almost(text=TEXTS, thought=st.booleans()), max_size=3)),
                finishReason=WORDS,
                finishMessage=TEXTS,
            ),
            max_size=2,
        ),
        usageMetadata=almost(promptTokenCount=COUNTS, candidatesTokenCount=COUNTS, thoughtsTokenCount=COUNTS),
        promptFeedback=almost(blockReason=WORDS, blockReasonMessage=TEXTS),
    ),
    almost(message=MESSAGES, done=st.booleans(), prompt_eval_count=COUNTS, eval_count=COUNTS),
    almost(object=st.just("error"), message=TEXTS, type=TYPES, code=TEXTS | COUNTS),
    almost(response=TEXTS, done=st.booleans(), error=ERRORS | TEXTS),
    ANYTHING,
)


@st.composite
def written(draw: st.DrawFn, event: Any, is_one_line: bool = False) -> bytes:
    """Write an event as JSON: escaped or not, with blanks or without, a member twice, a byte lost."""
    ascii_only = draw(st.booleans())
    text = json.dumps(
        event,
        ensure_ascii=ascii_only,
        separators=draw(st.sampled_from([(",", ":"), (", ", ": "), (" , ", "\t: ")])),
        indent=None if is_one_line else draw(st.sampled_from([None, None, 1])),
    )
    if ascii_only and draw(st.integers(0, 9)) == 0:
        text = text.replace("e", "\\u0065") if '"' in text else text
    if text[:1] == "{" and draw(st.integers(0, 9)) == 0:
        text = '{"type": 1, "delta": {}, "choices": [], "id": "\\/",' + text[1:]
    data = text.encode("utf-8", "surrogatepass")
    if data and draw(st.integers(0, 29)) == 0:
        at = draw(st.integers(0, len(data) - 1))
        data = data[:at] + draw(st.binary(max_size=1)) + data[at + 1 :]
    return data


@st.composite
def event_streams(draw: st.DrawFn) -> bytes:
    parts = [draw(st.sampled_from([b"", b"", b"\xef\xbb\xbf", b"\xef\xbb", b"\n", b" "]))]
    for _ in range(draw(st.integers(0, 5))):
        end = draw(st.sampled_from([b"\n", b"\r\n", b"\r"]))
        if draw(st.integers(0, 4)) == 0:
            other = (
                b": comment",
                b"event: error",
                b"event: error ",
                b"event: x",
                b"id: 1",
                b"retry: 5",
                b"stray",
                b"data",
                b"data:",
                b"\xff",
            )
            parts += [draw(st.sampled_from(other)), end]
        data = (
            draw(written(draw(EVENTS)))
            if draw(st.integers(0, 9))
            else draw(st.sampled_from([b"[DONE]", b"words", b""]))
        )
        for line in data.split(b"\n"):
            parts += [b"data:" + draw(st.sampled_from([b"", b" "])), line, end]
        parts.append(end if draw(st.integers(0, 9)) else b"")
    return b"".join(parts)


@st.composite
def object_streams(draw: st.DrawFn) -> bytes:
    start, between, end = draw(st.sampled_from([(b"", b"\n", b"\n"), (b"[", b"\n,\r\n", b"]"), (b"", b"\r\n", b"")]))
    events = [draw(written(draw(EVENTS))) for _ in range(draw(st.integers(0, 5)))]
    cut = draw(st.sampled_from([0, 0, 0, 1, 5]))
    data = start + between.join(events) + end
    return data[: len(data) - cut]


CUTS = st.lists(st.integers(0, 400), max_size=8) | st.just(range(100000))
LIMITS = st.sampled_from([16 << 20, 16 << 20, 16 << 20, 200, 60, 1])


@settings(max_examples=1500)
@given(st.sampled_from([None, "sse"]), event_streams(), CUTS, LIMITS)
def test_event_streams_equal_the_reference(kind: Any, data: bytes, cuts: Iterable[int], limit: int) -> None:
    compare(kind, data, cuts, limit)


@settings(max_examples=1000)
@given(st.sampled_from([None, "ndjson"]), object_streams(), CUTS, LIMITS)
def test_object_streams_equal_the_reference(kind: Any, data: bytes, cuts: Iterable[int], limit: int) -> None:
    compare(kind, data, cuts, limit)


@settings(max_examples=500)
@given(st.sampled_from([None, "sse", "ndjson"]), st.binary(max_size=60), CUTS, LIMITS)
def test_random_bytes_equal_the_reference(kind: Any, data: bytes, cuts: Iterable[int], limit: int) -> None:
    compare(kind, data, cuts, limit)
