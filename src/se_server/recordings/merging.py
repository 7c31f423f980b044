"""Adds to a recording what an earlier one of the same conversation has and it lacks.

An observer that was restarted, or that of an upgraded server, knows the events of a conversation, and of its messages
only those that came since; one that ran out of memory has given up the oldest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from se_server.recordings.records import message_of

_FROM_EVENTS = ("event", "turn")
"""The kinds of notes that are made of a worker's events, and not of its messages."""


def merged(before: Sequence[str], now: Sequence[str]) -> list[str]:
    """Return the lines of a recording, with the older ones of an earlier recording.

    Args:
        before, now: the lines of both, each with its header.
    """
    former, latest = [[json.loads(line) for line in lines if line.strip()] for lines in (before, now)]
    header = latest[0]["recording"]
    old_header = former[0]["recording"]
    reasons = [*old_header.get("reasons", ()), *header.get("reasons", ())]
    # Two readings of the clocks differ by microseconds. The upgrade request may be in the former header alone.
    fixed = {"reasons": list(dict.fromkeys(reasons)), "began_at_s": old_header["began_at_s"]}
    header = {**old_header, **header, **fixed}
    old_lines = list(zip(former[1:], [line for line in before if line.strip()][1:], strict=True))
    lines = list(zip(latest[1:], [line for line in now if line.strip()][1:], strict=True))
    kept = []
    for of_events in (False, True):
        since_s = min(
            (entry["t_s"] for entry, _ in lines if _is_of_events(entry) is of_events and not _is_beginning(entry)),
            default=float("inf"),
        )
        kept += [line for line in old_lines if _is_of_events(line[0]) is of_events and line[0]["t_s"] < since_s]
    if any(_is_beginning(entry) for entry, _ in kept):
        lines = [line for line in lines if not _is_beginning(line[0])]
    both = sorted([*kept, *lines], key=lambda line: (float(line[0]["t_s"]), _rank(line[0])))
    return [json.dumps({"recording": header}), *(line for _, line in both)]


def _is_of_events(entry: Mapping[str, Any]) -> bool:
    return entry.get("direction") == "note" and entry.get("kind") in _FROM_EVENTS


def _rank(entry: Mapping[str, Any]) -> int:
    """Return the place of a line among those of the same time: messages, events, other notes."""
    return 1 if _is_of_events(entry) else 2 * (entry.get("direction") == "note")


def _is_beginning(entry: Mapping[str, Any]) -> bool:
    """Whether a line begins a conversation: it is in each recording, also where its message is not known any more."""
    if entry.get("direction") != "out":
        return False
    return entry.get("kind") == "open" or message_of(entry.get("text")).get("type") == "init"
