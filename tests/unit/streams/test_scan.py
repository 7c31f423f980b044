"""The words that are heard of a provider's HTTP response, byte for byte."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest

from se_server.streams import _scan
from se_server.streams._scan import Failure, Refusal, Scanner, Unknown

Event = dict[str, Any]


def sse(*events: Event | str, end: str = "\n") -> bytes:
    texts = (event if isinstance(event, str) else json.dumps(event) for event in events)
    return "".join(f"data: {text}{end}{end}" for text in texts).encode()


def read(data: bytes, kind: Any = None, step: int = 0) -> list[Any]:
    """Return everything that a body says, fed in pieces of `step` bytes; 0 for whole."""
    scanner = Scanner(kind)
    items = []
    for start in range(0, len(data), step or len(data) or 1):
        items += scanner.feed(data[start : start + (step or len(data))])
    return items + scanner.finish()


def chat(**delta: Any) -> Event:
    return {"id": "c", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta}]}


def said(*events: Event) -> list[Any]:
    """Return what events say: the same in event streams, a line each, and in an array."""
    bodies = (sse(*events), "\n".join(map(json.dumps, events)).encode(), json.dumps(events, indent=2).encode())
    read_as = [list(map(repr, read(body))) for body in bodies]
    assert read_as[0] == read_as[1] == read_as[2]
    return read(bodies[0])


SPOKEN: dict[str, list[Event]] = {
    "chat": [
        chat(role="assistant", content=""),
        chat(reasoning_content="hm"),
        chat(reasoning="hm"),
        chat(tool_calls=[{"index": 0, "function": {"arguments": "{}"}}]),
        chat(content="Hello"),
        chat(content=" you"),
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}},
    ],
    "mistral": [
        chat(content=[{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]),
        chat(content=[{"type": "text", "text": "Hello"}, {"type": "text", "text": " you"}]),
    ],
    "responses": [
        {"type": "response.created", "response": {"error": None, "output": []}},
        {"type": "response.reasoning_summary_text.delta", "delta": "hm"},
        {"type": "response.function_call_arguments.delta", "delta": "{}"},
        {"type": "response.output_text.delta", "delta": "Hello"},
        {"type": "response.output_text.delta", "delta": " you"},
        {"type": "response.output_text.done", "text": "Hello you"},
        {"type": "response.completed", "response": {"output": [{"content": [{"text": "Hello you"}]}]}},
    ],
    "anthropic": [
        {"type": "message_start", "message": {"content": [], "usage": {"input_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        {"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": "hm"}},
        {"type": "content_block_delta", "delta": {"type": "input_json_delta", "partial_json": "{}"}},
        {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "Hello"}},
        {"type": "content_block_delta", "delta": {"type": "text_delta", "text": " you"}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
        {"type": "message_stop"},
    ],
    "gemini": [
        {"candidates": [{"content": {"parts": [{"text": "hm", "thought": True}, {"text": "Hello"}]}}]},
        {"candidates": [{"content": {"parts": [{"functionCall": {"name": "f"}}, {"text": " you"}]}}]},
        {"candidates": [{"finishReason": "STOP"}], "usageMetadata": {"promptTokenCount": 1}},
    ],
    "cohere": [
        {"type": "message-start", "delta": {"message": {"role": "assistant", "content": []}}},
        {"type": "tool-plan-delta", "delta": {"message": {"tool_plan": "hm"}}},
        {"type": "content-delta", "delta": {"message": {"content": {"thinking": "hm"}}}},
        {"type": "content-delta", "delta": {"message": {"content": {"text": "Hello"}}}},
        {"type": "content-delta", "delta": {"message": {"content": {"text": " you"}}}},
        {"type": "message-end", "delta": {"finish_reason": "COMPLETE"}},
    ],
    "ollama": [
        {"message": {"role": "assistant", "content": "", "thinking": "hm"}, "done": False},
        {"message": {"role": "assistant", "content": "Hello"}, "done": False},
        {"message": {"role": "assistant", "content": " you"}, "done": True, "eval_count": 2},
    ],
}


@pytest.mark.parametrize("provider", SPOKEN)
def test_the_words_and_nothing_else(provider: str) -> None:
    assert said(*SPOKEN[provider]) == ["Hello", " you"]


@pytest.mark.parametrize("provider", SPOKEN)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
def test_any_cut_gives_the_same_words(provider: str, end: str) -> None:
    data = sse(*SPOKEN[provider], end=end)
    for step in (*range(1, 40), 1000):
        assert read(data, "sse", step) == ["Hello", " you"]


def test_members_may_be_in_any_order_and_escaped() -> None:
    data = b'{"choices" : [ {"delta":{"\\u0063ontent" :"a\\u0062c","x":[{}]},"index":0 } ]\t}'
    assert read(sse(data.decode())) == ["abc"]


def test_last_of_repeated_members_counts() -> None:
    assert read(b'{"choices":[],"choices":[{"delta":{"content":"a","content":"b"}}]}') == ["b"]


def test_only_the_first_choice_is_heard() -> None:
    events = [{"choices": [{"index": index, "delta": {"content": text}}]} for index, text in ((1, "B"), (0, "A"))]
    both = {"choices": [{"index": 1, "delta": {"content": "B"}}, {"index": 0, "delta": {"content": "A"}}]}
    assert said(*events, both) == ["A", "A"]


def test_event_may_be_split_over_data_lines() -> None:
    data = b': hi\r\nid: 4\r\nevent: x\r\nretry: 3\r\ndata: {"choices":[{"delta":\r\ndata:{"content":"Hi"}}]}\r\n\r\n'
    for step in range(len(data)):
        assert read(data, "sse", step) == ["Hi"]


@pytest.mark.parametrize("step", [0, 1, 2])
def test_byte_order_mark_is_passed(step: int) -> None:
    for data in (sse(chat(content="Hi")), json.dumps(chat(content="Hi")).encode()):
        assert read(b"\xef\xbb\xbf" + data, None, step) == ["Hi"]


def test_nothing_is_read_behind_done() -> None:
    scanner = Scanner("sse")
    assert scanner.feed(sse(chat(content="a"), "[DONE]", chat(content="b"))) == ["a"]
    assert scanner.done
    assert scanner.feed(sse(chat(content="c"))) == scanner.finish() == []


def test_characters_cut_in_two_deltas_are_joined() -> None:
    events = [chat(content="a\ud83d"), chat(content=""), chat(reasoning="x"), chat(content="\ude00b")]
    assert said(*events) == ["a", "\U0001f600b"]
    assert [item.text for item in said(chat(refusal="\ud83d"), chat(refusal="\ude00"))] == ["\U0001f600"]


def test_half_a_character_alone_becomes_a_mark() -> None:
    assert said(chat(content="\ude00a\ud83d"), chat(content="b"), chat(content="c\ud83d")) == [
        *("\ufffda", "\ufffdb", "c", "\ufffd")
    ]


def test_refusals_are_told_apart_from_texts() -> None:
    for event in (chat(refusal="No."), {"type": "response.refusal.delta", "delta": "No."}):
        (refusal,) = said(event)
        assert type(refusal) is Refusal
        assert refusal.text == "No."


FAILURES: dict[str, tuple[Event, tuple[str, str, str | None]]] = {
    "failed": (
        {"type": "response.failed", "response": {"error": {"code": "server_error", "message": "Sorry"}}},
        ("error", "Sorry", "server_error"),
    ),
    "incomplete": (
        {"type": "response.incomplete", "response": {"incomplete_details": {"reason": "max_output_tokens"}}},
        ("incomplete", "max_output_tokens", "max_output_tokens"),
    ),
    "responses error": (
        {"type": "error", "code": "rate_limit_exceeded", "message": "Slow down", "param": None},
        ("error", "Slow down", "rate_limit_exceeded"),
    ),
    "anthropic error": (
        {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
        ("error", "Overloaded", "overloaded_error"),
    ),
    "gemini error": (
        {"error": {"code": 503, "message": "Try later", "status": "UNAVAILABLE"}},
        ("error", "Try later", "UNAVAILABLE"),
    ),
    "error object": (
        {"object": "error", "message": "Too long", "type": "BadRequestError", "param": None, "code": 400},
        ("error", "Too long", "BadRequestError"),
    ),
    "number": ({"error": {"code": 503, "message": "Try later"}}, ("error", "Try later", "503")),
    "text": ({"error": "model not found"}, ("error", "model not found", None)),
    "no message": ({"error": {}}, ("error", "the provider gave no message", None)),
    "chat filter": (
        {"choices": [{"delta": {}, "finish_reason": "content_filter"}]},
        ("blocked", "finish_reason: content_filter", "content_filter"),
    ),
    "gemini prompt": (
        {"promptFeedback": {"blockReason": "SAFETY", "blockReasonMessage": "Not this"}},
        ("blocked", "Not this", "SAFETY"),
    ),
    "gemini finish": (
        {"candidates": [{"finishReason": "PROHIBITED_CONTENT"}]},
        ("blocked", "finishReason: PROHIBITED_CONTENT", "PROHIBITED_CONTENT"),
    ),
    "anthropic refusal": (
        {"type": "message_delta", "delta": {"stop_reason": "refusal"}},
        ("blocked", "stop_reason: refusal", "refusal"),
    ),
    "cohere": (
        {"type": "message-end", "delta": {"finish_reason": "ERROR", "error": "Broken"}},
        ("error", "Broken", "ERROR"),
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_failures_carry_the_providers_message(name: str) -> None:
    event, expected = FAILURES[name]
    (failure,) = said(event)
    assert (failure.kind, failure.message, failure.code) == expected


@pytest.mark.parametrize("name", [name for name in FAILURES if FAILURES[name][1][0] == "blocked"])
def test_answer_cut_by_a_filter_is_heard(name: str) -> None:
    assert said(chat(content="Hello"), FAILURES[name][0]) == ["Hello"]


def test_error_event_may_be_plain_text() -> None:
    (failure,) = read(b"event: error\ndata: upstream went away\n\n")
    assert (failure.kind, failure.message) == ("error", "upstream went away")


USAGES: dict[str, tuple[list[Event], tuple[int | None, int | None]]] = {
    "chat": ([{"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 4}}], (9, 4)),
    "groq": ([{"choices": [], "x_groq": {"usage": {"prompt_tokens": 9, "completion_tokens": 4}}}], (9, 4)),
    "responses": (
        [{"type": "response.completed", "response": {"usage": {"input_tokens": 9, "output_tokens": 4}}}],
        (9, 4),
    ),
    "anthropic": (
        [
            {
                "type": "message_start",
                "message": {"usage": {"input_tokens": 2, "cache_read_input_tokens": 7, "output_tokens": 1}},
            },
            {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 4}},
        ],
        (9, 4),
    ),
    "gemini": (
        [
            {"usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 1}},
            {"usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 3, "thoughtsTokenCount": 1}},
        ],
        (9, 4),
    ),
    "cohere": (
        [{"type": "message-end", "delta": {"usage": {"tokens": {"input_tokens": 9.0, "output_tokens": 4}}}}],
        (9, 4),
    ),
    "ollama": ([{"response": "", "done": True, "prompt_eval_count": 9, "eval_count": 4}], (9, 4)),
    "nonsense": ([{"usage": {"prompt_tokens": -9, "completion_tokens": 10**400}}], (None, None)),
}


@pytest.mark.parametrize("provider", USAGES)
def test_tokens_are_counted(provider: str) -> None:
    events, expected = USAGES[provider]
    scanner = Scanner()
    assert scanner.feed(sse(*events)) == []
    usage = scanner.usage
    assert ((None, None) if usage is None else (usage.input_tokens, usage.output_tokens)) == expected


def test_unknown_events_are_named() -> None:
    (unknown,) = said({"type": "strange", "word": "never spoken", "\u00e9": [{"deep": 1}]})
    assert type(unknown) is Unknown
    assert (unknown.type, unknown.keys) == ("strange", ("type", "word", "\u00e9"))
    (unknown,) = said({str(number): 0 for number in range(100)})
    assert (unknown.type, len(unknown.keys)) == (None, _scan.MAX_KEYS)


@pytest.mark.parametrize(
    "data",
    [
        *(b"data: Hello\n\n", b'data: "Hello"\n\n', b"data: [1]\n\n", b'data: {"a":1,}\n\n', b"<html>Hello</html>"),
        *(b"Hello\n", b'data: {"a":"\xff"}\n\n', b'{"a":1} Hello', b'{"a":1', b'data: {"a":1', b'{"a":NaN}'),
        b"\xef\xbbdata: {}\n\n",
    ],
)
def test_raw_lines_are_a_failure_and_never_text(data: bytes) -> None:
    for step in (0, 1):
        items = read(data, None, step)
        assert [type(item) for item in items if not isinstance(item, Unknown)] == [Failure]
        assert items[-1].kind == "malformed"


def test_words_before_a_failure_are_kept() -> None:
    *words, failure = read(sse(chat(content="a"), "{", chat(content="b")))
    assert words == ["a"]
    assert failure.message == "an event is not JSON: unexpected end of the message (byte 1)"


def test_last_event_needs_no_blank_line() -> None:
    assert read(sse(chat(content="a")).rstrip(b"\n")) == ["a"]
    assert read(sse(chat(content="a"))[:-1]) == ["a"]


@pytest.mark.parametrize("step", [0, 1, 7])
def test_large_event_is_a_failure(step: int) -> None:
    event = json.dumps(chat(content="x" * 100)).encode()
    lines = event.replace(b" ", b"\ndata: ")
    for body, size in ((b"data: " + event, len(event) + 6), (event, len(event)), (b"data: " + lines, len(event))):
        for limit, is_read in ((size, True), (size // 4, False)):
            scanner = Scanner(max_event_bytes=limit)
            items = [
                item
                for start in range(0, len(body), step or len(body))
                for item in scanner.feed(body[start : start + (step or len(body))])
            ]
            items += scanner.finish()
            assert items == ["x" * 100] if is_read else [item.kind for item in items] == ["malformed"]


def test_depth_is_limited() -> None:
    for depth, expected in ((_scan.MAX_DEPTH, Unknown), (_scan.MAX_DEPTH + 1, Failure)):
        inner = depth - 1
        (item,) = read(b'{"a":' + b"[" * inner + b"]" * inner + b"}")
        assert type(item) is expected


def test_time_is_proportional_to_the_size() -> None:
    # Each of these took minutes if a byte were looked at once a line or once a piece.
    scanner = Scanner("sse")
    assert scanner.feed(b":\r" * 1_000_000) == []
    for _ in range(100_000):
        scanner.feed(b"x")
    scanner = Scanner("ndjson")
    scanner.feed(b'{"a":"')
    for _ in range(100_000):
        scanner.feed(b"\\u")


def test_memory_of_a_large_event_is_given_back() -> None:
    scanner = Scanner("sse")
    event = sse(chat(content="x" * 4_000_000))
    scanner.feed(b":\n")
    tracemalloc.start()
    try:
        scanner.feed(event[:-1])
        held = tracemalloc.get_traced_memory()[0]
        assert len(scanner.feed(event[-1:])) == 1
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert held > 4_000_000
    assert after < 200_000


def test_lines_may_come_without_their_ends() -> None:
    scanner = Scanner()
    lines = sse(chat(content="a"), chat(content="\u20ac")).decode().splitlines()
    assert [item for line in lines for item in scanner.feed_line(line)] == ["a", "\u20ac"]
    scanner = Scanner()
    lines = sse(chat(content="a"), chat(content="b")).decode().splitlines(keepends=True)
    assert [item for line in lines for item in scanner.feed_line(line.encode())] == ["a", "b"]


def test_every_kind_of_piece_is_read() -> None:
    data = sse(chat(content="a"))
    for piece in (data, bytearray(data), memoryview(data), data.decode()):
        assert Scanner().feed(piece) == ["a"]
    for other in (None, 1, ["data"]):
        with pytest.raises(TypeError):
            Scanner().feed(other)  # type: ignore[arg-type]


def test_framing_is_told_by_the_first_byte() -> None:
    for data, kind in (
        (b" \n", None),
        (b"\n{", "ndjson"),
        (b"[", "ndjson"),
        (b": x", "sse"),
        (b"\xef\xbb\xbf{", "ndjson"),
    ):
        scanner = Scanner()
        scanner.feed(data)
        assert scanner.kind == kind


def test_scanner_is_for_one_response() -> None:
    scanner = Scanner("sse")
    assert scanner.finish() == []
    with pytest.raises(ValueError, match="make a new one"):
        scanner.feed(b"")


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="'sse', 'ndjson' or None"):
        Scanner("xml")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least 1"):
        Scanner(max_event_bytes=0)
