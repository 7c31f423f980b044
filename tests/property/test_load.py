"""The load generator's frames and messages, against wsproto, orjson and json."""

from __future__ import annotations

import json
from typing import Any

import orjson
from hypothesis import example, given
from hypothesis import strategies as st
from wsproto.connection import CLIENT, SERVER, Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage

from se_server.load._engine import build_frame, cut_text, read_frames, read_messages

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10

SIZES = st.one_of(st.integers(0, 300), st.sampled_from([125, 126, 127, 65535, 65536, 70000]))


@given(size=SIZES, random=st.integers(0, 2**64 - 1))
def test_a_frame_is_what_another_servers_parser_takes(size: int, random: int) -> None:
    payload = (b"0123456789abcdefghijklmnopqrstuvwxyz" * (size // 36 + 1))[:size]
    server = Connection(ConnectionType.SERVER)
    server.receive_data(build_frame(TEXT, payload, random))
    said = "".join(event.data for event in server.events() if isinstance(event, TextMessage))
    assert said.encode() == payload


def test_control_frames_are_taken_too() -> None:
    server = Connection(SERVER)
    server.receive_data(build_frame(PONG, b"keep", 7) + build_frame(CLOSE, b"\x03\xe8", 8))
    pong, close = server.events()
    assert isinstance(pong, Pong)
    assert pong.payload == b"keep"
    assert isinstance(close, CloseConnection)
    assert close.code == 1000


_SENT: st.SearchStrategy[list[Event]] = st.lists(
    st.one_of(
        st.builds(TextMessage, data=st.text(max_size=200), message_finished=st.booleans()),
        st.builds(Ping, payload=st.binary(max_size=125)),
    ),
    max_size=6,
)


@given(sent=_SENT, cut=st.integers(0, 2000))
def test_frames_are_read_whole_or_not_yet(sent: list[Event], cut: int) -> None:
    server = Connection(SERVER)
    wire = b"".join(server.send(event) for event in sent)
    wanted = [
        event.data.encode() if isinstance(event, TextMessage) else event.payload
        for event in sent
        if isinstance(event, TextMessage | Ping)
    ]
    frames, used = read_frames(wire)
    assert used == len(wire)
    assert [payload for _, _, payload in frames] == wanted
    # Cut anywhere, whole frames are read, and the rest together with the next bytes.
    first, used = read_frames(wire[:cut])
    rest, _ = read_frames(wire[used:])
    assert first + rest == frames


@given(head=st.binary(min_size=2, max_size=14), body=st.binary(max_size=40))
def test_another_client_reads_the_same_frames(head: bytes, body: bytes) -> None:
    try:
        frames, used = read_frames(head + body)
    except ValueError:
        return
    client = Connection(CLIENT)
    # One message at a time: frames alone do not reveal fragments in a wrong order.
    taken = 0
    for opcode, is_last, payload in frames:
        if not is_last or opcode in (0, CLOSE):
            return
        size = 2 + (2 if 126 <= len(payload) < 65536 else 0) + len(payload)
        client.receive_data((head + body)[taken : taken + size])
        taken += size
        try:
            (event,) = client.events()
        except UnicodeDecodeError:
            return
        got = event.data if isinstance(event, TextMessage | BytesMessage) else getattr(event, "payload", None)
        if got is None:
            return  # invalid UTF-8 is checked in the message, not in the frame
        assert (got.encode() if isinstance(got, str) else bytes(got)) == payload
    assert taken == used


# --- messages -------------------------------------------------------------------------------------------------------

_TEXT = st.text(st.characters(codec="utf-8"), max_size=40)
_EXTRA = st.dictionaries(
    st.sampled_from(["x", "time", "a b", "é"]),
    st.one_of(st.none(), st.integers(), st.booleans(), _TEXT, st.lists(st.integers(), max_size=3)),
    max_size=2,
)


@st.composite
def responses(draw: st.DrawFn) -> tuple[dict[str, Any], bytes]:
    message = {
        "type": "agent_response",
        "content": draw(_TEXT),
        "event_id": draw(st.sampled_from([7, 77, 777, -7, 0])),
        "is_final": draw(st.booleans()),
        **draw(_EXTRA),
    }
    keys = draw(st.permutations(list(message))) if draw(st.booleans()) else list(message)
    blank = draw(st.sampled_from(["", " ", "\n\t"]))
    written = json.dumps(
        {key: message[key] for key in keys},
        ensure_ascii=draw(st.booleans()),
        separators=("," + blank, ":" + blank),
    )
    return message, written.encode()


@given(sent=st.lists(responses(), max_size=8))
def test_responses_are_read_however_they_are_written(sent: list[tuple[dict[str, Any], bytes]]) -> None:
    found = read_messages([written for _, written in sent], b"77")
    assert len(found) == len(sent)
    for (message, _), heard in zip(sent, found, strict=True):
        assert isinstance(heard, tuple), heard
        content, has_our_id, is_final = heard
        assert orjson.loads(b'"' + content + b'"') == message["content"]
        assert (has_our_id, is_final) == (message["event_id"] == 77, message["is_final"])


@given(sent=responses(), place=st.integers(0, 200), byte=st.integers(0, 255), is_inserted=st.booleans())
@example(
    sent=({}, b'{"type":"agent_response","content":"a","event_id":77,"is_final":true}'),
    place=37,
    byte=34,
    is_inserted=False,
)
def test_a_damaged_message_never_changes_its_meaning(
    sent: tuple[dict[str, Any], bytes], place: int, byte: int, is_inserted: bool
) -> None:
    _, written = sent
    place = min(place, len(written))
    garbled = written[:place] + bytes([byte]) + written[place + (not is_inserted) :]
    # The decoder learns the shape of messages from the good one before it; the result must not change without it.
    (_, heard), (alone,) = read_messages([written, garbled], b"77"), read_messages([garbled], b"77")
    assert heard == alone
    try:
        message = json.loads(garbled.decode())
    except ValueError:
        message = None
    if isinstance(heard, tuple):
        assert isinstance(message, dict)
        content, has_our_id, is_final = heard
        assert json.loads(b'"' + content + b'"') == message["content"]
        assert has_our_id == (message["event_id"] == 77 and not isinstance(message["event_id"], float))
        assert is_final is message["is_final"]
    elif heard is None:
        assert isinstance(message, dict)
        assert message["type"] != "agent_response"


def test_other_types_are_ignored_and_faults_named() -> None:
    found = read_messages(
        [
            b'{"type": "pong"}',
            b'{"type": "news", "content": [{"a": null}]}',
            b"{}",
            b"[]",
            b'{"type": "agent_response", "event_id": 7, "is_final": true}',
            b'{"type": "agent_response", "content": "", "event_id": "7", "is_final": true}',
            b'{"type": "agent_response", "content": "", "event_id": 7, "is_final": 1}',
            b'{"type": "pong"} {"type": "pong"}',
        ],
        b"7",
    )
    assert found == [
        None,
        None,
        "a message without a type",
        "a text that is not a JSON object",
        "an agent_response whose content is not a string",
        "an agent_response whose event_id is not an integer",
        "an agent_response whose is_final is not a boolean",
        "a text with something after its JSON object",
    ]


@given(
    text=st.text(st.characters(codec="utf-8"), min_size=1, max_size=30),
    is_ascii=st.booleans(),
    most=st.integers(0, 200),
)
def test_a_partial_answer_ends_with_a_whole_character(text: str, is_ascii: bool, most: int) -> None:
    written = json.dumps(text, ensure_ascii=is_ascii)[1:-1].encode()
    cut = cut_text(written, most)
    assert len(cut) <= most
    heard = json.loads(b'"' + cut + b'"')
    assert text.startswith(heard)
    if heard != text:  # and one more character would not have fitted
        more = json.dumps(text[: len(heard) + 1], ensure_ascii=is_ascii)[1:-1].encode()
        assert len(more) > most
