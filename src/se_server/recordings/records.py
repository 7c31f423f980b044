"""The format of recordings: JSON lines, of which the first may be a header. See docs/recording.md."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

VERSION = 2
"""The version in the header. A file without a header has version 1: the traffic alone."""
MAX_BYTES = 64 * 1024 * 1024
TRAFFIC = ("in", "out")


@dataclass(frozen=True)
class Record:
    """One message, or one event of a connection.

    Attributes:
        t_s: the time since the recording began, in seconds.
        direction: "out" from the API to the server, "in" from the server to the API.
        kind: "text" and "binary" are messages; "open", "close", "drop", "reset", "reconnect", "end", "ping" and "pong"
            are events of connections.
        content: the text or bytes of a message; for an end, its description.
        why: the habit that made the API act; empty without one.
    """

    t_s: float
    direction: str
    kind: str
    content: str | bytes | None = None
    why: str = ""

    def line(self) -> str:
        """Return the record as one JSON object without a line end; bytes are encoded in base64."""
        entry: dict[str, object] = {"t_s": round(self.t_s, 6), "direction": self.direction, "kind": self.kind}
        if isinstance(self.content, bytes):
            entry["base64"] = base64.b64encode(self.content).decode()
        elif self.content is not None:
            entry["text"] = self.content
        if self.why:
            entry["why"] = self.why
        return json.dumps(entry)


@dataclass(frozen=True)
class Turn:
    """One turn, as the server saw it.

    Attributes:
        event_id: the API's id; None without one.
        outcome: `answered`, `interrupted`, `superseded`, `failed`, `timed_out`, `empty`, `closed` or `silent`.
        first_text_s: seconds to the first text; None without text.
        texts: how many texts were sent.
        text: the words of the answer; empty where the recording has no texts.
        said: the user's last words; None where the recording has no texts.
    """

    event_id: int | None
    outcome: str
    first_text_s: float | None
    texts: int
    text: str = ""
    said: str | None = None


@dataclass(frozen=True)
class Recorded:
    """A recorded conversation.

    Attributes:
        header: see docs/recording.md; empty for a file without one.
        records: the traffic.
        notes: everything else, each as the object of its line.
        turns: the turns that had ended.
    """

    header: Mapping[str, Any]
    records: list[Record]
    notes: list[dict[str, Any]] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)

    @property
    def conversation_id(self) -> str | None:
        """The API's id of the conversation."""
        found = self.header.get("conversation_id")
        if found is None:
            for record in self.records:
                message = message_of(record.content)
                if message.get("type") == "init":
                    found = message.get("conversation_id")
        return None if found is None else str(found)

    @property
    def has_texts(self) -> bool:
        """Whether the conversation can be replayed."""
        return any(record.kind in ("text", "binary") for record in self.records)


def message_of(content: str | bytes | None) -> dict[str, Any]:
    """Return the JSON object of a message; an empty one if it is none."""
    try:
        message = json.loads(content or "")
    except (ValueError, RecursionError):
        return {}
    return message if isinstance(message, dict) else {}


def ended_turns(recorded: Recorded) -> Iterable[Turn]:
    """Yield the turns that notes tell of."""
    answers, said = words_of(recorded.records)
    for note in recorded.notes:
        if note.get("kind") == "turn":
            event_id = note.get("event_id")
            yield Turn(
                event_id,
                str(note.get("outcome")),
                note.get("first_text_s"),
                int(note.get("texts") or 0),
                answers.get(event_id, ""),
                said.get(event_id),
            )


def turns_of(recorded: Recorded) -> list[Turn]:
    """Return the turns that a replay can hold again: those whose transcripts are in the recording.

    A recording of a caller has no notes of turns; its messages tell how they ended, as far as a caller hears.
    """
    if recorded.turns:
        return [turn for turn in recorded.turns if turn.said is not None]
    began: dict[object, float] = {}
    found: dict[object, Turn] = {}
    newest: object = None
    for record in recorded.records:
        message = message_of(record.content) if record.kind in ("text", "binary") else {}
        event_id = message.get("event_id")
        if isinstance(event_id, dict | list):
            continue
        if record.direction == "out" and message.get("type") == "user_transcript" and event_id not in began:
            before = found.get(newest)
            if before is not None and before.outcome == "closed":
                found[newest] = replace(before, outcome="interrupted" if before.texts else "superseded")
            began[event_id], newest = record.t_s, event_id
            found[event_id] = Turn(event_id, "closed", None, 0)
        elif record.direction == "in" and event_id in found and message.get("type") == "agent_response":
            turn = found[event_id]
            if message.get("content"):
                first_s = round(record.t_s - began[event_id], 6) if turn.first_text_s is None else turn.first_text_s
                turn = replace(turn, first_text_s=first_s, texts=turn.texts + 1)
            if message.get("is_final") and turn.outcome == "closed":
                turn = replace(turn, outcome="answered" if turn.texts else "empty")
            found[event_id] = turn
    answers, said = words_of(recorded.records)
    return [replace(turn, text=answers.get(place, ""), said=said.get(place)) for place, turn in found.items()]


def words_of(records: Iterable[Record]) -> tuple[dict[object, str], dict[object, str]]:
    """Return the words of the answers, and the user's last words, by event id."""
    answers: dict[object, str] = {}
    said: dict[object, str] = {}
    for record in records:
        message = message_of(record.content) if record.kind in ("text", "binary") else {}
        event_id = message.get("event_id")
        if isinstance(event_id, dict | list):
            continue
        if record.direction == "in" and message.get("type") == "agent_response":
            answers[event_id] = answers.get(event_id, "") + str(message.get("content") or "")
        elif record.direction == "out" and message.get("type") == "user_transcript":
            said[event_id] = ""
            entries = message.get("user_transcript")
            for entry in reversed(entries if isinstance(entries, list) else []):
                if isinstance(entry, dict) and entry.get("role") == "user":
                    said[event_id] = str(entry.get("content"))
                    break
    return answers, said
