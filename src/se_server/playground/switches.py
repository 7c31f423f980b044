"""The switches of the page: every habit of the simulated API, with a name and a form."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from enum import Enum
from typing import Any

from se_server.simulator.habits import (
    CASCADE_TIMEOUT_S,
    FailedAnswers,
    Goodbye,
    Habits,
    Malformed,
    Moment,
    Silence,
    Wording,
    changes,
    plain,
)

_KINDS: Mapping[str, type[Enum]] = {
    "wording": Wording,
    "resend_older": Moment,
    "reset": Moment,
    "failed_answers": FailedAnswers,
    "silence": Silence,
    "goodbye": Goodbye,
    "malformed": Malformed,
}
# A switch: title, one sentence, and its fields, each with the value that switching on sets.
_SWITCHES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("Send it again", "An unanswered transcript comes again under the same id; the API gives up after some tries.",
     {"resend_after_s": CASCADE_TIMEOUT_S, "max_tries": 3}),
    ("Two ids for one pause", "The same words are transcribed again, under a further id.",
     {"extra_ids": 1, "extra_id_after_s": 0.5, "wording": "punctuation"}),
    ("Growing transcript", "Shorter transcripts come before the whole sentence.",
     {"growing_parts": 3, "growing_within_s": 1.0}),
    ("Older id again", "The previous transcript comes again under its own, older id.", {"resend_older": "mid_answer"}),
    ("Lose the answer", "The first answer of a turn is lost on the API's side, and it asks again.",
     {"loses_answer": True, "resend_after_s": CASCADE_TIMEOUT_S}),
    ("Interrupt by itself", "The caller interrupts every answer.",
     {"interrupt_after_chars": 40, "interrupt_after_s": None, "interruption": "Wait a moment."}),
    ("Silence turn", "After an answer the caller says nothing, and a transcript of that comes.",
     {"silence": "dots", "silence_after_s": 1.0}),
    ("Empty counts as failed", "An answer without text, or without a letter, counts as a failed try.",
     {"failed_answers": "empty", "resend_after_s": CASCADE_TIMEOUT_S}),
    ("Nothing after the final", "Text after the first final of a turn is not heard.", {"discards_after_final": True}),
    ("Reset the connection", "The TCP connection is reset, and the conversation continues over a new one.",
     {"reset": "mid_answer", "reconnect": True, "reconnect_after_s": 0.1, "drop_error": ""}),
    ("Drop idle connections", "A connection that carries nothing is dropped.", {"idle_drop_s": 60.0}),
    ("Slow reader", "The API reads no faster than this, in bytes a second.", {"slow_read_bytes_s": 2000}),
    ("Small pieces", "Messages come in WebSocket fragments and in small TCP segments.",
     {"fragment_bytes": 40, "segment_bytes": 64}),
    ("Malformed messages", "Messages that break the protocol come before a transcript.",
     {"malformed": ["no_json", "not_utf8", "bad_entry", "unknown_type"]}),
    ("Goodbye", "The way in which the caller hangs up.", {"goodbye": "last_words"}),
    ("At random", "Each habit shows with this probability; equal seeds give equal conversations.",
     {"chance": 0.3, "seed": 0}),
)  # fmt: skip


def switches() -> list[dict[str, Any]]:
    """Return the switches as the page draws them."""
    polite = Habits()
    return [
        {
            "title": title,
            "about": about,
            "fields": [
                {"name": name, "on": value, "off": plain(getattr(polite, name)), **_form(name, value)}
                for name, value in fields.items()
            ],
        }
        for title, about, fields in _SWITCHES
    ]


def presets() -> dict[str, dict[str, Any]]:
    """Return the habits that differ from a polite API, by the name of a set of habits."""
    return {name: changes(habits) for name, habits in (("live", Habits.live()), ("hostile", Habits.hostile()))}


def habits_of(given: object) -> Habits:
    """Return the habits that the page asks for.

    Raises:
        ValueError: a value is out of its range; the text names it.
    """
    if not isinstance(given, dict):
        raise ValueError("habits are an object")
    known = {row.name for row in dataclasses.fields(Habits)}
    for name in given:
        if name not in known:
            raise ValueError(f"there is no habit {str(name)[:40]!r}")
    try:
        return Habits(**given)
    except TypeError as error:
        raise ValueError(str(error)) from None


def _form(name: str, value: object) -> dict[str, Any]:
    kind = _KINDS.get(name)
    if kind is not None:
        options = [member.value for member in kind]
        return {"form": "several" if name == "malformed" else "choice", "options": options}
    if isinstance(value, bool):
        return {"form": "flag"}
    if isinstance(value, str):
        return {"form": "text"}
    return {"form": "number", "step": 1 if isinstance(getattr(Habits(), name), int) or "bytes" in name else "any"}
