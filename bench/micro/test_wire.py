"""What reading and writing one message costs, next to json and orjson doing the least of the same work.

The peers only parse: the list of messages that a handler gets is not in their figure, nor is any check of the fields.
A transcript's last message is another one each round, as it is in a call; what came before it stays.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from se_server.protocol import _wire

SENTENCE = "I would like to move my appointment to Thursday afternoon, please. "
WORDS = {
    "ascii": SENTENCE,
    "german": "Können wir den Termin auf Donnerstag verschieben? ",
    "cjk": "予約を木曜日の午後に変更したいのですが。",
}
CHUNKS = {"ascii": " word", "latin": " naïve", "escapes": "\n\n", "cjk": "です。", "long": SENTENCE * 10}


def transcript(messages: int, words: str = SENTENCE, last: int = 0) -> bytes:
    entries = [
        {"role": ("agent", "user")[number % 2], "content": f"{words}{number if number < messages - 1 else last}"}
        for number in range(messages)
    ]
    # With blanks, and not escaped: as the live API sends it.
    message = {"type": "user_transcript", "user_transcript": entries, "event_id": 26 + last}
    return json.dumps(message, ensure_ascii=False).encode()


def turns(messages: int) -> Callable[[], bytes]:
    """The next turn's message: the same history, another last message."""
    return itertools.cycle([transcript(messages, last=last) for last in range(50)]).__next__


@pytest.mark.parametrize("messages", [4, 100, 1000])
@pytest.mark.parametrize("reader", ["history", "no history", "orjson", "json"])
def test_decode(benchmark: BenchmarkFixture, messages: int, reader: str) -> None:
    benchmark.group = f"decode, {messages} messages"
    history = _wire.History()
    turn = turns(messages)
    readers: dict[str, Callable[[], Any]] = {
        "history": lambda: _wire.decode(turn(), history),
        "no history": lambda: _wire.decode(turn()),
        "orjson": lambda: orjson.loads(turn()),
        "json": lambda: json.loads(turn()),
    }
    benchmark(readers[reader])


@pytest.mark.parametrize("script", WORDS)
@pytest.mark.parametrize("reader", ["no history", "orjson"])
def test_decode_scripts(benchmark: BenchmarkFixture, script: str, reader: str) -> None:
    benchmark.group = f"decode, 20 messages, {script}"
    benchmark({"no history": _wire.decode, "orjson": orjson.loads}[reader], transcript(20, WORDS[script]))


@pytest.mark.parametrize("reader", ["ours", "orjson", "json"])
def test_decode_ping(benchmark: BenchmarkFixture, reader: str) -> None:
    benchmark.group = "decode, ping"
    benchmark({"ours": _wire.decode, "orjson": orjson.loads, "json": json.loads}[reader], b'{"type": "ping"}')


@pytest.mark.parametrize("chunk", CHUNKS)
@pytest.mark.parametrize("writer", ["frame", "json text", "orjson", "json"])
def test_encode(benchmark: BenchmarkFixture, chunk: str, writer: str) -> None:
    benchmark.group = f"encode, {chunk}"
    text = CHUNKS[chunk]
    buffer = _wire.Buffer()

    def frame() -> None:
        buffer.put_agent_response(text, 26, False)
        buffer.take_bytes()

    def message() -> dict[str, Any]:
        return {"type": "agent_response", "content": text, "event_id": 26, "is_final": False}

    writers: dict[str, Callable[[], Any]] = {
        "frame": frame,
        "json text": lambda: _wire.encode_agent_response(text, 26, False),
        "orjson": lambda: orjson.dumps(message()),
        "json": lambda: json.dumps(message(), ensure_ascii=False, separators=(",", ":")).encode(),
    }
    benchmark(writers[writer])
