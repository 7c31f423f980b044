"""Makes the lines of a recording from what a server has kept of a conversation."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from se_server.recordings.records import VERSION, Record, message_of
from se_server.recordings.redacted import redact_entries, redact_header
from se_server.recordings.redaction import Redactor
from se_server.telemetry._tape import ERROR, EVENT, IN, OPEN, OUT, STREAM, TEXT

_HEAD = struct.Struct("=II")
_TEXT, _BINARY, _CLOSE, _PING, _PONG = 1, 2, 8, 9, 10
Taped = tuple[int, int, bytes]
"""A record of a tape: microseconds, kind, bytes."""


@dataclass(frozen=True)
class Facts:
    """A conversation as its events tell it.

    Attributes:
        conversation_id: the API's id; None before `init`.
        began_at_s: seconds since 1970.
        opened_us: when it began, in the microseconds of its events.
        ended_us: when it ended; 0 while it goes on.
        cause, code: how it ended; None while it goes on.
        reasons: why it was written.
        turns: the objects of the turns' lines, with `end_us`.
        events: microseconds, name, and value.
        dropped: how many of its oldest events are missing.
        cut: how many of its messages are missing.
    """

    conversation_id: str | None
    began_at_s: float
    opened_us: int
    ended_us: int
    cause: str | None
    code: int | None
    reasons: Sequence[str]
    turns: Sequence[Mapping[str, Any]]
    events: Sequence[tuple[int, str, int | str]]
    dropped: int
    cut: int


def lines_of(
    facts: Facts, taped: Iterable[Taped], level: str, about: Mapping[str, Any], own: Redactor | None = None
) -> list[str]:
    """Return the lines of a recording.

    Args:
        facts: the conversation.
        taped: its records on the tape; none of them at the level `shape`.
        level: `shape`, `redacted` or `full`.
        about: the server, for the header.
        own: the user's function for texts, for the level `redacted`.
    """
    traffic = Traffic(facts, taped)
    header: dict[str, Any] = {
        "version": VERSION,
        "level": level,
        "conversation_id": facts.conversation_id,
        "began_at_s": round(facts.began_at_s, 6),
        "reasons": list(facts.reasons),
        **about,
        **traffic.upgrade,
        "cause": facts.cause,
        "code": facts.code,
        "events_left_out": facts.dropped,
        "messages_left_out": facts.cut + traffic.unreadable,
    }
    if level == "redacted":
        header = redact_header(header, own)
        entries = redact_entries(traffic.entries, own)
    else:
        entries = traffic.entries
    notes = [*_notes_of(facts), *(entry for entry in entries if not isinstance(entry, Record))]
    records: list[Record | dict[str, Any]] = [entry for entry in entries if isinstance(entry, Record)]
    both = sorted([*records, *notes], key=lambda entry: entry.t_s if isinstance(entry, Record) else entry["t_s"])
    return [json.dumps({"recording": header}), *map(_line, both)]


def _line(entry: Record | Mapping[str, Any]) -> str:
    return entry.line() if isinstance(entry, Record) else json.dumps(entry)


def _notes_of(facts: Facts) -> Iterator[dict[str, Any]]:
    def seconds(when_us: int) -> float:
        return round(max(0, when_us - facts.opened_us) / 1e6, 6)

    for when_us, name, value in facts.events:
        note: dict[str, Any] = {"t_s": seconds(when_us), "direction": "note", "kind": "event", "name": name}
        if name in ("user said", "answer"):
            characters, _, digest = str(value).partition(" ")
            yield note | {"characters": int(characters or 0), "hash": digest}
        else:
            yield note | {"value": value}
    for turn in facts.turns:
        rest = {name: value for name, value in turn.items() if name != "end_us"}
        yield {"t_s": seconds(turn["end_us"]), "direction": "note", "kind": "turn", **rest}


class Traffic:
    """The messages of a conversation, read from its tape.

    Attributes:
        entries: the records of the traffic, and the objects of notes, in the order of their times.
        upgrade: the upgrade request, for the header.
        unreadable: messages that need one that is missing.
    """

    def __init__(self, facts: Facts, taped: Iterable[Taped]) -> None:
        self.entries: list[Record | dict[str, Any]] = []
        self.upgrade: dict[str, Any] = {}
        self.unreadable = 0
        self._facts = facts
        self._began_us = facts.opened_us
        records = sorted(taped, key=lambda record: record[0])
        if records:
            self._began_us = facts.opened_us or records[0][0]
            self._take_all(records)

    def _seconds(self, when_us: int) -> float:
        return round(max(0, when_us - self._began_us) / 1e6, 6)

    def _take_all(self, records: Sequence[Taped]) -> None:
        first_s = self._seconds(records[0][0])
        expander = Expander()
        for when_us, kind, data in records:
            if kind == OPEN:
                self.upgrade = json.loads(data)
            elif kind == IN:
                message = expander.whole(data)
                if message is None:
                    self.unreadable += 1
                else:
                    self.entries.append(_message_record(self._seconds(when_us), "out", message))
            elif kind == OUT:
                self._take_frames(self._seconds(when_us), data)
            else:
                self._take_note(self._seconds(when_us), kind, data)
        start: list[Record | dict[str, Any]] = [Record(first_s, "out", "open")]
        has_init = any(isinstance(entry, Record) and _is_init(entry) for entry in self.entries)
        if not has_init and self._facts.conversation_id is not None:
            # The beginning is not kept any more: players find the id in `init`.
            init = json.dumps({"type": "init", "conversation_id": self._facts.conversation_id})
            start.append(Record(first_s, "out", "text", init))
        self.entries[:0] = start
        if self._facts.cause in ("lost", "ping_timeout", "write_timeout"):
            self.entries.append(Record(self._seconds(self._facts.ended_us), "out", "drop"))

    def _take_frames(self, at_s: float, data: bytes) -> None:
        if data.startswith(b"HTTP/"):
            return
        for opcode, payload in frames_in(data):
            if opcode == _TEXT:
                self.entries.append(Record(at_s, "in", "text", payload.decode("utf-8", "replace")))
            elif opcode == _CLOSE:
                code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else 1005
                text = f"{code} {payload[2:].decode('utf-8', 'replace')}".rstrip()
                self.entries.append(Record(at_s, "in", "close", text))
            elif opcode in (_PING, _PONG):
                self.entries.append(Record(at_s, "in", "ping" if opcode == _PING else "pong"))

    def _take_note(self, at_s: float, kind: int, data: bytes) -> None:
        note: dict[str, Any] = {"t_s": at_s, "direction": "note"}
        if kind == TEXT:
            self.entries.append(note | {"kind": "llm", "event": data.decode("utf-8", "replace")})
            return
        value = json.loads(data)
        if kind == ERROR:
            self.entries.append(note | {"kind": "error", **value})
        elif kind == STREAM:
            self.entries.append(note | {"kind": "stream", "event_id": value})
        elif kind == EVENT:
            self.entries.append(note | {"kind": "llm", "event": value})


class Expander:
    """Puts transcripts together, of which each was written without the entries that the one before had."""

    def __init__(self) -> None:
        self._base: bytes | None = None

    def whole(self, data: bytes) -> bytes | None:
        """Return the whole message; None if it continues one that is missing."""
        place, equal = _HEAD.unpack_from(data)
        rest = data[_HEAD.size :]
        if equal:
            if self._base is None or len(self._base) < equal:
                return None
            rest = rest[:place] + self._base[:equal] + rest[place:]
        if place:
            self._base = rest[place:]
        return rest

    def whole_record(self, data: bytes) -> bytes | None:
        """Return the same record with the whole message in it."""
        place, _ = _HEAD.unpack_from(data)
        message = self.whole(data)
        return None if message is None else _HEAD.pack(place, 0) + message


def frames_in(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the frames of a server: opcode and payload."""
    at = 0
    while at + 2 <= len(data):
        opcode, size = data[at] & 15, data[at + 1] & 127
        at += 2
        if size >= 126:
            width = 2 if size == 126 else 8
            size = int.from_bytes(data[at : at + width], "big")
            at += width
        yield opcode, data[at : at + size]
        at += size


def _message_record(at_s: float, direction: str, message: bytes) -> Record:
    try:
        return Record(at_s, direction, "text", message.decode())
    except UnicodeDecodeError:
        return Record(at_s, direction, "binary", message)


def _is_init(record: Record) -> bool:
    return record.direction == "out" and message_of(record.content).get("type") == "init"
