"""The end of a worker: Python's exit hooks run in a limited time, and child processes do not outlive the worker.

A worker is forked, so it leaves by `os._exit`, which runs no hook. This module runs them in Python's order: threads are
joined (executors end here), then `atexit` functions are called (telemetry exporters, multiprocessing).
"""

from __future__ import annotations

import atexit
import ctypes
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

from se_server.conversation.blocking import where
from se_server.forks import call_in_children, was_main_thread
from se_server.server.shared.procfs import children_of
from se_server.server.worker.stacks import chain, thread_line

logger = logging.getLogger("se_server.server.worker")

TERMINATE_S = 1.0  # for children to end after SIGTERM; then they are killed
MAX_REPORTED = 20
_PR_SET_PDEATHSIG = 1
# They end by themselves when their last user does.
_HELPERS = ("multiprocessing.resource_tracker", "multiprocessing.forkserver", "multiprocessing.semaphore_tracker")


def end_children_with_worker() -> None:
    """Make forked processes of multiprocessing and executors end even if this worker is killed (Linux)."""
    if sys.platform != "linux":
        return
    prctl = _prctl()
    worker = os.getpid()

    def follow() -> None:
        # The system sends the signal when the thread that has forked ends. The main thread lives as long as the worker.
        if was_main_thread() and _is_of_multiprocessing():
            prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))
            if os.getppid() != worker:
                os._exit(0)

    call_in_children(follow)


def end_with_parent() -> None:
    """Kill this process when its parent ends (Linux)."""
    if sys.platform == "linux":
        _prctl()(_PR_SET_PDEATHSIG, int(signal.SIGKILL))


def _prctl() -> Callable[..., int]:
    found: Callable[..., int] = ctypes.CDLL(None, use_errno=True).prctl
    return found


def _is_of_multiprocessing() -> bool:
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_globals.get("__name__") == "multiprocessing.popen_fork":
            return True
        frame = frame.f_back
    return False


def run_exit_hooks(timeout_s: float, leave: Callable[[], object]) -> None:
    """Run the exit hooks of the interpreter, and end or report the child processes that remain.

    Args:
        timeout_s: how long the hooks may take; with 0 they do not run.
        leave: ends the process; called from another thread if a hook takes longer.
    """
    turn = threading.Lock()
    done = threading.Event()
    main = threading.get_ident()

    def limit() -> None:
        if done.wait(timeout_s) or not turn.acquire(blocking=False):
            return
        _report_hung(main, timeout_s)
        _end_children()
        leave()

    if timeout_s > 0:
        try:
            threading.Thread(target=limit, name="se-server-exit", daemon=True).start()
            _run_hooks()
        except RuntimeError:
            logger.exception("no thread can be started to limit the exit hooks: they do not run")
    done.set()
    if not turn.acquire(blocking=False):
        threading.Event().wait()  # the time was up just now: the other thread ends the process
    _end_children()


def _run_hooks() -> None:
    shutdown = getattr(threading, "_shutdown", None)
    for hook in (shutdown, getattr(atexit, "_run_exitfuncs", None)):
        try:
            if hook is not None:
                hook()
        except BaseException:
            logger.exception("an exit hook failed")


def _report_hung(main: int, timeout_s: float) -> None:
    stack: list[FrameType] = []
    frame = sys._current_frames().get(main)
    while frame is not None and frame.f_code is not _run_hooks.__code__:
        stack.append(frame)
        frame = frame.f_back
    hook = where(stack[-1]) if stack else "a function of C code"
    logger.error(
        "the exit hook %s has not ended after %g s (--exit-timeout-s): the worker ends without it; it stands at %s",
        hook,
        timeout_s,
        chain(stack) if stack else "an unknown place",
    )
    for thread in threading.enumerate():
        if not thread.daemon and thread.ident != main:
            logger.error("%s", thread_line(thread))


def _end_children() -> None:
    """End the processes of multiprocessing and executors, and report the others, which user code has detached."""
    processes = sys.modules.get("multiprocessing.process")
    children = processes.active_children() if processes is not None else []
    for child in children:
        logger.warning("process %s (pid %s) has outlived its worker: ended", child.name, child.pid)
        child.terminate()
    deadline = time.monotonic() + TERMINATE_S
    for child in children:
        child.join(max(0.0, deadline - time.monotonic()))
        if child.is_alive():
            child.kill()
    ended = {child.pid for child in children}
    left = [
        f"{pid} ({command[:200]})"
        for pid, command in children_of(os.getpid())
        if pid not in ended and not any(helper in command for helper in _HELPERS)
    ]
    if left:
        more = f", and {len(left) - MAX_REPORTED} more" if len(left) > MAX_REPORTED else ""
        logger.warning("processes outlive the worker that has started them: %s%s", ", ".join(left[:MAX_REPORTED]), more)
