"""Names events and streams in messages, by classes and keys alone: what they hold may be private."""

from __future__ import annotations

from typing import Any

from se_server.streams._scan import Unknown


def name_of(value: object) -> str:
    """Return the dotted name of an object's class; of a class its own."""
    kind = value if isinstance(value, type) else type(value)
    module = getattr(kind, "__module__", "builtins")
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


def describe(source: Any, count: int, event_class: type, unknown: Unknown) -> str:
    """Return the message about a stream that gave events and no text, with the way out."""
    event_name = name_of(event_class)
    stream = "the stream" if source is None else f"the stream ({name_of(source)})"
    known = [] if unknown.type is None else [f"type {unknown.type!r}"]
    if unknown.keys:
        known.append("with " + ", ".join(unknown.keys))
    shape = f" ({', '.join(known)})" if known else ""
    if count:
        what = f"{count} unknown event{'s' if count > 1 else ''} and no text; the first is a {event_name}{shape}"
    else:
        what = f"no text but events that repeat it, such as {event_name}{shape}"
    way_out = "send_response(stream, text=lambda event: ...)"
    if "." in event_name:
        way_out += f", or once for all by register_extractor({event_name!r}, function)"
    hint = ""
    if unknown.keys == ("messages",) or (event_name == "dict" and unknown.type is None and len(unknown.keys) == 1):
        hint = "; a LangGraph stream needs stream_mode='messages'"
    return f"{stream} gave {what}: say where the text is by {way_out}{hint}"
