"""Messages of one session, decoded with and without its history: equal to the plain-Python reference.

An input is the messages of a session, with SEPARATOR between them. `json.loads` decides on grammar. The text of each
valid message is also encoded as an answer.
"""

from __future__ import annotations

import json

from se_server.errors import InvalidUtf8, MessageError
from se_server.protocol import _wire
from tests.fuzz.exact import exact
from tests.reference import wire as reference

SEPARATOR = b"\x00\xff"
"""Neither JSON nor UTF-8, so that no valid message contains it."""

MAX_MESSAGES = 8


def one_input(data: bytes) -> None:
    history = _wire.History()
    for part in data.split(SEPARATOR, MAX_MESSAGES)[:MAX_MESSAGES]:
        alone = outcome(part, None)
        assert outcome(part, history) == alone, "the history of a session changes a message"
        compare(part, alone)
        check_utf8(part)
    write(data)


def outcome(data: bytes, history: _wire.History | None) -> tuple[object, ...]:
    """Return the result of one message as plain values."""
    try:
        message = _wire.decode(exact(data), history)
    except MessageError as error:
        return type(error), error.reason, error.offset
    transcript = message.transcript
    bad = message.bad_entry
    return (
        message.kind,
        message.event_id,
        message.event_id_json,
        message.said,
        message.conversation_id,
        None if transcript is None else [(entry.role, entry.content) for entry in transcript],
        None if bad is None else (bad.reason, bad.offset),
        message.text,
    )


def compare(data: bytes, got: tuple[object, ...]) -> None:
    refused = isinstance(got[0], type)
    try:
        read = reference.decode(data)
    except reference.ReferenceError as error:
        is_utf8 = error.reason != "invalid UTF-8"
        assert got == (MessageError if is_utf8 else InvalidUtf8, error.reason, error.offset), (got, error)
        return
    except reference.GrammarError as error:
        assert got[0] is MessageError, (got, error)
        offset = got[2]
        assert isinstance(offset, int)
        assert 0 <= offset <= len(data), got
        return
    assert not refused, (got, read)
    assert got == tuple(vars(read).values())
    assert isinstance(json.loads(data, parse_int=str), dict)


def check_utf8(data: bytes) -> None:
    try:
        data.decode()
    except UnicodeDecodeError as error:
        expected = 1 if error.reason != "unexpected end of data" else None
    else:
        expected = 0
    state = 0
    for i in range(0, len(data), 5):
        state = _wire.utf8_state(data[i : i + 5], state)
    assert state == _wire.utf8_state(data)
    assert state == expected or (expected is None and state > 1), (state, expected)


def write(data: bytes) -> None:
    """Check that any text of a handler becomes valid frames of valid JSON."""
    buffer = _wire.Buffer()
    payloads = []
    # Lone surrogates, and text in each of the widths of a `str`.
    for text in (data.decode("utf-8", "surrogatepass") if is_wtf8(data) else data.decode("latin-1"), "", data.hex()):
        event_id = len(text) or None
        payloads.append(reference.encode_agent_response(text, event_id, not text))
        assert _wire.encode_agent_response(text, event_id, not text) == payloads[-1]
        buffer.put_agent_response(text, event_id, not text)
    buffer.put_pong()
    payloads.append(_wire.encode_pong())
    assert reference.parse_frames(buffer.take_bytes()) == payloads


def is_wtf8(data: bytes) -> bool:
    try:
        data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True
