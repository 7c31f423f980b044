"""The promises of the wire format, case by case."""

from __future__ import annotations

import contextlib
import gc
import json
import sys
import time
from typing import Any

import pytest

from se_server.errors import MessageError
from se_server.protocol import _wire
from se_server.types import ConversationMessage
from tests.reference.wire import parse_frames

USER = {"role": "user", "content": "What time is it?"}
AGENT = {"role": "agent", "content": "Noon."}


def transcript_message(entries: list[Any], **fields: Any) -> bytes:
    return json.dumps({"type": "user_transcript", "user_transcript": entries, **fields}, ensure_ascii=False).encode()


def messages(*entries: dict[str, str]) -> list[ConversationMessage]:
    return [ConversationMessage(entry["role"], entry["content"]) for entry in entries]


def error_of(data: bytes) -> tuple[str, int]:
    with pytest.raises(MessageError) as caught:
        _wire.decode(data)
    return caught.value.reason, caught.value.offset


# --- the kinds ------------------------------------------------------------------------------------------------------


def test_init_gives_the_conversation_id() -> None:
    message = _wire.decode(b'{"type":"init","conversation_id":"conv_1"}')
    assert (message.kind, message.conversation_id) == (_wire.INIT, "conv_1")
    assert message.transcript is None
    assert message.text is None


@pytest.mark.parametrize("data", [b'{"type":"init"}', b'{"type":"init","conversation_id":null}'])
def test_init_without_an_id_is_an_init(data: bytes) -> None:
    message = _wire.decode(data)
    assert (message.kind, message.conversation_id) == (_wire.INIT, None)


def test_transcript_gives_messages_and_event_id() -> None:
    message = _wire.decode(transcript_message([USER, AGENT], event_id=26))
    assert message.kind == _wire.USER_TRANSCRIPT
    assert message.transcript == messages(USER, AGENT)
    assert type(message.transcript) is list
    assert message.event_id == 26
    assert message.bad_entry is None


@pytest.mark.parametrize("data", [b'{"type":"user_transcript"}', b'{"user_transcript":null,"type":"user_transcript"}'])
def test_transcript_that_is_absent_or_null_is_empty(data: bytes) -> None:
    message = _wire.decode(data)
    assert (message.transcript, message.event_id) == ([], None)


def test_ping_close_and_unknown_types_need_nothing_else() -> None:
    assert _wire.decode(b'{"type":"ping","event_id":"strange","user_transcript":7}').kind == _wire.PING
    assert _wire.decode(b' {\r\n"type"\t:"close"} ').kind == _wire.CLOSE
    for data, text in [(b"{}", None), (b'{"type":1}', None), (b'{"type":"audio"}', "audio"), (b'{"type":""}', "")]:
        message = _wire.decode(data)
        assert (message.kind, message.text) == (_wire.UNKNOWN, text)


def test_error_gives_its_message() -> None:
    assert _wire.decode(b'{"type":"error","message":"no \\u20ac"}').text == "no €"
    for data in (b'{"type":"error"}', b'{"type":"error","message":null}', b'{"type":"error","message":{"a":1}}'):
        message = _wire.decode(data)
        assert (message.kind, message.text) == (_wire.ERROR, "")


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_contiguous_bytes_are_read(kind: type) -> None:
    assert _wire.decode(kind(b'{"type":"ping"}')).kind == _wire.PING


def test_text_and_strided_memory_are_type_errors() -> None:
    with pytest.raises(TypeError):
        _wire.decode('{"type":"ping"}')  # type: ignore[arg-type]
    with pytest.raises(BufferError):
        _wire.decode(memoryview(b"{x}x")[::2])


# --- JSON -----------------------------------------------------------------------------------------------------------


def test_the_last_of_duplicate_keys_wins() -> None:
    """Keys come in any order and the last duplicate wins."""
    data = (
        b'{"event_id":"x","user_transcript":5,"event_id":7,"type":"ping","user_transcript":'
        b'[{"role":1,"content":"old","content":"new","role":"user"}],"type":"user_transcript"}'
    )
    message = _wire.decode(data)
    assert message.event_id == 7
    assert message.transcript == [ConversationMessage("user", "new")]
    assert message.bad_entry is None
    message = _wire.decode(b'{"type":"user_transcript","user_transcript":[null],"user_transcript":null}')
    assert (message.transcript, message.bad_entry) == ([], None)


def test_escapes_are_resolved_in_names_types_and_texts() -> None:
    data = rb"""{"ty\u0070e":"user\u005ftranscript","\u0075ser_transcript":[
        {"r\u006fle":"us\u0065r","\u0063ontent":"\"\\\/\b\f\n\r\t\u0000\u00E9\uD83D\uDE00"}]}"""
    message = _wire.decode(data)
    assert message.transcript == [ConversationMessage("user", '"\\/\b\f\n\r\t\0é😀')]


@pytest.mark.parametrize("size", [0, 1, 6, 7, 8, 9, 15, 16, 17, 1023, 1024, 1025, 5000])
@pytest.mark.parametrize("character", ["a", "é", "あ", "🙂", "\n", '"', "\x00"])
def test_texts_of_every_length_and_script_come_through(character: str, size: int) -> None:
    entry = {"role": "agent", "content": "x" + character * size}
    for ensure_ascii in (False, True):
        data = json.dumps({"type": "user_transcript", "user_transcript": [entry]}, ensure_ascii=ensure_ascii)
        assert _wire.decode(data.encode()).transcript == messages(entry)


def test_unknown_keys_are_skipped_at_any_depth() -> None:
    extra: Any = {"a": [1, -0.5e-3, {"b": [[], {}, None, True, False]}], "\ud800": "\udfff"}
    entry = {**USER, "extra": extra, "time": 1.5}
    data = {"x": extra, "type": "user_transcript", "user_transcript": [entry], "y": [extra]}
    message = _wire.decode(json.dumps(data).encode())
    assert message.transcript == messages(USER)
    assert message.bad_entry is None


@pytest.mark.parametrize(
    ("data", "reason", "offset"),
    [
        (b"", "empty message", 0),
        (b" \n", "empty message", 2),
        (b" [1]", "expected a JSON object, got an array", 1),
        (b'"ping"', "expected a JSON object, got a string", 0),
        (b"-1", "expected a JSON object, got a number", 0),
        (b"true", "expected a JSON object, got a boolean", 0),
        (b"null", "expected a JSON object, got null", 0),
        (b"ping", "expected a JSON object, got 'p'", 0),
        (b"\x00", "expected a JSON object, got byte 0x00", 0),
        (b'\xef\xbb\xbf{"type":"ping"}', "expected a JSON object, got a byte order mark", 0),
        (b"{", "unexpected end of the message", 1),
        (b'{"type":"pi', "unexpected end of the message", 11),
        (b'{"type":"ping"', "unexpected end of the message", 14),
        (b'{"type":"ping"}x', "expected the end of the message, got 'x'", 15),
        (b'{"type":"ping"}\x00', "expected the end of the message, got byte 0x00", 15),
        (b"{type:1}", "expected a name in double quotes, got 't'", 1),
        (b'{"a" 1}', "expected ':' after a name, got '1'", 5),
        (b'{"a":1 "b":2}', "expected ',' or '}', got '\"'", 7),
        (b'{"a":1,}', "expected a name in double quotes, got '}'", 7),
        (b'{"a":[1,]}', "expected a value, got ']'", 8),
        (b'{"a":[1 2]}', "expected ',' or ']', got '2'", 8),
        (b'{"a":NaN}', "expected a value, got 'N'", 5),
        (b'{"a":nul}', "expected a value (true, false or null), got '}'", 8),
        (b'{"a":-Infinity}', "invalid number: expected a digit, got 'I'", 6),
        (b'{"a":01}', "invalid number: a digit after a leading zero, got '1'", 6),
        (b'{"a":1.}', "invalid number: expected a digit, got '}'", 7),
        (b'{"a":1e+}', "invalid number: expected a digit, got '}'", 8),
        (b'{"a":"\x00"}', "raw control character in a string, got byte 0x00", 6),
        (b'{"a":"b\n"}', "raw control character in a string, got byte 0x0A", 7),
        (b'{"a":"\\x"}', "invalid escape in a string, got 'x'", 7),
        (b'{"a":"\\u12G4"}', "invalid \\u escape: expected four hexadecimal digits, got 'G'", 10),
        (b'{"a":"\xff"}', "invalid UTF-8", 6),
        (b'{"a":"\xed\xa0\x80"}', "invalid UTF-8", 6),
        (b'{"a":"abc\xe2\x82"}', "invalid UTF-8", 9),
        (b'{"a":1}\xc3', "invalid UTF-8", 7),
        (b'{"a":1 x,"b":"\xc0\x80"}', "invalid UTF-8", 14),
    ],
)
def test_errors_name_their_offset(data: bytes, reason: str, offset: int) -> None:
    """An error names the offset of the bytes that are not a message."""
    assert error_of(data) == (reason, offset)


@pytest.mark.parametrize("byte", range(0x20))
def test_control_characters_in_a_string_must_be_escaped(byte: int) -> None:
    # Before an "n", which would make a newline of a backslash.
    for start in (b'{"type":"', b'{"type":"ping","x":"0123456789', b'{"'):
        reason = f"raw control character in a string, got byte 0x{byte:02X}"
        assert error_of(start + bytes((byte,)) + b'n":0}') == (reason, len(start))


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"b":['])
def test_nesting_ends_at_512_levels(opening: bytes) -> None:
    closing = {b"[": b"]", b'{"a":': b"}", b'[{"b":[': b"]}]"}[opening]
    levels = len(closing)
    fit = (_wire.MAX_DEPTH - 1) // levels
    start = b'{"type":"ping","x":'
    assert _wire.decode(start + opening * fit + b"0" + closing * fit + b"}").kind == _wire.PING
    reason, offset = error_of(start + opening * (fit + 1) + b"0" + closing * (fit + 1) + b"}")
    assert reason == "nested deeper than 512 levels"
    assert offset < len(start + opening * (fit + 1))
    assert error_of(start + opening * 10_000)[0] == "nested deeper than 512 levels"


def test_nesting_inside_a_transcript_counts_from_the_message() -> None:
    start = b'{"type":"user_transcript","user_transcript":[{"role":"user","content":"a","x":'
    fit = _wire.MAX_DEPTH - 3
    transcript = _wire.decode(start + b"[" * fit + b"]" * fit + b"}]}").transcript
    assert transcript == [ConversationMessage("user", "a")]
    assert error_of(start + b"[" * (fit + 1) + b"]" * (fit + 1) + b"}]}") == (
        "nested deeper than 512 levels",
        len(start) + fit,
    )


def test_huge_numbers_in_unknown_fields_are_skipped() -> None:
    assert _wire.decode(b'{"x":' + b"9" * 100_000 + b',"y":1e999999,"type":"ping"}').kind == _wire.PING


# --- fields ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("event_id", [0, 1, -1, 26, 2**53 + 1, 2**63, 2**64 - 1, -(2**63)])
def test_event_id_is_any_integer_of_64_bits(event_id: int) -> None:
    assert _wire.decode(transcript_message([], event_id=event_id)).event_id == event_id


def test_event_id_minus_zero_is_zero() -> None:
    assert _wire.decode(b'{"type":"user_transcript","event_id":-0}').event_id == 0


@pytest.mark.parametrize(
    ("written", "event_id"),
    [
        (b"26.5", 26.5),
        (b"26.0", 26.0),
        (b"1e3", 1000.0),
        (b"true", True),
        (b'"26"', "26"),
        (rb'"\u00e9 \n"', "\u00e9 \n"),
        ('"\u00e9"'.encode(), "\u00e9"),
        (b"[26]", [26]),
        (b'{ "a": 1 }', {"a": 1}),
        (b"18446744073709551616", 2**64),
        (b"-9223372036854775809", -(2**63) - 1),
    ],
)
def test_other_event_ids_are_taken_as_they_came(written: bytes, event_id: object) -> None:
    message = _wire.decode(b'{"type":"user_transcript","event_id": ' + written + b"}")
    assert (message.event_id, type(message.event_id)) == (event_id, type(event_id))
    assert message.event_id_json == written


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        (b"9" * 10_000, "event_id is longer than 256 bytes"),
        (b'"' + b"x" * 255 + b'"', "event_id is longer than 256 bytes"),
        (rb'"\ud83d"', "event_id holds a lone surrogate"),
    ],
)
def test_event_ids_that_cannot_be_kept_are_errors(written: bytes, reason: str) -> None:
    assert error_of(b'{"type":"user_transcript","event_id": ' + written + b"}") == (reason, 38)


@pytest.mark.parametrize(
    ("written", "conversation_id"), [(b"5", 5), (b"[1, 2]", [1, 2]), (b"false", False), (b'{"a":null}', {"a": None})]
)
def test_other_conversation_ids_are_taken_as_they_came(written: bytes, conversation_id: object) -> None:
    assert _wire.decode(b'{"type":"init","conversation_id":' + written + b"}").conversation_id == conversation_id


def test_wrong_field_types_are_errors() -> None:
    """Other types of fields are errors at their place."""
    assert error_of(b'{"type":"user_transcript","user_transcript":{}}') == (
        "user_transcript: expected an array, got an object",
        44,
    )


@pytest.mark.parametrize(
    "lone",
    [
        rb"\ud83d",
        rb"\uDE00",
        rb"\ud83d\ud83d",
        rb"\ude00\ude00",
        rb"\ude00\ud83d",
        rb"\ud83d\ue000",
        rb"\ud83dx",
        rb"\ud83d\n",
        rb"a\ud83d\u0041",
    ],
)
def test_lone_surrogates_in_texts_are_errors(lone: bytes) -> None:
    assert error_of(b'{"type":"init","conversation_id":"' + lone + b'"}') == (
        "conversation_id holds a lone surrogate",
        33,
    )
    assert error_of(b'{"type":"error","message":"' + lone + b'"}') == ("message holds a lone surrogate", 26)
    assert error_of(b'{"type":"' + lone + b'"}') == ("type holds a lone surrogate", 8)
    assert _wire.decode(b'{"type":"ping","x' + lone + b'":"' + lone + b'"}').kind == _wire.PING


# --- entries of a transcript ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "flaw"),
    [
        (b"null", "expected an object, got null"),
        (b"12", "expected an object, got a number"),
        (b'"user"', "expected an object, got a string"),
        (b"[[]]", "expected an object, got an array"),
        (b"false", "expected an object, got a boolean"),
        (b"{}", "role is missing"),
        (b'{"role":"user"}', "content is missing"),
        (b'{"content":"x"}', "role is missing"),
        (b'{"role":"user","content":null}', "content is null"),
        (b'{"role":{},"content":"x"}', "role is an object"),
        (b'{"role":"user","content":"x","content":7}', "content is a number"),
        (b'{"role":"user","content":"\\ud83d"}', "content holds a lone surrogate"),
        (b'{"role":"\\ude00","content":"x"}', "role holds a lone surrogate"),
    ],
)
def test_bad_entry_is_left_out_and_named(entry: bytes, flaw: str) -> None:
    good = b'{"role":"user","content":"a"}'
    start = b'{"type":"user_transcript","user_transcript":[' + good + b", "
    data = start + entry + b"," + good + b",0]}"
    for history in (None, _wire.History()):
        for _ in range(2):
            message = _wire.decode(data, history)
            assert message.transcript == [ConversationMessage("user", "a")] * 2
            assert isinstance(message.bad_entry, MessageError)
            assert (message.bad_entry.reason, message.bad_entry.offset) == (f"transcript entry 1: {flaw}", len(start))


def test_roles_are_the_same_objects_each_time() -> None:
    transcript = _wire.decode(transcript_message([USER, AGENT, USER, AGENT])).transcript
    assert transcript is not None
    assert transcript[0].role is transcript[2].role
    assert transcript[1].role is transcript[3].role


# --- history --------------------------------------------------------------------------------------------------------


def turn(history: _wire.History, *entries: dict[str, str]) -> list[ConversationMessage]:
    transcript = _wire.decode(transcript_message(list(entries)), history).transcript
    assert transcript == messages(*entries)
    return transcript


def numbered(number: int, text: str = "") -> dict[str, str]:
    return {"role": ("user", "agent")[number % 2], "content": f"{number}: {text or 'é' * number}"}


def test_a_growing_history_reuses_its_messages() -> None:
    """A growing history reuses its messages in a new list."""
    history = _wire.History()
    entries = [numbered(0)]
    before = turn(history, *entries)
    for number in range(1, 60):
        entries.append(numbered(number))
        now = turn(history, *entries)
        assert now is not before
        assert all(new is old for new, old in zip(now, before, strict=False))
        before = now


def test_a_changed_list_leaves_the_history_alone() -> None:
    history = _wire.History()
    turn(history, USER, AGENT).clear()
    turn(history, USER, AGENT).insert(0, ConversationMessage("system", "be brief"))
    turn(history, USER, AGENT, USER)


def test_an_interruption_shortens_history_and_is_noticed() -> None:
    history = _wire.History()
    before = turn(history, *map(numbered, range(10)))
    now = turn(history, *map(numbered, range(9)), numbered(9, "cut"), numbered(10))
    assert [new is old for new, old in zip(now, before, strict=False)] == [True] * 9 + [False]
    now = turn(history, *map(numbered, range(4)))
    assert [new is old for new, old in zip(now, before, strict=False)] == [True] * 4
    assert turn(history) == []
    turn(history, USER)


def test_other_blanks_are_no_change_of_meaning() -> None:
    history = _wire.History()
    for separators in ((",", ":"), (", ", ": "), (" ,\n", " : ")):
        text = json.dumps({"type": "user_transcript", "user_transcript": [USER, AGENT]}, separators=separators)
        assert _wire.decode(text.encode(), history).transcript == messages(USER, AGENT)


def test_a_message_that_fails_leaves_the_history_usable() -> None:
    history = _wire.History()
    before = turn(history, USER, AGENT)
    good = transcript_message([USER, AGENT, USER])
    for size in range(len(good)):
        with pytest.raises(MessageError):
            _wire.decode(good[:size], history)
    now = turn(history, USER, AGENT, USER)
    assert now[:2] == before
    with pytest.raises(MessageError):
        _wire.decode(transcript_message([USER, AGENT, USER], event_id="x" * 300), history)
    assert turn(history, USER, AGENT, USER, AGENT)[2] is now[2]


def test_kept_memory_is_counted_and_follows_the_transcript() -> None:
    history = _wire.History()
    empty = history.size_bytes
    turn(history, *map(numbered, range(200)))
    large = history.size_bytes
    raw = len(transcript_message([*map(numbered, range(200))]))
    assert raw < large - empty < 4 * raw
    turn(history, USER)
    assert history.size_bytes < empty + 1000


def test_a_huge_transcript_is_kept_in_part_only() -> None:
    history = _wire.History()
    entries = [numbered(number, "x" * 10_000) for number in range(250)]
    before = turn(history, *entries)
    assert history.size_bytes < 3 * 2**20
    now = turn(history, *entries, USER)
    assert now[0] is before[0]
    assert now[-2] is not before[-1]
    entries[0] = numbered(0, "x" * 2**20)
    turn(history, *entries)
    assert history.size_bytes < 2**16


# --- time and memory ------------------------------------------------------------------------------------------------


HOSTILE = {
    "brackets": lambda n: b'{"x":[' + b"[]," * n + b"0]}",
    "names": lambda n: b'{"x":0' + b',"x":0' * n + b"}",
    "transcripts": lambda n: b'{"x":0' + b',"user_transcript":[{},1]' * n + b"}",
    "bad entries": lambda n: b'{"type":"user_transcript","user_transcript":[0' + b",{}" * n + b"]}",
    "escapes": lambda n: b'{"type":"' + b"\\ud83d\\ude00" * n + b'"}',
    "broken": lambda n: b'{"x":"' + "ü".encode() * n,
    "blanks": lambda n: b" " * n + b"{}",
}


@pytest.mark.parametrize("shape", HOSTILE)
def test_time_is_proportional_to_size(shape: str) -> None:
    def seconds(count: int) -> float:
        data = HOSTILE[shape](count)
        history = _wire.History()
        best = float("inf")
        for _ in range(3):
            start = time.thread_time()
            with contextlib.suppress(MessageError):
                _wire.decode(data, history)
            best = min(best, time.thread_time() - start)
        return best

    # Ten times the size: ten times the processor's time, with much room for caches, where a square law would give 100.
    assert seconds(200_000) < 40 * seconds(20_000) + 0.05


def test_decoding_leaves_nothing_behind() -> None:
    good = transcript_message([USER, {"role": "agent", "content": "a\né" * 600}, None], event_id=2**63)
    bad = [good[:-1], transcript_message([], event_id="x"), b'{"type":"\\ud800"}', b"\xff"]

    def rounds(count: int) -> None:
        history = _wire.History()
        for number in range(count):
            _wire.decode(good, history if number % 2 else None)
            for data in bad:
                with contextlib.suppress(MessageError):
                    _wire.decode(data, history)
        gc.collect()

    rounds(50)
    before = sys.getallocatedblocks()
    rounds(500)
    assert sys.getallocatedblocks() - before < 100


# --- writing --------------------------------------------------------------------------------------------------------


def test_an_answer_is_compact_json_in_utf8() -> None:
    assert _wire.encode_agent_response("Grüß\n", 26, False) == (
        '{"type":"agent_response","content":"Grüß\\n","event_id":26,"is_final":false}'.encode()
    )
    assert _wire.encode_agent_response("", None, True) == (
        b'{"type":"agent_response","content":"","event_id":null,"is_final":true}'
    )
    assert _wire.encode_pong() == b'{"type":"pong"}'


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("x\ud83d", "x\ufffd"),
        ("y\ude00", "y\ufffd"),
        ("a\ud83d\ud83d\ude00b", "a\ufffd😀b"),
        ("\ude00\ud83d", "\ufffd\ufffd"),
        ("\ud83d" + "\ude00", "😀"),
        ("🙂\ud83d", "🙂\ufffd"),
    ],
)
def test_halves_of_characters_are_joined_or_replaced(text: str, spoken: str) -> None:
    assert json.loads(_wire.encode_agent_response(text, 1, False))["content"] == spoken


def test_control_characters_are_escaped_and_delete_is_not() -> None:
    controls = "".join(map(chr, range(0x20))) + '"\\/\x7f\u2028'
    for text in (controls, controls + "é", controls + "あ", controls + "🙂"):
        data = _wire.encode_agent_response(text, 1, False)
        assert json.loads(data)["content"] == text
        assert json.dumps(text, ensure_ascii=False).encode() in data


@pytest.mark.parametrize("event_id", [True, "26", 26.0, b"26"])
def test_an_event_id_is_int_or_none(event_id: Any) -> None:
    with pytest.raises(TypeError, match="event_id must be int or None"):
        _wire.encode_agent_response("x", event_id, False)


@pytest.mark.parametrize("content", [None, b"x", 5])
def test_content_is_str(content: Any) -> None:
    with pytest.raises(TypeError):
        _wire.encode_agent_response(content, 1, False)
    with pytest.raises(TypeError):
        _wire.Buffer().put_agent_response(content, 1, False)


@pytest.mark.parametrize("character", ["x", "é", "あ", "🙂", "\n"])
@pytest.mark.parametrize("size", [125, 126, 127, 65535, 65536, 65537])
def test_frame_lengths_are_written_in_their_shortest_form(character: str, size: int) -> None:
    empty = _wire.encode_agent_response("", 26, False)
    width = len(character.encode()) + (character == "\n")
    text = character * ((size - len(empty)) // width)
    text += "x" * (size - len(empty) - width * len(text))
    buffer = _wire.Buffer()
    buffer.put_agent_response(text, 26, False)
    frame = buffer.take_bytes()
    assert parse_frames(frame) == [_wire.encode_agent_response(text, 26, False)]
    assert len(frame) == size + (2 if size < 126 else 4 if size < 65536 else 10)


def test_a_buffer_gives_back_huge_memory() -> None:
    """A buffer is reused and gives back what a huge message took."""
    buffer = _wire.Buffer()
    for _ in range(3):
        buffer.put_pong()
        buffer.put_agent_response("a", 1, True)
        assert len(parse_frames(buffer.take_bytes())) == 2
    usual = sys.getsizeof(buffer)
    buffer.put_agent_response("x" * 2**20, 1, True)
    assert sys.getsizeof(buffer) > 2**20
    buffer.take_bytes()
    assert sys.getsizeof(buffer) <= usual
    assert buffer.take_bytes() == b""
