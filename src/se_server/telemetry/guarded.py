"""Loggers that raise nothing: user code may give logging a record factory, filters and handlers that do.

`logging` lets through what these raise. A line of the log would then end a turn, a conversation, or the worker.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from se_server.telemetry._printable import printable, text_of
from se_server.telemetry.log_writer import LogWriter

INTERVAL_S = 10.0
_FD_STDERR = 2


class GuardedLogger(logging.Logger):
    """A logger whose records are written to stderr if the program's logging fails."""

    def makeRecord(self, *args: Any, **kwargs: Any) -> logging.LogRecord:
        """Return the record of the program's factory, or a plain one if that fails."""
        try:
            return super().makeRecord(*args, **kwargs)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            _report(error, "record factory", None)
            name, level, file, line, message, values, exc_info = args[:7]
            return logging.LogRecord(name, level, file, line, message, values, exc_info)

    def handle(self, record: logging.LogRecord) -> None:
        """Pass the record to the filters and handlers."""
        try:
            super().handle(record)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            _report(error, "filter or handler", record)


def guarded_logger(name: str) -> logging.Logger:
    """Return a logger by its name, which raises nothing from now on."""
    logger = logging.getLogger(name)
    if type(logger) is logging.Logger:  # user code may have a class of its own for loggers
        logger.__class__ = GuardedLogger
    return logger


class Reports:
    """The lines about failures, at most one in `INTERVAL_S` and kind.

    Attributes:
        form: makes the line from its record; replaced by the format of the log.
    """

    def __init__(self) -> None:
        self.form: Callable[[logging.LogRecord], str] = lambda record: f"se-server: {printable(record.getMessage())}"
        self._writer: LogWriter | None = None
        self._next_at: dict[str, float] = {}

    def add(self, kind: str, text: str) -> None:
        """Write a line, unless there was one of its kind just now."""
        now = time.monotonic()
        if now < self._next_at.get(kind, 0.0):
            return
        self._next_at[kind] = now + INTERVAL_S
        if self._writer is None:
            self._writer = LogWriter(_FD_STDERR)
        line = self.form(logging.LogRecord("se_server.log", logging.ERROR, "", 0, "%s", (text,), None))
        self._writer.put((line + "\n").encode("utf-8", "backslashreplace"))


reports = Reports()


def _report(error: BaseException, what: str, record: logging.LogRecord | None) -> None:
    try:
        place = error.__traceback__
        while place is not None and place.tb_next is not None:
            place = place.tb_next
        where = "" if place is None else f" at {place.tb_frame.f_code.co_filename}:{place.tb_lineno}"
        kind = f"a {what} of the program's logging failed with {type(error).__name__}{where}"
        text = f"{kind}: {text_of(error)}"
        if record is not None:
            text += f"; the record was: {record.levelname} {record.name}: {text_of(record.getMessage())}"
        reports.add(kind, text)
    except Exception:
        return
