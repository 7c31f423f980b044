"""Fork the server's own processes, each with a control channel to the supervisor."""

from __future__ import annotations

import faulthandler
import os
import signal
from collections.abc import Callable, Sequence
from functools import partial
from typing import NoReturn, Protocol

from se_server.forks import call_in_children, own_fork
from se_server.server.shared.control import ControlChannel
from se_server.server.shared.exit_codes import flush_streams
from se_server.server.shared.forked import run_and_leave
from se_server.server.shared.signals import WATCHED, settle_worker_signals
from se_server.telemetry.printing import unstall_prints

STACKS_SIGNAL = signal.SIGQUIT
"""Makes a worker write the stacks of its threads to stderr, from C code that does not need the GIL."""


class Closable(Protocol):
    """Owns a descriptor that can be closed."""

    def close(self) -> None: ...


def fork_process(
    main: Callable[[ControlChannel], int],
    not_inherited: Sequence[Closable],
    role: str = "worker",
    *,
    with_threads: bool = True,
) -> tuple[int, ControlChannel]:
    """Fork a child process that has a control channel.

    Args:
        main: runs in the child with its end of the channel; returns the exit code.
        not_inherited: closed in the child before `main` runs.
        role: names the process in the log.
        with_threads: whether its log may be written by a thread; not in a process that forks.

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
            _run_child(main, theirs, (ours, *not_inherited), role, with_threads)
    except OSError:
        ours.close()
        raise
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)
        theirs.close()
    return pid, ours


def _run_child(
    main: Callable[[ControlChannel], int],
    channel: ControlChannel,
    not_inherited: Sequence[Closable],
    role: str,
    with_threads: bool,
) -> NoReturn:
    """Run the child and exit, without returning into the frames of the supervisor."""

    def run() -> int:
        settle_worker_signals()
        faulthandler.register(STACKS_SIGNAL, 2, all_threads=True)
        call_in_children(partial(faulthandler.unregister, STACKS_SIGNAL))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)
        for item in not_inherited:
            item.close()
        unstall_prints()
        return main(channel)

    run_and_leave(run, role, with_threads=with_threads)
