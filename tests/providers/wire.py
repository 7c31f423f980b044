"""Events as bytes, and bytes as the timed pieces that go on the wire. Nothing here does I/O."""

from __future__ import annotations

import json
import random
import struct
import zlib
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.providers.script import Failure, Script

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Event:
    """The bytes of one event and the tokens it brings; a ping is sent only in pauses."""

    data: bytes
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """Bytes that are written at once, framed for HTTP, at `at_s` after the response's head."""

    at_s: float
    data: bytes
    tokens: int


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole body: its steps in order, the ping for pauses, and how the body ends."""

    steps: tuple[Step, ...]
    ping: bytes
    headers: Mapping[str, str]
    ending: str = "whole"  # or a kind of Failure that concerns the connection


def dumps(value: Any, script: Script, *, spaced: bool = False) -> str:
    """Return JSON as providers write it: compact unless `spaced`, with UTF-8 as it is unless the script escapes it."""
    separators = None if spaced else (",", ":")
    if not script.ascii:
        text = json.dumps(value, ensure_ascii=False, separators=separators)
        if script.ascii is False or text.isascii() or not any("\ud800" <= sign <= "\udfff" for sign in text):
            return text
    return json.dumps(value, separators=separators)


def sse(value: Any, script: Script, *, name: str = "", crlf: bool = False, spaced: bool = False) -> bytes:
    """Return one server-sent event (WHATWG HTML, "Server-sent events"); a str is sent as it is."""
    end = "\r\n" if (crlf if script.crlf is None else script.crlf) else "\n"
    data = value if isinstance(value, str) else dumps(value, script, spaced=spaced)
    head = f"event: {name}{end}" if name else ""
    return f"{head}data: {data}{end}{end}".encode()


def comment(text: str, script: Script) -> bytes:
    """Return a comment of an event stream, which clients ignore."""
    end = "\r\n" if script.crlf else "\n"
    return f": {text}{end}{end}".encode()


def ndjson(value: Any, script: Script) -> bytes:
    """Return one line of newline-delimited JSON."""
    return f"{dumps(value, script)}\n".encode()


def event_stream_message(payload: bytes, **headers: str) -> bytes:
    """Return one message of AWS's event stream (Smithy 2.0, "Amazon Event Stream Specification").

    Prelude (total length, headers' length, CRC-32 of both), headers with values of type 7 (string), payload, CRC-32 of
    all before it. `event_type="x"` becomes the header `:event-type`.
    """
    encoded = b""
    for name, value in headers.items():
        key, text = f":{name.replace('_', '-')}".encode(), value.encode()
        encoded += struct.pack("!B", len(key)) + key + struct.pack("!BH", 7, len(text)) + text
    prelude = struct.pack("!II", 16 + len(encoded) + len(payload), len(encoded))
    message = prelude + struct.pack("!I", zlib.crc32(prelude)) + encoded + payload
    return message + struct.pack("!I", zlib.crc32(message))


def http_chunk(data: bytes) -> bytes:
    """Return a chunk of HTTP/1.1's chunked transfer coding (RFC 9112, section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def plan(script: Script, events: Iterable[Event], error: bytes, ping: bytes) -> Plan:
    """Lay out a stream: apply the failure, compress, cut and time it.

    Args:
        error: The API's own error event, sent where the failure is one of the API.
        ping: The API's ping; sent in pauses, if the script has `ping_every_s`.
    """
    failing, ending = _fail(script.failure, events, error)
    headers: dict[str, str] = {}
    if script.gzip:
        headers["Content-Encoding"] = "gzip"
        failing = _compress(failing)
    timed = list(_time(failing, script))
    if script.ping_every_s and not script.gzip:
        timed = sorted([*timed, *_pings(timed, script.ping_every_s, ping)], key=lambda entry: entry[0])
    return Plan(tuple(_steps(timed, script)), ping if not script.gzip else b"", headers, ending)


def _fail(failure: Failure | None, events: Iterable[Event], error: bytes) -> tuple[list[Event], str]:
    if failure is None:
        return list(events), "whole"
    kept: list[Event] = []
    tokens = 0
    for event in events:
        if event.tokens and tokens >= failure.after_tokens:
            break
        kept.append(event)
        tokens += event.tokens
    if failure.is_told:
        return [*kept, Event(error)], "whole"
    return kept, failure.kind


def _compress(events: Sequence[Event]) -> list[Event]:
    packer = zlib.compressobj(wbits=31)
    packed = [Event(packer.compress(event.data) + packer.flush(zlib.Z_SYNC_FLUSH), event.tokens) for event in events]
    return [*packed, Event(packer.flush())]


def _time(events: Sequence[Event], script: Script) -> Iterator[tuple[float, Event]]:
    """Give each event its time: a token's by the pace, and every other event's that of the token before it."""
    at_s, tokens = 0.0, 0
    for event in events:
        if event.tokens:
            at_s = script.first_token_s + (tokens / script.tokens_per_s if script.tokens_per_s else 0.0)
            tokens += event.tokens
        yield at_s, event


def _pings(timed: Sequence[tuple[float, Event]], every_s: float, ping: bytes) -> Iterator[tuple[float, Event]]:
    at_s = every_s
    while timed and ping and at_s < timed[-1][0]:
        yield at_s, Event(ping)
        at_s += every_s


def _steps(timed: Sequence[tuple[float, Event]], script: Script) -> Iterator[Step]:
    if script.cut_bytes is not None:
        yield from _cut(timed, script.cut_bytes, random.Random(script.seed))
        return
    if script.tokens_per_s is None:
        for at_s, event in timed:
            if event.data:
                yield Step(at_s, http_chunk(event.data), event.tokens)
        return
    # One write for all that is due at once. It never holds two tokens, so that a hold can stand between them.
    due: list[bytes] = []
    tokens, due_s = 0, 0.0
    for at_s, event in timed:
        if due and (at_s != due_s or (event.tokens and tokens)):
            yield Step(due_s, b"".join(due), tokens)
            due, tokens = [], 0
        due_s, tokens = at_s, tokens + event.tokens
        if event.data:
            due.append(http_chunk(event.data))
    if due:
        yield Step(due_s, b"".join(due), tokens)


def _cut(timed: Sequence[tuple[float, Event]], sizes: tuple[int, int], rng: random.Random) -> Iterator[Step]:
    """Cut the body anywhere: a piece may hold the end of one event and the start of the next, and waits for both."""
    body = b"".join(event.data for _, event in timed)
    ends: list[int] = []
    end = 0
    for _, event in timed:
        end += len(event.data)
        ends.append(end)
    start = counted = 0
    while start < len(body):
        stop = min(len(body), start + rng.randint(*sizes))
        needed = bisect_left(ends, stop)
        whole = bisect_left(ends, stop + 1)
        tokens = sum(event.tokens for _, event in timed[counted:whole])
        yield Step(timed[needed][0], http_chunk(body[start:stop]), tokens)
        start, counted = stop, whole
