"""The compiled wire format equals its reference, on invented messages and on damaged real ones.

Hypothesis draws the content of a message; its notation (blanks, escapes) comes from a seed, which keeps the many
thousands of examples quick.
"""

from __future__ import annotations

import codecs
import contextlib
import itertools
import json
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from se_server.errors import MessageError
from se_server.protocol import _wire
from tests.reference import wire as reference


def examples(number: int) -> settings:
    return settings(max_examples=number, suppress_health_check=list(HealthCheck))


CHARACTERS = st.characters(exclude_categories=())  # lone surrogates included
TEXTS = st.text(CHARACTERS, max_size=20) | st.sampled_from(
    [
        "",
        "user",
        "agent",
        "Grüß Gott",
        "こんにちは、元気ですか",
        "🙂👍🏽",
        "\ud83d",
        "\ude00",
        "a\x00b\x1f",
        'say "\\n"',
        "x" * 300,
    ]
)
NUMBERS = st.integers(-(2**65), 2**65) | st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.none() | st.booleans() | NUMBERS | TEXTS
NAMES = TEXTS | st.sampled_from(
    ["type", "event_id", "user_transcript", "conversation_id", "message", "role", "content"]
)


class Members(list[tuple[str, Any]]):
    """An object as a list of members: names may repeat."""


def objects(names: st.SearchStrategy[str], values: st.SearchStrategy[Any], size: int = 4) -> st.SearchStrategy[Members]:
    return st.lists(st.tuples(names, values), max_size=size).map(Members)


VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=4) | objects(NAMES, inner), max_leaves=12)

GOOD_ENTRIES = st.tuples(st.sampled_from(["user", "agent"]), TEXTS).map(
    lambda pair: Members([("role", pair[0]), ("content", pair[1])])
)
ENTRIES = (
    GOOD_ENTRIES
    | objects(st.sampled_from(["role", "content", "content", "timestamp"]), TEXTS | SCALARS, 5)
    | st.integers(0, 99)
    | SCALARS
)
TRANSCRIPTS = st.lists(GOOD_ENTRIES | ENTRIES, max_size=6)
EVENT_IDS = (
    st.integers(0, 99) | st.sampled_from([2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 10**30, -0]) | SCALARS
)
FIELDS = st.one_of(
    st.tuples(st.just("type"), st.sampled_from(list(reference.KINDS))),
    st.tuples(st.just("type"), st.sampled_from(list(reference.KINDS)) | SCALARS),
    st.tuples(st.just("user_transcript"), TRANSCRIPTS | TRANSCRIPTS | SCALARS),
    st.tuples(st.just("event_id"), EVENT_IDS),
    st.tuples(st.sampled_from(["conversation_id", "message"]), TEXTS | SCALARS),
    st.tuples(NAMES, SCALARS),
)
SEEDS = st.integers(0, 2**32 - 1)


def written(value: Any, seed: int | None) -> bytes:
    """A value as JSON: compact and plain without a seed, else with blanks and escapes as the seed has it."""
    chance = random.Random(seed)
    style = 0 if seed is None else chance.choice([0, 0.1, 0.5])

    def blanks() -> str:
        return chance.choice([" ", "\n", "\r\n", "\t ", "  "]) if chance.random() < style else ""

    def string(text: str) -> str:
        out = []
        for character in text:
            # A lone surrogate can only be written as an escape.
            if "\ud800" <= character <= "\udfff" or chance.random() < style / 2:
                units = character.encode("utf-16-be", "surrogatepass")
                digits = [units[at : at + 2].hex() for at in range(0, len(units), 2)]
                out += [f"\\u{four.upper() if chance.random() < 0.5 else four}" for four in digits]
            elif character == "/" and chance.random() < style:
                out.append("\\/")
            else:
                out.append(json.dumps(character, ensure_ascii=False)[1:-1])
        return f'"{"".join(out)}"'

    def write(inner: Any) -> str:
        if isinstance(inner, Members):
            members = (f"{blanks()}{string(name)}{blanks()}:{blanks()}{write(of)}{blanks()}" for name, of in inner)
            return f"{{{','.join(members) or blanks()}}}"
        if isinstance(inner, list):
            return f"[{','.join(f'{blanks()}{write(of)}{blanks()}' for of in inner) or blanks()}]"
        return string(inner) if isinstance(inner, str) else json.dumps(inner)

    return f"{blanks()}{write(value)}{blanks()}".encode()


MESSAGES = st.builds(written, st.lists(FIELDS, max_size=6).map(Members), st.none() | SEEDS)


def outcome(data: bytes, history: _wire.History | None = None) -> reference.Read | tuple[str, int]:
    """Return the decoder's result in the reference's terms."""
    # Bytes after the end continue the message, so a read beyond the end changes the result.
    with_more = memoryview(data + b'0"}]')
    try:
        message = _wire.decode(with_more[: len(data)], history)
    except MessageError as error:
        return error.reason, error.offset
    transcript = message.transcript
    return reference.Read(
        message.kind,
        message.event_id,
        message.event_id_json,
        message.said,
        message.conversation_id,
        None if transcript is None else [(entry.role, entry.content) for entry in transcript],
        None if message.bad_entry is None else (message.bad_entry.reason, message.bad_entry.offset),
        message.text,
    )


def check(data: bytes) -> None:
    """Check that the decoder and the reference agree on `data`."""
    got = outcome(data)
    wanted: reference.Read | tuple[str, int]
    try:
        wanted = reference.decode(data)
    except reference.ReferenceError as error:
        wanted = error.reason, error.offset
    except reference.GrammarError:
        check_grammar_error(data, got)
        return
    assert got == wanted


def check_grammar_error(data: bytes, got: reference.Read | tuple[str, int]) -> None:
    """Check that a grammar error is at the first wrong byte: the text before it is the beginning of a message."""
    assert isinstance(got, tuple)
    reason, offset = got
    if reason == "unexpected end of the message":
        assert offset == len(data)
    else:
        assert offset < len(data)
    if reason.startswith("expected the end of the message"):
        # A complete message, although its fields may be refused.
        with contextlib.suppress(reference.ReferenceError):
            reference.decode(data[:offset])
    else:
        assert outcome(data[:offset]) in (("unexpected end of the message", offset), ("empty message", offset))


@examples(1000)
@given(VALUES, st.none() | SEEDS)
def test_any_json_value_decodes_like_the_reference(value: Any, seed: int | None) -> None:
    check(written(value, seed))


@examples(2500)
@given(MESSAGES)
def test_any_message_reads_as_the_reference_reads_it(data: bytes) -> None:
    check(data)


REAL = [
    b'{"type": "init", "conversation_id": "conv_01jxyz8k3m9xr4hjnfg983brhm"}',
    b'{"type": "user_transcript", "user_transcript": [{"role": "agent", "content": "Hello! How can I help?"}, '
    b'{"role": "user", "content": "What\'s the weather in K\xc3\xb6ln?"}], "event_id": 26}',
    b'{"event_id":18446744073709551615,"user_transcript":[{"content":"\\ud83d\\ude00 \\n","role":"user"},null,'
    b'{"role":"agent","content":"\xe3\x81\x93\xf0\x9f\x99\x82","extra":{"a":[1,-2.5e+3,true,false,[]]}}],'
    b'"type":"user_transcript","language":null}',
    b'{"type":"ping","ping_event":{"event_id":3,"ping_ms":12.5}}',
    b'{"type":"close","reason":"caller hung up"}',
    b'{"type":"error","message":"Speech Engine generation failed","code":1011}',
    b'{"type":"agent_tool_response","tool":{"name":"end_call","args":[[],{},[{}]]}}',
]
WORDS = rb"""
    " \ { } [ ] , : null NaN - 0 1e5 . \u \ud83d \ude00 // "type": "role": "content":null, "event_id":1,
"""
ODD_BYTES = [b" ", b"\x00", b"\x1f", b"\x7f", b"\x80", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xef\xbb\xbf"]
SNIPPETS = st.sampled_from([*WORDS.split(), *ODD_BYTES])
DAMAGES = st.lists(
    st.tuples(st.integers(0, 400), st.integers(0, 3), SNIPPETS | st.binary(max_size=3)), min_size=1, max_size=3
)


def damaged(data: bytes, damages: list[tuple[int, int, bytes]]) -> bytes:
    """Replace, insert or remove bytes, or cut the end off."""
    for at, way, snippet in damages:
        at %= len(data) + 1
        if way == 0:
            data = data[:at] + snippet + data[at:]
        elif way == 1:
            data = data[:at] + snippet + data[at + len(snippet) :]
        elif way == 2:
            data = data[:at] + data[at + len(snippet) + 1 :]
        else:
            data = data[:at]
    return data


@examples(3000)
@given(st.sampled_from(REAL), DAMAGES)
def test_damaged_messages_decode_like_the_reference(data: bytes, damages: Any) -> None:
    check(damaged(data, damages))


@examples(1200)
@given(MESSAGES, DAMAGES)
def test_damaged_messages_read_as_the_reference_reads_them(data: bytes, damages: Any) -> None:
    check(damaged(data, damages))


@examples(800)
@given(
    st.binary(max_size=40) | st.text('{}[]":,\\utrue0129eE+-. \n', max_size=40).map(lambda text: b"{" + text.encode())
)
def test_noise_reads_as_the_reference_reads_it(data: bytes) -> None:
    check(data)


@pytest.mark.parametrize("data", REAL)
def test_every_truncation_is_an_error_at_its_end(data: bytes) -> None:
    for size in range(len(data)):
        got = outcome(data[:size])
        assert isinstance(got, tuple)
        reason, offset = got
        assert reason in ("unexpected end of the message", "empty message", "invalid UTF-8")
        assert offset == size or reason == "invalid UTF-8"


# --- history --------------------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["grow", "grow", "grow", "shrink", "change", "bad", "style", "repeat", "damage"]),
        st.integers(0, 20),
        ENTRIES,
        DAMAGES,
    ),
    min_size=2,
    max_size=8,
)


@examples(1000)
@given(TRANSCRIPTS, STEPS, st.none() | SEEDS)
def test_a_history_changes_nothing_but_the_work(transcript: list[Any], steps: list[Any], seed: int | None) -> None:
    history = _wire.History()
    entries = list(transcript)
    largest = 0  # Bytes. A damaged message may leave the history of the one before.
    for event_id, (step, index, entry, damages) in enumerate(steps):
        # An interruption shortens history, changes its last message, or both; anything else is an API we do not know.
        if step in ("grow", "bad"):
            entries.append(entry if step == "bad" else Members([("role", "user"), ("content", f"turn {event_id}")]))
        elif step == "shrink":
            del entries[max(0, len(entries) - 1 - index % 3) :]
        elif step == "change" and entries:
            entries[index % len(entries)] = entry
        elif step == "style":
            seed = index
        data = written(
            Members([("event_id", event_id), ("user_transcript", entries), ("type", "user_transcript")]), seed
        )
        if step == "damage":
            data = damaged(data, damages)
        assert outcome(data, history) == outcome(data)
        largest = max(largest, len(data))
        assert history.size_bytes < 1500 + 40 * largest * 2


@examples(300)
@given(
    st.lists(st.sampled_from(["1", "12", "123", "1.5", "-1", "{}", "[]", '""', "null"]), max_size=5), st.integers(1, 4)
)
def test_joined_entries_are_never_taken_for_old_ones(parts: list[str], cut: int) -> None:
    history = _wire.History()
    whole = ",".join(parts)
    for inside in (whole[:-cut], whole, whole + "2", whole[:-cut], whole + " ", whole + ",7"):
        data = f'{{"type":"user_transcript","user_transcript":[{inside}]}}'.encode()
        assert outcome(data, history) == outcome(data)


# --- writing --------------------------------------------------------------------------------------------------------

SURROGATES = st.characters(categories=["Cs"])
SPOKEN = st.text(CHARACTERS, max_size=40) | st.text(SURROGATES | CHARACTERS, max_size=10) | TEXTS
IDS = st.none() | st.integers(-(2**63), 2**64 - 1)


@examples(1500)
@given(SPOKEN, IDS, st.booleans())
def test_an_answer_is_encoded_like_the_reference(text: str, event_id: int | None, is_final: bool) -> None:
    data = _wire.encode_agent_response(text, event_id, is_final)
    assert data == reference.encode_agent_response(text, event_id, is_final)
    assert json.loads(data) == {
        "type": "agent_response",
        "content": reference.speakable(text),
        "event_id": event_id,
        "is_final": is_final,
    }


@examples(300)
@given(st.lists(st.none() | st.tuples(SPOKEN, st.sampled_from([1, 1, 3, 2000]), IDS, st.booleans()), max_size=5))
def test_frames_carry_the_messages_in_order(answers: list[Any]) -> None:
    buffer = _wire.Buffer()
    for _ in range(2):
        wanted = []
        for answer in answers:
            if answer is None:
                buffer.put_pong()
                wanted.append(_wire.encode_pong())
            else:
                text, times, event_id, is_final = answer
                buffer.put_agent_response(text * times, event_id, is_final)
                wanted.append(reference.encode_agent_response(text * times, event_id, is_final))
        size = len(buffer)
        frames = buffer.take_bytes()
        assert len(frames) == size
        assert reference.parse_frames(frames) == wanted
        assert len(buffer) == 0


# --- UTF-8 ----------------------------------------------------------------------------------------------------------

LEADS = st.sampled_from([b"\xe0", b"\xed", b"\xf0", b"\xf4", b"\xc1", b"\xf5", b"\xc2\x80", b"\x80", b"abcdefgh" * 2])
BYTES = st.lists(
    LEADS | st.binary(max_size=4) | CHARACTERS.map(lambda c: c.encode("utf-8", "surrogatepass")), max_size=8
)


@examples(1000)
@given(BYTES.map(b"".join), st.lists(st.integers(0, 60), max_size=4))
def test_utf8_in_pieces_is_judged_like_python(data: bytes, cuts: list[int]) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")()
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    state = 0
    for start, end in itertools.pairwise(edges):
        state = _wire.utf8_state(data[start:end], state)
        try:
            decoder.decode(data[start:end])
        except UnicodeDecodeError:
            assert state == 1
            return
    assert (state == 0) == _is_utf8(data)
    if state == 1:
        assert not _is_utf8(data)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def test_every_utf8_pair_is_judged_like_python() -> None:
    for first in range(256):
        for second in range(256):
            for rest in (b"", b"\x80", b"\xbf\xbf"):
                data = bytes((first, second)) + rest
                assert (_wire.utf8_state(data) == 0) == _is_utf8(data), data
