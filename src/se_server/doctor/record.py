"""The API's own record of a conversation, and the reason for its end, in words. Sans-IO."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_ADVICE = (
    (
        ("generation failed", "speech engine", "custom llm", "custom_llm", "cascade"),
        "the API got no answer that counts within three tries: look for slow first words, empty answers and outdated"
        " ids with `se-doctor`, and into the server's log for this conversation id",
    ),
    (
        ("silence", "inactivity", "no user input", "turn timeout"),
        "the caller was silent for longer than the engine's silence_end_call_timeout",
    ),
    (("max duration", "maximum duration", "max_duration", "time limit"), "raise conversation.max_duration_seconds"),
    (
        ("client disconnect", "client ended", "client closed", "user ended", "user hung", "hang up", "remote party"),
        "the caller hung up; this is an ordinary end",
    ),
    (
        ("websocket", "upstream", "connect", "1006", "1011", "handshake"),
        "the API could not reach the server, or lost it: check ws_url with `se-doctor --engine`",
    ),
    (("quota", "credits", "limit"), "the account or the engine's call_limits ended it"),
)


@dataclass(frozen=True)
class Spoken:
    """One entry of the transcript: when, who and what."""

    at_s: float | None
    role: str
    text: str
    is_interrupted: bool


@dataclass(frozen=True)
class Record:
    """The record of a conversation, as far as it explains its end.

    Attributes:
        conversation_id: the conversation.
        agent_id: the engine.
        status: the API's word for its state.
        duration_s: its length, in seconds; None if it is not known.
        reason: the API's reason for its end; empty if it gave none.
        error: the API's error, with its code; empty if there was none.
        advice: the meaning of the reason, and what to do.
        warnings: the API's warnings.
        spoken: the transcript.
    """

    conversation_id: str
    agent_id: str
    status: str
    duration_s: float | None
    reason: str
    error: str
    advice: str
    warnings: tuple[str, ...]
    spoken: tuple[Spoken, ...]

    @property
    def last_gap_s(self) -> float | None:
        """The seconds between the user's last words and the end, if nobody answered them; else None."""
        if not self.spoken or self.spoken[-1].role != "user" or self.duration_s is None:
            return None
        at_s = self.spoken[-1].at_s
        return None if at_s is None else max(0.0, self.duration_s - at_s)


def read_record(record: Mapping[str, Any]) -> Record:
    """Read a record as the API returns it. Fields that are missing, or are of another form, are left out."""
    metadata = record.get("metadata")
    metadata = metadata if isinstance(metadata, Mapping) else {}
    failure = metadata.get("error")
    error = ""
    if isinstance(failure, Mapping):
        error = " ".join(str(part) for part in (failure.get("code"), failure.get("reason")) if part not in (None, ""))
    reason = str(metadata.get("termination_reason") or "")
    warnings, entries = metadata.get("warnings"), record.get("transcript")
    return Record(
        conversation_id=str(record.get("conversation_id", "")),
        agent_id=str(record.get("agent_id", "")),
        status=str(record.get("status", "")),
        duration_s=_number(metadata.get("call_duration_secs")),
        reason=reason,
        error=error,
        advice=_advice(f"{error} {reason}"),
        warnings=tuple(map(str, warnings)) if isinstance(warnings, list) else (),
        spoken=tuple(_spoken(entry) for entry in entries if isinstance(entry, Mapping))
        if isinstance(entries, list)
        else (),
    )


def _spoken(entry: Mapping[str, Any]) -> Spoken:
    return Spoken(
        at_s=_number(entry.get("time_in_call_secs")),
        role=str(entry.get("role", "")),
        text=str(entry.get("message") or ""),
        is_interrupted=entry.get("interrupted") is True,
    )


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _advice(text: str) -> str:
    text = text.lower()
    return next((advice for words, advice in _ADVICE if any(word in text for word in words)), "")
