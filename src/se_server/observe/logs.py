"""Text logs on stderr: one record, one line, one write, so that the lines of several workers never mix."""

from __future__ import annotations

import logging
import os
import time
import traceback

_FD_STDERR = 2
_ESCAPES = str.maketrans({"\n": "\\n", "\r": "\\r", "\x1b": "\\x1b"})


class LineFormatter(logging.Formatter):
    """Formats `time LEVEL [pid] logger: message`.

    Args:
        multiline: give a traceback lines of its own, for people at a terminal; else it follows on the same line.
    """

    def __init__(self, *, multiline: bool = False) -> None:
        super().__init__()
        self._multiline = multiline

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as text without a line feed at its end."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        # Messages may hold what a peer sent: no line feed of theirs may begin a line that looks like ours.
        message = record.getMessage().rstrip("\n")
        details = ""
        if record.exc_info and record.exc_info[1] is not None:
            details = "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
        if record.stack_info:
            details += "\n" + record.stack_info
        text = message.translate(_ESCAPES)
        if details and self._multiline:
            text += "\n" + details
        elif details:
            text += " | " + details.translate(_ESCAPES)
        stamp = f"{seconds}.{int(record.msecs):03d}Z"
        return f"{stamp} {record.levelname} [{record.process}] {record.name}: {text}"


class DescriptorHandler(logging.Handler):
    """Writes each record with one system call to a file descriptor, which it does not own."""

    def __init__(self, descriptor: int = _FD_STDERR) -> None:
        super().__init__()
        self._descriptor = descriptor

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record; one that cannot be written is lost, and so would be a complaint about it."""
        try:
            os.write(self._descriptor, (self.format(record) + "\n").encode("utf-8", "backslashreplace"))
        except OSError:
            return
        except (TypeError, ValueError):  # arguments that do not fit the message: logging's own complaint names the line
            self.handleError(record)


def setup_logging(level: str, *, descriptor: int = _FD_STDERR) -> None:
    """Send the log records of this process, and of those it forks, to a descriptor.

    Args:
        level: debug, info, warning or error.
        descriptor: where to; stderr by default.
    """
    handler = DescriptorHandler(descriptor)
    handler.setFormatter(LineFormatter(multiline=os.isatty(descriptor)))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # Libraries that log every request or every connection at info would drown the conversations.
    for noisy in ("httpx", "httpcore", "picows"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))
