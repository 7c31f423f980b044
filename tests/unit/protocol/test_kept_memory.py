"""The memory that transcripts take: counted as it is held, not as it was sent."""

from __future__ import annotations

import contextlib
import json
import tracemalloc

import pytest

from se_server.errors import MessageError
from se_server.protocol._wire import History, decode

MIB = 2**20


def transcript(entries: str) -> bytes:
    return f'{{"type":"user_transcript","user_transcript":[{entries}],"event_id":1}}'.encode()


def entry(text: str) -> str:
    return json.dumps({"role": "user", "content": text}, ensure_ascii=False)


def fill(one: str, size: int = MIB - 100) -> str:
    return ",".join([one] * (size // (len(one.encode()) + 1)))


HOSTILE = {
    "numbers": fill("1"),
    "objects": fill("{}"),
    "empty messages": fill(entry("")),
    "one long text with an emoji": entry("x" * (MIB - 200) + "😀"),
    "many texts with an emoji": fill(entry("x" * 60 + "😀")),
    "many roles": fill(json.dumps({"role": "r" * 50 + "é", "content": ""})),
}


@pytest.mark.parametrize("entries", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("is_first", [True, False])
def test_kept_memory_is_bounded_in_bytes(entries: str, is_first: bool) -> None:
    """What a history and a message hold is at most three times the largest message."""
    history = History(MIB)
    data = (
        [transcript(entries)] if is_first else [transcript(entry("hello")), transcript(f"{entry('hello')},{entries}")]
    )
    tracemalloc.start()
    try:
        message = None
        for one in data:
            with contextlib.suppress(MessageError):
                message = decode(one, history)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept + history.size_bytes < 3.5 * MIB
    assert history.size_bytes < 2.5 * MIB
    del message


def test_kept_messages_are_bounded_in_memory() -> None:
    """A transcript of 0.4 MiB whose messages take 1.5 MiB is given whole, and kept in part."""
    history = History(MIB)
    data = transcript(",".join([entry("x" * 60 + "😀")] * 3950))
    assert len(decode(data, history).transcript or ()) == 3950
    assert history.size_bytes < 1.5 * MIB


def test_a_long_real_conversation_is_kept_whole() -> None:
    history = History(MIB)
    entries = [entry(f"{number} " + "Ünïcödé text of a caller, with “quotes” and 😀. " * 4) for number in range(1000)]
    for count in (998, 1000, 999, 1000):
        message = decode(transcript(",".join(entries[:count])), history)
        assert message.transcript is not None
        assert [one.content for one in message.transcript] == [json.loads(one)["content"] for one in entries[:count]]
    first = decode(transcript(",".join(entries)), history).transcript
    again = decode(transcript(",".join(entries)), history).transcript
    assert first is not None
    assert again is not None
    assert all(one is other for one, other in zip(first, again, strict=True))


@pytest.mark.parametrize("value", ['"' + "x" * 70_000 + '"', "[" + "1," * 40_000 + "1]", "1" * 70_000])
def test_a_huge_conversation_id_is_an_error(value: str) -> None:
    with pytest.raises(MessageError, match="conversation_id is longer than 65536 bytes"):
        decode(f'{{"type":"init","conversation_id":{value}}}'.encode())
