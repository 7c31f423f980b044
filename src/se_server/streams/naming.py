"""Names events and streams in messages, by classes and keys alone: what they hold may be private."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from se_server.streams._scan import Unknown


def name_of(value: object) -> str:
    """Return the dotted name of an object's class; of a class its own."""
    kind = value if isinstance(value, type) else type(value)
    module = getattr(kind, "__module__", "builtins")
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


def describe(source: Any, count: int, event_class: type, unknown: Unknown, is_raw: bool = False) -> str:
    """Return the message about a stream that gave events and no text, with the way out."""
    shape = _shape(event_class, unknown)
    if count:
        what = f"{count} unknown event{'s' if count > 1 else ''} and no text; the first is a {shape}"
    else:
        what = f"no text but events that repeat it, such as {shape}"
    return f"{_stream(source)} gave {what}: {_way_out(event_class, unknown, is_raw)}"


def describe_unspoken(source: Any, count: int, event_class: type, unknown: Unknown, is_raw: bool = False) -> str:
    """Return the message about unknown events in a stream that gave text, too."""
    what = f"{count} unknown event{'s' if count > 1 else ''} beside the text, not spoken"
    way_out = _way_out(event_class, unknown, is_raw)
    return f"{_stream(source)} gave {what}; the first is a {_shape(event_class, unknown)}: {way_out}"


def describe_nodes(source: Any, nodes: Iterable[str], others: Iterable[str]) -> str:
    """Return the message about a stream of which no message was of the nodes asked for."""
    wanted, found = (", ".join(map(repr, sorted(names, key=str))) for names in (nodes, others))
    return f"{_stream(source)} gave no message of the nodes asked for ({wanted}), but messages of {found}: see nodes="


def describe_empty(source: Any, asked: int) -> str:
    """Return the message about a stream that has ended without any text, and without an event that explains it."""
    if asked:
        return f"{_stream(source)} was silent: the text= function returned no text for its {asked} events"
    return f"{_stream(source)} was silent: it gave no text at all; a stream that was read before gives nothing more"


def describe_unshaped(source: Any, is_hiding: bool, is_stream: bool = True) -> str:
    """Return the message about an answer of whose text the shape leaves nothing, or nothing from one place on."""
    answer = _stream(source) if is_stream else "the text"
    if is_hiding:
        return (
            f"{answer} ended behind a block of code or a tag such as <think> that was not closed: what follows it is "
            "not spoken"
        )
    return (
        f"{answer} was silent: its text was nothing but what shape= leaves out, such as code, emoji and "
        "<think>; shape=False speaks it all"
    )


def describe_hedge(count: int, doubt: str) -> str:
    """Return the message about a hedge that nobody won."""
    return f"first_of was silent: none of its {count} streams gave text to speak; of the first, {doubt}"


def _stream(source: Any) -> str:
    return "the stream" if source is None else f"the stream ({name_of(source)})"


def _shape(event_class: type, unknown: Unknown) -> str:
    known = [] if unknown.type is None else [f"type {unknown.type!r}"]
    if unknown.keys:
        known.append("with " + ", ".join(unknown.keys))
    return name_of(event_class) + (f" ({', '.join(known)})" if known else "")


def _way_out(event_class: type, unknown: Unknown, is_raw: bool) -> str:
    if is_raw:
        return "read the body yourself, and pass the texts"
    if issubclass(event_class, BaseException):
        return "raise it to have it reported"
    if hasattr(event_class, "__aiter__") or hasattr(event_class, "__next__"):
        return "pass each stream to a send_response of its own, all but the last with final=False"
    if hasattr(event_class, "__await__"):
        return "await it, and pass what it returns"
    if issubclass(event_class, (int, float, complex)):
        return "give str(value) to have it spoken"
    event_name = name_of(event_class)
    way_out = "say where the text is by send_response(stream, text=lambda event: ...)"
    if "." in event_name:
        way_out += f", or once for all by register_extractor({event_name!r}, function)"
    if unknown.keys == ("messages",) or (event_name == "dict" and unknown.type is None and len(unknown.keys) == 1):
        way_out += "; a LangGraph stream needs stream_mode='messages'"
    return way_out
