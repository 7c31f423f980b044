"""The wire format in plain Python: `json` parses, and the protocol's rules are implemented a second time.

Positions are found on valid text only, by walking it with `json`'s own decoder, so they share neither code nor method
with the scanner under test. For text that is not JSON any `GrammarError` will do.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

KINDS = {"init": 1, "user_transcript": 2, "ping": 3, "close": 4, "error": 5}
MAX_DEPTH = 512
BLANKS = re.compile(r"[ \t\n\r]*")
SURROGATE = re.compile(r"[\ud800-\udfff]")
SURROGATE_PAIR = re.compile(r"[\ud800-\udbff][\udc00-\udfff]")
MAX_ODD_ID = 256
STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)


class ReferenceError(Exception):
    """A message that is not valid, with the reason and the byte offset that the decoder must give."""

    def __init__(self, reason: str, offset: int) -> None:
        super().__init__(reason, offset)
        self.reason = reason
        self.offset = offset


class GrammarError(Exception):
    """Not JSON, or nested too deep; the reference gives no position or reason."""


@dataclass
class Read:
    kind: int
    event_id: Any = None
    event_id_json: bytes | None = None
    said: str | None = None
    conversation_id: Any = None
    transcript: list[tuple[str, str]] | None = None
    bad_entry: tuple[str, int] | None = None
    text: str | None = None


@dataclass(frozen=True)
class Number:
    """A number as text: `json` would round some numbers and refuse others."""

    written: str


@dataclass
class Field:
    value: Any = field(default_factory=lambda: MISSING)
    start: int = 0


class _Missing:
    pass


MISSING = _Missing()


def _refuse_constant(name: str) -> NoReturn:
    raise GrammarError(name)


DECODER = json.JSONDecoder(parse_int=Number, parse_float=Number, parse_constant=_refuse_constant)


def decode(data: bytes) -> Read:
    """Read one message; raises ReferenceError or GrammarError."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ReferenceError("invalid UTF-8", error.start) from None
    start = _after_blanks(text, 0)
    if start == len(text):
        raise ReferenceError("empty message", start)
    if text[start] != "{":
        raise ReferenceError(_not_an_object(text[start]), start)
    try:
        DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        raise GrammarError(str(error)) from None
    if _depth(text) > MAX_DEPTH:
        raise GrammarError("depth")
    fields: dict[str, Field] = {}
    for name, value, at in _members(text, start):
        fields[name] = Field(value, at)
    return _message(text, fields)


def _message(text: str, fields: dict[str, Field]) -> Read:
    def get(name: str) -> Field:
        return fields.get(name, Field())

    def offset(of: Field) -> int:
        return len(text[: of.start].encode("utf-8"))

    def whole_text(name: str) -> str:
        if SURROGATE.search(get(name).value):
            raise ReferenceError(f"{name} holds a lone surrogate", offset(get(name)))
        value: str = get(name).value
        return value

    type_ = get("type").value
    kind = KINDS.get(type_, 0) if isinstance(type_, str) else 0
    read = Read(kind)
    if kind == 0:
        read.text = whole_text("type") if isinstance(type_, str) else None
    elif kind == KINDS["init"]:
        given = get("conversation_id")
        if isinstance(given.value, str):
            read.conversation_id = whole_text("conversation_id")
        elif given.value is not None and given.value is not MISSING:
            read.conversation_id = _as_it_came(text, given, "conversation_id", offset(given))[0]
    elif kind == KINDS["error"]:
        read.text = whole_text("message") if isinstance(get("message").value, str) else ""
    elif kind == KINDS["user_transcript"]:
        given = get("user_transcript")
        read.transcript = []
        if isinstance(given.value, list):
            _transcript(text, given.start, read)
        elif given.value is not None and given.value is not MISSING:
            raise ReferenceError(f"user_transcript: expected an array, got {_describe(given.value)}", offset(given))
        given = get("event_id")
        read.event_id, read.event_id_json = _event_id(text, given, offset(given))
        read.said = next((content for role, content in reversed(read.transcript) if role == "user"), None)
    return read


def _transcript(text: str, start: int, read: Read) -> None:
    assert read.transcript is not None
    for index, (value, at) in enumerate(_elements(text, start)):
        flaw = _flaw(value)
        if flaw is None:
            read.transcript.append((value["role"], value["content"]))
        elif read.bad_entry is None:
            read.bad_entry = (f"transcript entry {index}: {flaw}", len(text[:at].encode("utf-8")))


def _flaw(entry: Any) -> str | None:
    if not isinstance(entry, dict):
        return f"expected an object, got {_describe(entry)}"
    for name in ("role", "content"):
        if name not in entry:
            return f"{name} is missing"
        if not isinstance(entry[name], str):
            return f"{name} is {_describe(entry[name])}"
    for name in ("role", "content"):
        if SURROGATE.search(entry[name]):
            return f"{name} holds a lone surrogate"
    return None


def _event_id(text: str, given: Field, offset: int) -> tuple[Any, bytes]:
    value = given.value
    if value is None or value is MISSING:
        return None, b"null"
    # Python refuses to parse some longer integers.
    is_short = isinstance(value, Number) and len(value.written) <= 20 and value.written.lstrip("-").isdigit()
    if is_short and -(2**63) <= int(value.written) < 2**64:
        return int(value.written), b"%d" % int(value.written)
    return _as_it_came(text, given, "event_id", offset, MAX_ODD_ID)


def _as_it_came(text: str, given: Field, name: str, offset: int, max_bytes: int | None = None) -> tuple[Any, bytes]:
    _, end = DECODER.raw_decode(text, given.start)
    written = text[given.start : end]
    if max_bytes is not None and len(written.encode()) > max_bytes:
        raise ReferenceError(f"{name} is longer than {max_bytes} bytes", offset)
    if isinstance(given.value, str) and SURROGATE.search(given.value):
        raise ReferenceError(f"{name} holds a lone surrogate", offset)
    try:
        return json.loads(written), written.encode()
    except ValueError:
        raise ReferenceError(f"{name}: expected a value that Python can hold", offset) from None


def _describe(value: Any) -> str:
    if value is None:
        return "null"
    names = {bool: "a boolean", Number: "a number", str: "a string", list: "an array", dict: "an object"}
    return names[type(value)]


def _not_an_object(first: str) -> str:
    for firsts, name in (("[", "an array"), ('"', "a string"), ("-0123456789", "a number"), ("tf", "a boolean")):
        if first in firsts:
            return f"expected a JSON object, got {name}"
    if first == "n":
        return "expected a JSON object, got null"
    if first == "\ufeff":
        return "expected a JSON object, got a byte order mark"
    if " " <= first < "\x7f":
        return f"expected a JSON object, got {first!r}"
    return f"expected a JSON object, got byte 0x{first.encode()[0]:02X}"


def _depth(text: str) -> int:
    """Return the depth of nesting of valid JSON."""
    depth = deepest = 0
    for character in STRING.sub("", text):
        if character in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "]}":
            depth -= 1
    return deepest


def _after_blanks(text: str, at: int) -> int:
    match = BLANKS.match(text, at)
    assert match is not None
    return match.end()


def _members(text: str, start: int) -> Iterator[tuple[str, Any, int]]:
    """Yield name, value and the value's position of each member of the valid object at `start`."""
    at = _after_blanks(text, start + 1)
    while text[at] != "}":
        name, at = DECODER.raw_decode(text, at)
        at = _after_blanks(text, _after_blanks(text, at) + 1)
        value, end = DECODER.raw_decode(text, at)
        yield name, value, at
        at = _after_blanks(text, end)
        if text[at] == ",":
            at = _after_blanks(text, at + 1)


def _elements(text: str, start: int) -> Iterator[tuple[Any, int]]:
    """Yield value and position of each element of the valid array at `start`."""
    at = _after_blanks(text, start + 1)
    while text[at] != "]":
        value, end = DECODER.raw_decode(text, at)
        yield value, at
        at = _after_blanks(text, end)
        if text[at] == ",":
            at = _after_blanks(text, at + 1)


def speakable(text: str) -> str:
    """Join pairs of surrogates; lone ones become U+FFFD."""

    def joined(pair: re.Match[str]) -> str:
        high, low = pair.group()
        return chr(0x10000 + ((ord(high) - 0xD800) << 10) + (ord(low) - 0xDC00))

    return SURROGATE.sub("\ufffd", SURROGATE_PAIR.sub(joined, text))


def encode_agent_response(content: str, event_id: int | None, is_final: bool) -> bytes:
    message = {"type": "agent_response", "content": speakable(content), "event_id": event_id, "is_final": is_final}
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode("utf-8")


def parse_frames(data: bytes) -> list[bytes]:
    """Return the payloads of unmasked, unfragmented text frames, one after another (RFC 6455, 5.2)."""
    payloads = []
    while data:
        assert data[0] == 0x81
        size = data[1]
        start = 2
        if size == 126:
            size = int.from_bytes(data[2:4], "big")
            start = 4
            assert size > 125
        elif size == 127:
            size = int.from_bytes(data[2:10], "big")
            start = 10
            assert size > 0xFFFF
        else:
            assert size < 126
        assert len(data) >= start + size
        payloads.append(data[start : start + size])
        data = data[start + size :]
    return payloads
