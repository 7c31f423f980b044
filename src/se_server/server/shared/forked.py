"""The last function of a forked process: it runs its main function, and never returns into its parent's frames."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import NoReturn

from se_server.forks import end_child
from se_server.server.shared.exit_codes import EXIT_BUG, leave
from se_server.telemetry.log_writer import allow_threads

logger = logging.getLogger("se_server.server.children")


def run_and_leave(main: Callable[[], int], role: str, *, with_threads: bool = True) -> NoReturn:
    """Run the main function of a forked process, and end the process.

    Args:
        main: returns the exit code.
        role: names the process in the log.
        with_threads: whether its log may be written by a thread; not in a process that forks.
    """
    code = EXIT_BUG
    pid = os.getpid()
    try:
        allow_threads(with_threads)
        code = main()
    except BaseException as error:
        if os.getpid() != pid:  # a child of user code has come back to here
            end_child(error)
        logger.critical("the %s fails, and this is a bug of se-server", role, exc_info=True)
    finally:
        leave(code)
