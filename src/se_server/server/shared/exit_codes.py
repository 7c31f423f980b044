"""Exit codes of the supervisor and of its workers, and the end of a forked process."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from se_server.telemetry.log_writer import flush_logs

EXIT_OK = 0
EXIT_USAGE = 2
"""A wrong option, or no API key: starting again does not help."""
EXIT_BOOT = 3
"""The APP cannot be loaded or started."""
EXIT_BUG = 70
"""An unexpected exception in se-server itself; EX_SOFTWARE of sysexits."""
EXIT_HUNG = 75
"""A worker without a supervisor did not end in time and ended itself."""


def leave(code: int) -> NoReturn:
    """End a forked process at once: threads and tasks of user code may still run."""
    flush_streams()
    flush_logs()
    os._exit(code)


def flush_streams() -> None:
    """Flush stdout and stderr: a fork would duplicate buffered text, and os._exit would lose it."""
    for stream in (sys.stdout, sys.stderr):
        if stream is None:  # the process was started with a closed descriptor
            continue
        try:
            stream.flush()
        except (OSError, ValueError):  # the reader is gone or the stream is closed, so there is no place for the text
            continue
