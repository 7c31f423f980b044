"""The forms of log lines, text and JSON. A formatter raises no exception, whatever a record consists of."""

from __future__ import annotations

import logging
import math
import time
import traceback
from collections.abc import Iterable, Mapping

import orjson

from se_server.observe.records import CONVERSATION_ID, EVENT_ID
from se_server.telemetry._printable import printable, text_of
from se_server.telemetry.fields import Fields

MAX_CHARACTERS = 256 * 1024
"""Of a message or an exception; the middle of a longer one is left out."""
MAX_LINE_CHARACTERS, MAX_OWN_CHARACTERS = 1024, 16 * 1024
"""Of an exception that se-server logs, and of each of its lines: user code puts what callers said into its texts."""
MAX_DEPTH = 4
"""Containers in `extra` that are nested deeper are shown as text."""
MAX_ITEMS = 64
"""Items of a container in `extra`."""
_LEAST_TEXT = 64  # characters: stop splitting a line whose frame alone is too long

_OWN = "se_server"
_KEYS = ("time", "level", "pid", "logger", "message", "exception")
_STANDARD = frozenset([*logging.LogRecord("", 0, "", 0, "", (), None).__dict__, "message", "asctime", "taskName"])


def is_own(name: object) -> bool:
    """Return whether a logger is one of se-server's."""
    return isinstance(name, str) and (name == _OWN or name.startswith(_OWN + "."))


class LineFormatter(logging.Formatter):
    """Formats `time LEVEL [pid] logger: message name=value`.

    Args:
        multiline: keep the lines of tracebacks and of the agent's messages, for people at a terminal; otherwise a
            record is one line.
        limit_bytes: split records into lines of at most this size; None for no limit.
    """

    def __init__(self, *, multiline: bool = False, limit_bytes: int | None = None) -> None:
        super().__init__()
        self._multiline = multiline
        self._limit_bytes = limit_bytes

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as text, in one or more lines, without a final line feed."""
        is_multiline = self._multiline and not is_own(record.name)
        text = printable(self._message(record), keep_lines=is_multiline)
        if is_multiline:  # indented, so that no text can pass for a record
            text = text.replace("\n", "\n    ")
        fields = _fields_of(record)
        if not is_own(record.name):
            ids = _ids_of(record)
            if ids.get(CONVERSATION_ID) is not None:
                fields = {**ids, **fields}
            if fields:
                text = f"{text} {printable(str(Fields({name: _flat(value) for name, value in fields.items()})))}"
        details = _exception_of(record)
        if details and self._multiline:
            return "\n".join([*self._lines(record, text), printable(details, keep_lines=True)])
        return "\n".join(self._lines(record, f"{text} | {printable(details)}" if details else text))

    def _message(self, record: logging.LogRecord) -> str:
        return message_of(record)

    def _head(self, record: logging.LogRecord) -> str:
        """Return the beginning of the line, with the blank before the message."""
        return f"{_stamp(record)} {record.levelname} [{record.process}] {text_of(record.name)}: "

    def _lines(self, record: logging.LogRecord, text: str) -> list[str]:
        line = self._head(record) + text
        if _fits(line, self._limit_bytes) or len(text) < _LEAST_TEXT:
            return [line]
        middle = len(text) // 2
        return self._lines(record, text[:middle]) + self._lines(record, text[middle:])


class JsonFormatter(logging.Formatter):
    """Formats a JSON object: time, level, pid, logger, message, exception, and the record's named values.

    Args:
        limit_bytes: split records into objects of at most this size; None for no limit.
    """

    def __init__(self, *, limit_bytes: int | None = None) -> None:
        super().__init__()
        self._limit_bytes = limit_bytes

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one or more lines of JSON, without a final line feed."""
        event = record.__dict__.get("event")
        # The fields of our own records have the details of their event.
        is_event = is_own(record.name) and isinstance(event, str)
        # Records of se-server hold text of peers, which stays one line wherever the value is shown later.
        keep_lines = not is_own(record.name)
        message = printable(event if is_event and isinstance(event, str) else message_of(record), keep_lines=keep_lines)
        fields = {
            name: json_value(value, keep_lines=keep_lines)
            for name, value in {**_ids_of(record), **_fields_of(record)}.items()
        }
        named = {(name + "_" if name in _KEYS else printable(name)): value for name, value in fields.items()}
        exception = printable(_exception_of(record), keep_lines=True)
        return "\n".join(self._lines(record, message, exception, self._bounded(named)))

    def _bounded(self, named: dict[str, object]) -> dict[str, object]:
        """Shorten values that would leave no room for the message."""
        if self._limit_bytes is None or len(_dump(named)) <= self._limit_bytes // 2:
            return named
        room = max(_LEAST_TEXT, self._limit_bytes // (4 * len(named)))
        short: dict[str, object] = {
            name: value if value is None or isinstance(value, bool | int | float) else text_of(value)[:room]
            for name, value in named.items()
        }
        return short if len(_dump(short)) <= self._limit_bytes // 2 else {}

    def _lines(self, record: logging.LogRecord, message: str, exception: str, named: Mapping[str, object]) -> list[str]:
        body = {
            "time": _stamp(record),
            "level": record.levelname.lower(),
            "pid": record.process,
            "logger": record.name,
            "message": message,
            **({"exception": exception} if exception else {}),
            **named,
        }
        line = _dump(body)
        longest = max(len(message), len(exception))
        if _fits(line, self._limit_bytes):
            return [line]
        if longest < _LEAST_TEXT:
            return [line] if not named else self._lines(record, message, exception, {})
        if len(exception) >= len(message):
            middle = exception.find("\n", len(exception) // 2) + 1 or len(exception) // 2
            middle = middle if middle < len(exception) else len(exception) // 2
            halves = [(message, exception[:middle]), (message, exception[middle:])]
        else:
            middle = len(message) // 2
            halves = [(message[:middle], ""), (message[middle:], exception)]
        return [line for half in halves for line in self._lines(record, *half, named)]


def message_of(record: logging.LogRecord) -> str:
    """Return the message of a record; one whose arguments do not fit is shown with its arguments."""
    try:
        text = record.getMessage()
        return _shortened((text if type(text) is str else text_of(text)).rstrip("\n"))
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        args = ", ".join(f"{name}{text_of(value, as_repr=True)}" for name, value in _named_args(record.args))
        return _shortened(
            f"{text_of(record.msg)} (with the arguments {args}: {type(error).__name__}: {text_of(error)})"
        )


def _named_args(args: object) -> list[tuple[str, object]]:
    if isinstance(args, tuple):
        return [("", value) for value in args]
    return [(f"{text_of(name)}=", value) for name, value in args.items()] if isinstance(args, dict) else [("", args)]


def _shortened(text: str, most: int = MAX_CHARACTERS) -> str:
    if len(text) <= most:
        return text
    half = most // 2
    return f"{text[:half]} [... {len(text) - 2 * half} characters ...] {text[-half:]}"


def _exception_of(record: logging.LogRecord) -> str:
    """Return the traceback and the stack of a record, in lines."""
    parts = []
    if record.exc_info and record.exc_info[1] is not None:
        parts.append(traceback_of(record.exc_info[1]))
    elif record.exc_text:
        parts.append(text_of(record.exc_text))
    if record.stack_info:
        parts.append(text_of(record.stack_info))
    text = "\n".join(parts)
    if not is_own(record.name):
        return _shortened(text)
    return _shortened("\n".join(_shortened(line, MAX_LINE_CHARACTERS) for line in text.split("\n")), MAX_OWN_CHARACTERS)


def traceback_of(error: BaseException) -> str:
    """Return the traceback of an exception, whose own code may fail."""
    try:
        return "".join(traceback.format_exception(type(error), error, error.__traceback__)).rstrip("\n")
    except KeyboardInterrupt:
        raise
    except BaseException:
        return f"{type(error).__name__}: {text_of(error)}"


def _ids_of(record: logging.LogRecord) -> dict[str, object]:
    known = record.__dict__
    ids = {name: known.get(name) for name in (CONVERSATION_ID, EVENT_ID)}
    return {name: value for name, value in ids.items() if value is not None}


def _fields_of(record: logging.LogRecord) -> dict[str, object]:
    """Return the named values: the fields of our own records, and the `extra` of others."""
    if is_own(record.name):
        fields = record.__dict__.get("fields")
        return {text_of(name): value for name, value in fields.items()} if isinstance(fields, Mapping) else {}
    return {
        name if type(name) is str else text_of(name): value
        for name, value in list(record.__dict__.items())
        if name not in _STANDARD and name != CONVERSATION_ID and name != EVENT_ID
    }


def _flat(value: object) -> object:
    """Return a value for a line of text."""
    return value if value is None or isinstance(value, bool | int | float) else _shortened(text_of(value))


def json_value(value: object, depth: int = 0, *, keep_lines: bool = False) -> object:
    """Return a value that JSON has, with texts escaped; anything else becomes text.

    Args:
        value: any value.
        depth: the containers around it.
        keep_lines: whether line feeds in texts stay.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value) if -(1 << 63) <= value < 1 << 64 else text_of(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else text_of(value)
    if depth < MAX_DEPTH:
        if isinstance(value, dict):
            pairs = list(value.items())[:MAX_ITEMS]
            return {
                printable(text_of(name)): json_value(item, depth + 1, keep_lines=keep_lines) for name, item in pairs
            }
        if isinstance(value, list | tuple):
            return [json_value(item, depth + 1, keep_lines=keep_lines) for item in value[:MAX_ITEMS]]
    return printable(_shortened(text_of(value)), keep_lines=keep_lines)


def _dump(body: Mapping[str, object]) -> str:
    try:
        return orjson.dumps(body).decode("utf-8")
    except TypeError:  # a record made by hand: its name, level or process may be anything
        return orjson.dumps({name: json_value(value) for name, value in body.items()}).decode("utf-8")


def _fits(line: str, limit_bytes: int | None) -> bool:
    return limit_bytes is None or len(line.encode("utf-8", "backslashreplace")) < limit_bytes


def _stamp(record: logging.LogRecord) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{seconds}.{int(record.msecs):03d}Z"


def encode(lines: Iterable[str]) -> list[bytes]:
    """Return lines as the bytes to be written, each with its line feed."""
    return [(line + "\n").encode("utf-8", "backslashreplace") for line in lines]
