"""The form of the log on a terminal: for a person who watches a server, mostly their own."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping

from se_server.observe.formats import LineFormatter, is_own, message_of
from se_server.spelling import counted
from se_server.telemetry._printable import printable, text_of

# Of the 16 colours that each theme, light or dark, defines for itself.
_STYLES = {logging.DEBUG: "2", logging.WARNING: "1;33", logging.ERROR: "1;31", logging.CRITICAL: "1;31"}
_SHORT = {"WARNING": "WARN", "CRITICAL": "FATAL"}
_DIM = "2"


class TerminalFormatter(LineFormatter):
    """Formats `time LEVEL message`; an event of se-server is one line of some 120 columns.

    The time is local, and without its date today. Records of se-server have neither logger nor process id; those of
    other loggers have their logger. The end of a conversation is a sentence. All of it is in the log of a pipe or file.

    Args:
        limit_bytes: split records into lines of at most this size; None for no limit.
        colours: whether levels have colours; None asks the environment.
    """

    def __init__(self, *, limit_bytes: int | None = None, colours: bool | None = None) -> None:
        super().__init__(multiline=True, limit_bytes=limit_bytes)
        self._colours = wants_colours(os.environ) if colours is None else colours

    def _message(self, record: logging.LogRecord) -> str:
        sentence = _SENTENCES.get(str(record.__dict__.get("event"))) if is_own(record.name) else None
        fields = record.__dict__.get("fields")
        if sentence is None or not isinstance(fields, Mapping):
            return message_of(record)
        try:
            return sentence(fields)
        except (KeyError, TypeError, ValueError):  # a record made by hand
            return message_of(record)

    def _head(self, record: logging.LogRecord) -> str:
        level = f"{_SHORT.get(record.levelname, record.levelname):<5}"
        source = "" if is_own(record.name) else f" {text_of(record.name)}:"
        return f"{self._painted(_time_of(record.created), _DIM)} {self._painted(level, _style_of(record))}{source} "

    def _painted(self, text: str, style: str) -> str:
        return f"\x1b[{style}m{text}\x1b[0m" if self._colours and style else text


def wants_colours(environ: Mapping[str, str]) -> bool:
    """Return whether a terminal should be written to in colours (no-color.org)."""
    return environ.get("TERM", "dumb") != "dumb" and not environ.get("NO_COLOR")


def _style_of(record: logging.LogRecord) -> str:
    return next((_STYLES[level] for level in sorted(_STYLES, reverse=True) if level <= record.levelno != 20), "")


def _time_of(seconds: float) -> str:
    """Return the local time with milliseconds, and with its date if that is not today's."""
    then = time.localtime(seconds)
    form = "%H:%M:%S" if then[:3] == time.localtime()[:3] else "%Y-%m-%d %H:%M:%S"
    return f"{time.strftime(form, then)}.{int(seconds % 1 * 1000):03d}"


def _conversation_ended(fields: Mapping[str, object]) -> str:
    name = fields["conversation_id"]
    turns, interruptions = fields["turns"], fields["interruptions"]
    parts = [f"{counted(turns, 'turn')} in {_shown_s(fields['duration_s'])}"]  # type: ignore[arg-type]
    if interruptions:
        parts.append(f"{interruptions} interrupted")
    if fields["first_chunk_p50_s"] is not None:
        parts.append(f"first text {_shown_s(fields['first_chunk_p50_s'])}")
    code = "" if fields["code"] is None else f" ({fields['code']})"
    parts.append(f"{fields['reason'] or 'ended'}{code}")
    return f"{'a conversation without init' if name is None else printable(str(name))}: {', '.join(parts)}"


def _started(fields: Mapping[str, object]) -> str:
    socket = fields["control_socket"]
    return f"started {fields['app']}, control socket {'off' if socket is None else socket}"


def _shown_s(seconds: object) -> str:
    value = float(str(seconds))
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s" if value < 10 else f"{value:.0f} s"


_SENTENCES: dict[str, Callable[[Mapping[str, object]], str]] = {
    "conversation ended": _conversation_ended,
    "started": _started,
}
