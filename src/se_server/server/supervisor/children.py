"""Worker processes: making one, and what the supervisor knows of each."""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NoReturn, Protocol

from se_server.server.shared.control import ControlChannel, Failed
from se_server.server.shared.liveness import Silence
from se_server.server.shared.scoreboard import Slot, State
from se_server.server.shared.signals import WATCHED, settle_worker_signals
from se_server.server.supervisor.generation import Generation
from se_server.server.supervisor.recycle import Wear
from se_server.server.worker.worker import EXIT_BUG

logger = logging.getLogger("se_server.server.children")

STACKS_SIGNAL = signal.SIGQUIT
"""Makes a worker write its threads' stacks to stderr, by C code that needs no GIL."""


class Closable(Protocol):
    """Something with a descriptor to close."""

    def close(self) -> None: ...


@dataclass(eq=False)
class WorkerRecord:
    """What the supervisor knows of a worker process.

    Attributes:
        place: which of its generation's workers it is.
        reaped: whether its end was collected.
        told: whether the supervisor has told it to end: nobody takes its place.
        kill_at: when it is killed if it has not ended; None as long as it may live.
        killed_for: why it was killed by us; empty if it was not.
        stacks_by: when it is asked for its stacks by signal, since the guard has not answered.
        report_at: when it is reported that it still has not started.
    """

    place: int
    pid: int
    channel: ControlChannel
    slot: Slot
    generation: Generation
    started_at: float
    silence: Silence
    report_at: float
    state: State = State.STARTING
    failure: Failed | None = None
    reaped: bool = False
    told: bool = False
    kill_at: float | None = None
    killed_for: str = ""
    stacks_by: float | None = None
    wear: Wear = field(init=False)

    def __post_init__(self) -> None:
        self.wear = Wear(self.slot, self.started_at)

    def __str__(self) -> str:
        return f"worker {self.place} (pid {self.pid})"

    @property
    def serves(self) -> bool:
        """Whether it takes new conversations, or soon will."""
        return not self.told and self.state in (State.STARTING, State.READY)


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
    flush_streams()
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
        settle_worker_signals()
        faulthandler.register(STACKS_SIGNAL, 2, all_threads=True)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)
        for item in inherited:
            item.close()
        code = run(channel)
    except BaseException:
        logger.critical("the worker fails, and this is a bug of se-server", exc_info=True)
    finally:
        flush_streams()
        os._exit(code)


def flush_streams() -> None:
    """Write out what is buffered: a fork would double it and os._exit would lose it."""
    for stream in (sys.stdout, sys.stderr):
        if stream is None:  # the process was started with a closed descriptor
            continue
        try:
            stream.flush()
        except (OSError, ValueError):  # its reader is gone, or it is closed: nobody is left to tell
            continue
