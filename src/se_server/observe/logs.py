"""Logs on stderr, as text or JSON: one line and one write a record."""

from __future__ import annotations

import logging
import os
import re
import select
import time
import traceback
from collections.abc import Mapping

import orjson

_FD_STDERR = 2
# A pipe takes larger writes in several pieces (POSIX guarantees 512 bytes, Linux 4096), which would mix with the lines
# of other workers.
LINE_BYTES = getattr(select, "PIPE_BUF", 512)
_LEAST_TEXT = 64  # characters: stop splitting a line whose frame alone is too long

_UNPRINTABLE = re.compile(r"[^\t -~\xa0-\U0010ffff]|[\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """Escape control characters, line ends and surrogates: messages may contain text of a peer."""
    return text if text.isprintable() else _UNPRINTABLE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")


class LineFormatter(logging.Formatter):
    """Formats `time LEVEL [pid] logger: message`.

    Args:
        multiline: put a traceback on its own lines, for people at a terminal; otherwise it follows on the same line.
        limit_bytes: split records into lines of at most this size; None for no limit.
    """

    def __init__(self, *, multiline: bool = False, limit_bytes: int | None = None) -> None:
        super().__init__()
        self._multiline = multiline
        self._limit_bytes = limit_bytes

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as text, in one or more lines, without a final line feed."""
        details = _details_of(record)
        text = printable(self._message_of(record))
        if details and self._multiline:
            return self._line(record, text) + "\n" + details
        if details:
            text = self._with_details(text, printable(details))
        return "\n".join(self._lines(record, text))

    def _lines(self, record: logging.LogRecord, text: str) -> list[str]:
        line = self._line(record, text)
        size = len(line.encode("utf-8", "backslashreplace"))
        if self._limit_bytes is None or size < self._limit_bytes or len(text) < _LEAST_TEXT:
            return [line]
        middle = len(text) // 2
        return self._lines(record, text[:middle]) + self._lines(record, text[middle:])

    def _message_of(self, record: logging.LogRecord) -> str:
        return record.getMessage().rstrip("\n")

    def _with_details(self, text: str, details: str) -> str:
        return f"{text} | {details}"

    def _line(self, record: logging.LogRecord, text: str) -> str:
        return f"{_stamp(record)} {record.levelname} [{record.process}] {record.name}: {text}"


class JsonFormatter(LineFormatter):
    """Formats a JSON object: time, level, pid, logger, message, and the record's named fields.

    Args:
        limit_bytes: as for `LineFormatter`.
    """

    def __init__(self, *, limit_bytes: int | None = None) -> None:
        super().__init__(limit_bytes=limit_bytes)

    def _message_of(self, record: logging.LogRecord) -> str:
        event = getattr(record, "event", None)  # the name of the event, for records whose fields have the details
        return event if isinstance(event, str) else super()._message_of(record)

    def _line(self, record: logging.LogRecord, text: str) -> str:
        fields = getattr(record, "fields", None)
        body = {
            "time": _stamp(record),
            "level": record.levelname.lower(),
            "pid": record.process,
            "logger": record.name,
            "message": text,
            **({str(name): _value(value) for name, value in fields.items()} if isinstance(fields, Mapping) else {}),
        }
        return orjson.dumps(body).decode("utf-8")


def _value(value: object) -> object:
    return value if value is None or isinstance(value, bool | int | float) else printable(str(value))


def _stamp(record: logging.LogRecord) -> str:
    seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{seconds}.{int(record.msecs):03d}Z"


def _details_of(record: logging.LogRecord) -> str:
    details = ""
    if record.exc_info and record.exc_info[1] is not None:
        details = "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
    if record.stack_info:
        details += "\n" + record.stack_info
    return details


class DescriptorHandler(logging.Handler):
    """Writes each line with one system call to a file descriptor, which it does not own."""

    def __init__(self, descriptor: int = _FD_STDERR) -> None:
        super().__init__()
        self._descriptor = descriptor

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record. A record that cannot be written is lost, and an error message would be lost as well."""
        try:
            data = (self.format(record) + "\n").encode("utf-8", "backslashreplace")
            if len(data) <= LINE_BYTES:
                write_all(self._descriptor, data)
                return
            for line in data.splitlines(keepends=True):
                write_all(self._descriptor, line)
        except OSError:
            return
        except (TypeError, ValueError):  # the arguments do not fit the message: logging reports the line
            self.handleError(record)


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of `data`; a signal may end a write to a full pipe early.

    Raises:
        OSError: the descriptor cannot be written.
    """
    while data:
        data = data[os.write(descriptor, data) :]


def setup_logging(level: str, form: str = "text", *, descriptor: int = _FD_STDERR) -> None:
    """Send the log records of this process and its forks to a descriptor.

    Args:
        level: debug, info, warning or error.
        form: text or json.
        descriptor: the descriptor; stderr by default.
    """
    handler = DescriptorHandler(descriptor)
    if form == "json":
        handler.setFormatter(JsonFormatter(limit_bytes=LINE_BYTES))
    else:
        handler.setFormatter(LineFormatter(multiline=os.isatty(descriptor), limit_bytes=LINE_BYTES))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # Libraries that log every request or connection at info level would drown the conversations.
    for noisy in ("httpx", "httpcore", "picows"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))
