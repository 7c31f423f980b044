"""The log of a process on stderr, as text or JSON: lines that are whole, and written without waiting for a reader."""

from __future__ import annotations

import copy
import logging
import os
import stat
import sys
import warnings
from typing import Any

from se_server.conversation.notes import DEBUG_LOGGER, send_debug_to_log
from se_server.forks import is_worth_a_warning
from se_server.observe.formats import JsonFormatter, LineFormatter, encode, is_own, message_of
from se_server.observe.records import ConversationRecord
from se_server.observe.terminal import TerminalFormatter
from se_server.telemetry._printable import printable, text_of
from se_server.telemetry.guarded import GuardedLogger, reports
from se_server.telemetry.log_writer import LINE_BYTES, LogWriter

__all__ = [
    "LINE_BYTES", "DescriptorHandler", "JsonFormatter", "LineFormatter", "printable", "setup_logging", "write_all",
]  # fmt: skip

_FD_STDERR = 2
# `dictConfig` disables loggers that exist: se-server has imported these modules before the APP could.
OF_PYTHON = ("asyncio", "concurrent.futures", "py.warnings")
# Libraries that log every request or connection at info level would drown the conversations.
NOISY = ("httpx", "httpx2", "httpcore", "httpcore2", "picows")


class DescriptorHandler(logging.Handler):
    """Writes each record in whole lines to a file descriptor, which it does not own, and never waits.

    The record is formatted here, in the context and the thread that made it; see `LogWriter` for the rest.
    """

    def __init__(self, descriptor: int = _FD_STDERR) -> None:
        super().__init__()
        self.writer = LogWriter(descriptor)
        self.writer.describe_loss = self._describe_loss

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record. It raises no exception: a log line must not end a turn."""
        try:
            text = self.format(record)
        except KeyboardInterrupt:
            raise
        except BaseException:  # a formatter of user code
            text = self._format_again(record)
        data = encode([text])[0]
        self.writer.put(*([data] if len(data) <= LINE_BYTES else data.splitlines(keepends=True)))

    def _format_again(self, record: logging.LogRecord) -> str:
        """Return a record as its formatter shows it with another message, or as a line of ours."""
        safe = copy.copy(record)
        safe.msg, safe.args = message_of(record), ()
        try:
            return self.format(safe)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            reason = printable(f"{type(error).__name__}: {text_of(error)}")
            return f"{LineFormatter().format(record)} (its formatter failed with {reason})"

    def flush(self) -> None:
        """Do nothing: user code calls this on the event loop, by `dictConfig`. `flush_logs` is called at the end."""

    def _describe_loss(self, count: int) -> bytes:
        text = f"{count} log lines were lost: they could not be written"
        record = logging.LogRecord("se_server.log", logging.WARNING, "", 0, text, (), None)
        record.__dict__.update(fields={"lost": count})
        return encode([self.format(record)])[0]


class _OwnLogger(GuardedLogger):
    """A logger that `dictConfig` of user code does not disable, which it does with every logger that it does not name.

    Levels and handlers of user code apply to it as to any logger.
    """

    @property
    def disabled(self) -> bool:
        return False

    @disabled.setter
    def disabled(self, value: bool) -> None:
        return


class _OwnRoot(logging.RootLogger):
    """The root logger while our handler is on it: the first handler that user code adds replaces ours."""

    def addHandler(self, hdlr: logging.Handler) -> None:
        ours = [handler for handler in self.handlers if type(handler) is DescriptorHandler]
        super().addHandler(hdlr)
        if type(hdlr) is not DescriptorHandler:
            for handler in ours:
                self.removeHandler(handler)


class UserHandler(DescriptorHandler):
    """Replaces the `StreamHandler` on stderr that `basicConfig` of user code makes: its format, without waiting."""


_plain_basic_config = logging.basicConfig


def _basic_config(**options: Any) -> None:
    """Configure the root logger as `logging.basicConfig` does, which does nothing if it has a handler, such as ours.

    The user's handler replaces ours. If user code gives nothing but a level, a log in JSON keeps its format.
    """
    root = logging.getLogger()
    ours: list[logging.Handler] = [handler for handler in root.handlers if type(handler) is DescriptorHandler]
    if ours and len(ours) == len(root.handlers):
        root.handlers = []
    try:
        _plain_basic_config(**options)
    finally:
        if not root.handlers:
            root.handlers = ours
    for place, handler in enumerate(root.handlers):
        if type(handler) is logging.StreamHandler and handler.stream is sys.stderr is sys.__stderr__:
            own = UserHandler()
            is_json = bool(ours) and isinstance(ours[0].formatter, JsonFormatter)
            own.setFormatter(
                ours[0].formatter if is_json and not {*options} - {"level", "force"} else handler.formatter
            )
            root.handlers[place] = own


def make_formatter(form: str, descriptor: int) -> logging.Formatter:
    """Make the formatter of a log.

    Args:
        form: text or json.
        descriptor: where the lines go: only lines in a file may be of any size.
    """
    try:
        is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
    except OSError:
        is_file = False
    limit_bytes = None if is_file else LINE_BYTES
    if form == "json":
        return JsonFormatter(limit_bytes=limit_bytes)
    return (TerminalFormatter if os.isatty(descriptor) else LineFormatter)(limit_bytes=limit_bytes)


def setup_logging(level: str, form: str = "text", *, descriptor: int = _FD_STDERR) -> None:
    """Send the log records of this process and its forks to a descriptor, and warnings as well.

    Configuration of user code applies on top: `se_server.*` goes on logging, and a handler on the root logger replaces
    the one made here.

    Args:
        level: debug, info, warning or error.
        form: text or json.
        descriptor: the descriptor; stderr by default.
    """
    root = logging.getLogger()
    root.__class__ = _OwnRoot
    handler = _handler_for(root, descriptor)
    handler.setFormatter(make_formatter(form, descriptor))
    reports.form = handler.format
    for other in root.handlers[:]:
        if other is not handler:
            root.removeHandler(other)
            other.close()
    if handler not in root.handlers:
        root.addHandler(handler)
    number = logging.getLevelName(level.upper())
    root.setLevel(number)
    # A level of their own: user code may raise the root logger's.
    for name in ("se_server", "py.warnings"):
        logging.getLogger(name).setLevel(number)
    logging.getLogger(DEBUG_LOGGER).setLevel(logging.DEBUG)
    send_debug_to_log()
    keep_own_loggers()
    for noisy in NOISY:
        logging.getLogger(noisy).setLevel(max(logging.WARNING, number))
    logging.setLogRecordFactory(ConversationRecord)
    logging.basicConfig = _basic_config
    logging.captureWarnings(True)
    logging.getLogger("py.warnings").addFilter(is_worth_a_warning)
    warnings.formatwarning = _format_warning


def _handler_for(root: logging.Logger, descriptor: int) -> DescriptorHandler:
    """Return the handler of an earlier set-up, whose lines may wait, or make one."""
    for handler in root.handlers:
        if type(handler) is DescriptorHandler and handler.writer.fileno() == descriptor:
            return handler
    return DescriptorHandler(descriptor)


def keep_own_loggers() -> None:
    """Keep all loggers of se-server that exist, and `OF_PYTHON`, from being disabled by user code."""
    for name, logger in list(logging.Logger.manager.loggerDict.items()):
        if (is_own(name) or name in OF_PYTHON) and type(logger) in (logging.Logger, GuardedLogger):
            logger.__dict__.pop("disabled", None)
            logger.__class__ = _OwnLogger


def _format_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Return a warning as one line, without its source."""
    text = f"{filename}:{lineno}: {category.__name__}: {text_of(message)}"
    # User code may have ended the capture of warnings, which are written to stderr then.
    return text if warnings.showwarning.__module__ == "logging" else f"{text}\n"


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of `data`; a signal may end a write to a full pipe early.

    Raises:
        OSError: the descriptor cannot be written.
    """
    while data:
        data = data[os.write(descriptor, data) :]
