"""Worker processes as the supervisor sees them: making one, and what it knows of each."""

from __future__ import annotations

import enum
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn, Protocol

from se_server.server.control import ControlChannel, Failed
from se_server.server.worker import EXIT_BUG

logger = logging.getLogger(__name__)

WATCHED = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
"""The signals that the supervisor handles."""


class Closable(Protocol):
    """Something with a descriptor to close."""

    def close(self) -> None: ...


class State(enum.Enum):
    """Where a worker is in its life."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"


@dataclass
class WorkerRecord:
    """What the supervisor knows of a worker process.

    Attributes:
        kill_at: when it is killed if it has not ended; None as long as it may live.
    """

    slot: int
    pid: int
    channel: ControlChannel
    started_at: float
    state: State = State.STARTING
    failure: Failed | None = None
    kill_at: float | None = None


def fork_worker(run: Callable[[ControlChannel], int], inherited: Sequence[Closable]) -> tuple[int, ControlChannel]:
    """Fork a worker.

    Args:
        run: what the child does with its end of the control channel; returns its exit code.
        inherited: what the child must not keep open.

    Returns:
        The child's pid and the supervisor's end of its control channel, in the supervisor only.

    Raises:
        OSError: there are too many processes or descriptors, or too little memory.
    """
    ours, theirs = ControlChannel.pair()
    _flush()
    # A signal that comes between the fork and the child's own handlers must act on the child as a child.
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    try:
        pid = os.fork()
        if pid == 0:
            _be_worker(run, theirs, (ours, *inherited))
    except OSError:
        ours.close()
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)
        theirs.close()
    return pid, ours


def _be_worker(
    run: Callable[[ControlChannel], int], channel: ControlChannel, inherited: Sequence[Closable]
) -> NoReturn:
    """Be the child: never return into the supervisor's frames."""
    code = EXIT_BUG
    try:
        signal.set_wakeup_fd(-1)
        # Ctrl-C reaches the whole process group, but stopping is the supervisor's order. Not SIG_IGN: programs that
        # user code starts would inherit it.
        signal.signal(signal.SIGINT, lambda number, frame: None)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)
        for item in inherited:
            item.close()
        code = run(channel)
    except BaseException:
        logger.critical("the worker fails, and this is a bug of se-server", exc_info=True)
    finally:
        _flush()
        os._exit(code)


def _flush() -> None:
    """Write out what is buffered: a fork would double it and os._exit would lose it."""
    for stream in (sys.stdout, sys.stderr):
        if stream is None:  # the process was started with a closed descriptor
            continue
        try:
            stream.flush()
        except (OSError, ValueError):  # its reader is gone, or it is closed: nobody is left to tell
            continue
