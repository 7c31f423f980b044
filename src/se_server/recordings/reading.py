"""Reads recordings. A damaged one is refused with a sentence that names the line."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from keyword import iskeyword
from pathlib import Path
from typing import Any

from se_server.errors import CallerError
from se_server.recordings.records import MAX_BYTES, TRAFFIC, VERSION, Record, Recorded, ended_turns, message_of

MAX_S = 7 * 86400.0
"""The longest conversation that is read: in virtual time its keep-alives take seconds."""
_MAX_BEGAN_AT_S = 1e11
_TEXTS = ("text", "binary")
_TOKEN = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.ASCII)
"""A header's name; RFC 9110, 5.6.2."""


class _Damaged(Exception):
    """The reason for which a line is refused."""


def load_recorded(path: Path) -> Recorded:
    """Load a recording from a file.

    Raises:
        CallerError: the file cannot be read or is not a recording; the message names the line.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise CallerError(f"{path}: cannot read the recording: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise CallerError(f"{path}: larger than {MAX_BYTES // 1024 // 1024} MiB, the limit of a recording")
    try:
        lines = data.decode("utf-8-sig").split("\n")  # editors may have put a byte order mark there
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise CallerError(f"{path}, line {line}: not UTF-8: {error.reason}") from None
    if not data.strip():
        raise CallerError(f"{path}: the recording is empty")
    return parse(lines, str(path))


def parse(lines: Iterable[str], where: str) -> Recorded:
    """Read a recording.

    Args:
        lines: its lines.
        where: its name, for errors.

    Raises:
        CallerError: a line is not a record, or its content cannot be; the message names the line.
    """
    header: dict[str, Any] = {}
    records: list[Record] = []
    notes: list[dict[str, Any]] = []
    unread: list[int] = []  # lines with messages of the API that are not JSON
    last_s = 0.0
    number = 0
    try:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            entry = _entry(line)
            if "recording" in entry:
                if header or records or notes:
                    raise _Damaged("a second header")
                header = _header(entry["recording"])
                continue
            now_s = _seconds(entry, "t_s", MAX_S)
            if now_s < last_s:
                raise _Damaged(f"its t_s goes back from {last_s:g} to {now_s:g}")
            last_s = now_s
            if entry.get("direction") == "note":
                notes.append(_note(entry))
                continue
            record = _record(entry, now_s)
            records.append(record)
            if record.kind == "text" and not message_of(record.content):
                if header and record.direction == "in":
                    raise _Damaged("its text is not a message of a server, which is a JSON object")
                if record.direction == "out" and not record.why:
                    unread.append(number)
    except _Damaged as damage:
        raise CallerError(f"{where}, line {number}: {damage}") from None
    recorded = Recorded(header, records, notes)
    if unread and _lacks_transcripts(recorded):
        raise CallerError(f"{where}, line {unread[0]}: its text is not a message of the API, which is a JSON object")
    recorded.turns.extend(ended_turns(recorded))
    return recorded


def _entry(line: str) -> dict[str, Any]:
    entry: object = None
    with suppress(ValueError, RecursionError):
        entry = json.loads(line, parse_constant=_no_number)
    if not isinstance(entry, dict):
        raise _Damaged("not a record of a conversation, which is a JSON object")
    return entry


def _no_number(name: str) -> None:
    raise _Damaged(f"{name} is not a number of JSON")


def _lacks_transcripts(recorded: Recorded) -> bool:
    """Whether answers, turns or notes of transcripts belong to no transcript."""
    said, answered = set(), set()
    for record in recorded.records:
        message = message_of(record.content) if record.kind in _TEXTS else {}
        if record.direction == "out" and message.get("type") == "user_transcript":
            said.add(json.dumps(message.get("event_id")))
        elif record.direction == "in" and message.get("type") == "agent_response":
            answered.add(json.dumps(message.get("event_id")))
    for note in recorded.notes:
        if note["kind"] == "turn":
            answered.add(json.dumps(note.get("event_id")))
        elif note.get("name") == "transcript":
            answered.add(json.dumps(note.get("value")))
    return not answered <= said


# --- values -----------------------------------------------------------------------------------------------------------


def _seconds(entry: Mapping[str, Any], name: str, most_s: float) -> float:
    value = _number(entry.get(name))
    if value is None or not 0 <= value <= most_s:
        raise _Damaged(f"its {name} is {_shown(entry.get(name))}: expected seconds from 0 to {most_s:g}")
    return value


def _number(value: object) -> float | None:
    """Return a finite number; None for everything else, also for an integer that is too large for one."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:40] + "…"


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_id(value: object) -> bool:
    return isinstance(value, int | str | float | None)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_headers(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(pair, list) and len(pair) == 2 and all(map(_is_text, pair)) and _TOKEN.fullmatch(pair[0])
        for pair in value
    )


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_first_text(value: object) -> bool:
    number = _number(value)
    return number is not None and 0 <= number <= MAX_S


def _is_wall_time(value: object) -> bool:
    number = _number(value)
    return number is not None and abs(number) < _MAX_BEGAN_AT_S


def _is_options(value: object) -> bool:
    """Whether a value has names that tests may use as keywords."""
    return isinstance(value, dict) and all(name.isidentifier() and not iskeyword(name) for name in value)


_Check = tuple[Callable[[object], bool], str]
_HEADER: Mapping[str, _Check] = {
    "level": (_is_text, "a text"),
    "conversation_id": (_is_text, "a text"),
    "began_at_s": (_is_wall_time, "seconds since 1970"),
    "path": (_is_text, "a text"),
    "query": (_is_text, "a text"),
    "headers": (_is_headers, "a list of pairs: a name and a text"),
    "reasons": (_is_texts, "a list of texts"),
    "cause": (_is_text, "a text"),
    "code": (_is_count, "a number"),
    "app": (_is_text, "a text"),
    "options": (_is_options, "an object of options"),
}
_NOTES: Mapping[str, Mapping[str, _Check]] = {
    "turn": {
        "event_id": (_is_id, "a number"),
        "outcome": (_is_text, "a text"),
        "first_text_s": (_is_first_text, "seconds"),
        "texts": (_is_count, "a number"),
    },
}


def _check(given: Mapping[str, Any], checks: Mapping[str, _Check], what: str = "") -> None:
    for name, (is_right, expected) in checks.items():
        if (value := given.get(name)) is not None and not is_right(value):
            raise _Damaged(f"{what}{name} is {_shown(value)}: expected {expected}")


def _header(given: object) -> dict[str, Any]:
    if not isinstance(given, dict) or not _is_count(given.get("version")):
        raise _Damaged("the header of a recording has a version, a number")
    if given["version"] > VERSION:
        raise _Damaged(
            f"the recording has version {given['version']} of the format, and this se-server reads versions up"
            f" to {VERSION}: update se-server"
        )
    _check(given, _HEADER, "the header's ")
    return given


def _note(entry: dict[str, Any]) -> dict[str, Any]:
    if not _is_text(entry.get("kind")):
        raise _Damaged("a note has a kind")
    _check(entry, _NOTES.get(entry["kind"], {}), "its ")
    if entry["kind"] == "turn" and entry.get("outcome") is None:
        raise _Damaged("a turn has an outcome")
    return entry


def _record(entry: dict[str, Any], now_s: float) -> Record:
    direction, kind, why = entry.get("direction"), entry.get("kind"), entry.get("why", "")
    if direction not in TRAFFIC:
        raise _Damaged(f"its direction is {_shown(direction)}: expected in, out or note")
    if not isinstance(kind, str) or not isinstance(why, str):
        raise _Damaged("not a record of a conversation: its kind is a text")
    content = entry.get("text")
    if "base64" in entry:
        try:
            content = base64.b64decode(entry["base64"], validate=True)
        except (ValueError, TypeError):
            raise _Damaged("its base64 cannot be decoded") from None
    if not isinstance(content, str | bytes) and (kind in _TEXTS or content is not None):
        raise _Damaged("a message has a text, or base64")
    return Record(now_s, str(direction), kind, content, why)
