"""Worker processes: forking one, and the supervisor's record of each."""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NoReturn, Protocol

from se_server.forks import call_in_children, end_child, own_fork
from se_server.server.shared.control import ControlChannel, Failed
from se_server.server.shared.exit_codes import EXIT_BUG, flush_streams, leave
from se_server.server.shared.liveness import Silence
from se_server.server.shared.scoreboard import Slot, State
from se_server.server.shared.signals import WATCHED, settle_worker_signals
from se_server.server.supervisor.generation import Generation
from se_server.server.supervisor.recycle import Wear
from se_server.telemetry.log_writer import allow_threads
from se_server.telemetry.printing import unstall_prints

logger = logging.getLogger("se_server.server.children")

STACKS_SIGNAL = signal.SIGQUIT
"""Makes a worker write the stacks of its threads to stderr, from C code that does not need the GIL."""


class Closable(Protocol):
    """Owns a descriptor that can be closed."""

    def close(self) -> None: ...


@dataclass(eq=False)
class WorkerRecord:
    """The supervisor's record of one worker process.

    Attributes:
        place: the worker's number within its generation.
        reaped: whether the exit code was collected.
        drain_ordered: whether the supervisor has ordered this worker to drain.
        kill_at: when the worker is killed if it is still alive, in monotonic seconds; None for never.
        killed_for: why the supervisor has killed it; empty if it has not.
        stacks_by: when `STACKS_SIGNAL` is sent because the worker's watchdog has not written the stacks.
        report_at: when the log next reports that the worker has not started yet.
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
    drain_ordered: bool = False
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
        """Whether the worker takes new conversations, or will once it has started."""
        return not self.drain_ordered and self.state in (State.STARTING, State.READY)


def fork_process(
    main: Callable[[ControlChannel], int], not_inherited: Sequence[Closable], role: str = "worker"
) -> tuple[int, ControlChannel]:
    """Fork a child process that has a control channel.

    Args:
        main: runs in the child with its end of the channel; returns the exit code.
        not_inherited: closed in the child before `main` runs.
        role: names the process in the log.

    Returns:
        The child's pid and the supervisor's end of the control channel; in the child this never returns.

    Raises:
        OSError: there are too many processes or descriptors, or too little memory.
    """
    ours, theirs = ControlChannel.pair()
    flush_streams()
    # A signal between the fork and the child's own handlers must act on the child as a child.
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    try:
        with own_fork():
            pid = os.fork()
        if pid == 0:
            _run_child(main, theirs, (ours, *not_inherited), role)
    except OSError:
        ours.close()
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)
        theirs.close()
    return pid, ours


def _run_child(
    main: Callable[[ControlChannel], int], channel: ControlChannel, not_inherited: Sequence[Closable], role: str
) -> NoReturn:
    """Run the child and exit, without returning into the frames of the supervisor."""
    code = EXIT_BUG
    pid = os.getpid()
    try:
        settle_worker_signals()
        faulthandler.register(STACKS_SIGNAL, 2, all_threads=True)
        call_in_children(partial(faulthandler.unregister, STACKS_SIGNAL))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)
        for item in not_inherited:
            item.close()
        allow_threads(True)
        unstall_prints()
        code = main(channel)
    except BaseException as error:
        if os.getpid() != pid:  # a child of user code has come back to here
            end_child(error)
        logger.critical("the %s fails, and this is a bug of se-server", role, exc_info=True)
    finally:
        leave(code)
